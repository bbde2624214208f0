/** Files and words that were found by fuzzing to hang, crash or say too much, each by its name. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32, gzipSync } from "node:zlib";
import { applyOverrides } from "../../lib/config/overrides.ts";
import { openPairs } from "../../lib/data/pairs.ts";
import { readRows } from "../../lib/data/read.ts";
import { openStore } from "../../lib/data/store.ts";
import { nearest } from "../../lib/errors.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { createLogger, printable } from "../../lib/report/log.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { loadTokenizer, loadVocabulary } from "../../lib/tokenizer/tokenizer.ts";
import { task } from "../command.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN } from "../golden_run.ts";
import { BASE, mistakes, parsed } from "../run_file.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const DATA = new URL("../golden/data/", import.meta.url).pathname;
const isWindows = Deno.build.os === "windows";

/** A model's folder whose files are those of `golden`, but for `changes`. */
async function modelFolder(
  folder: string,
  changes: Record<string, (json: Record<string, unknown>) => unknown>,
): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
    const text = await readFile(`${GOLDEN}/untied/${name}`, "utf8");
    await writeFile(
      join(folder, name),
      changes[name] ? JSON.stringify(changes[name](JSON.parse(text))) : text,
    );
  }
  return folder;
}

Deno.test("20,000 unknown keys, keys of another mapping and aliases end at once, in a few lines", () => {
  const keys = Array.from({ length: 20_000 }, (_, i) => `k${i}`);
  const many = mistakes(BASE + keys.map((key) => `${key}: 1`).join("\n"));
  assert.equal(many.length, 41);
  assert.equal(many.at(-1), "and 19960 more problems");
  mistakes(`${BASE}prompts: {${keys.join(", ")}}`);
  const aliases = mistakes(`${BASE}a: &a 1\nprompts: [${keys.map(() => "*a").join(", ")}]`);
  assert.match(aliases[0], /run.yaml: not valid YAML: more than 100 aliases/);
  const { problems } = applyOverrides([], [`--prompts=[&a x, ${keys.map(() => "*a").join(", ")}]`]);
  assert.deepEqual(problems, ["--prompts: not valid YAML: more than 100 aliases"]);
});

Deno.test("a key that comes twice is named in every mapping, and on the command line", () => {
  assert.deepEqual(mistakes(`${BASE}dataset_mixture: {datasets: [{id: d, id: e}]}`).slice(0, 1), [
    "run.yaml:3:38: this key is written twice: keep one",
  ]);
  assert.match(
    mistakes(BASE, "--dataset_mixer={a: 1, a: 0.5}")[0],
    /--dataset_mixer: .*a key is written twice/,
  );
});

Deno.test("YAML's tags for sets and binary data are not followed", () => {
  assert.match(mistakes(`${BASE}seed: !!binary aGVsbG8=`)[0], /seed: expected an integer/);
  assert.match(mistakes(`${BASE}prompts: !!set {a, b}`)[0], /prompts: expected a list of texts/);
});

Deno.test("words of a megabyte are cut in messages, and no typo is looked for in them", () => {
  const long = "x".repeat(1e6);
  assert.equal(nearest(long, ["x"]), undefined);
  for (const lines of [mistakes(`${BASE}${long}: 1`), mistakes(BASE, `--${long}=1`), mistakes(BASE, long)]) {
    assert.ok(lines.join("\n").length < 1000, lines.join("\n").slice(0, 300));
  }
  // Two ways to read each digit would be too many.
  assert.match(mistakes(`${BASE}seed: "${"1".repeat(1e5)}.x"`)[0], /seed: expected an integer/);
});

Deno.test("a plan cannot be asked for more steps, pairs and tokens than any run has", () => {
  for (
    const key of [
      "max_length",
      "per_device_train_batch_size",
      "gradient_accumulation_steps",
      "max_steps",
      "num_train_epochs",
    ]
  ) {
    assert.match(
      mistakes(BASE, `--${key}=${2 ** 53 - 1}`)[0],
      new RegExp(`^--${key}: expected an? .* found 9007199254740991$`),
    );
  }
  assert.match(
    mistakes(
      BASE,
      "--per_device_train_batch_size=1024",
      "--gradient_accumulation_steps=1024",
      "--num_gpus=2",
    )[0],
    /expected at most 1048576 pairs a step, found .* = 2097152$/,
  );
  assert.equal(
    parsed("per_device_train_batch_size: 1024\ngradient_accumulation_steps: 1024").config.numGpus,
    1,
  );
});

Deno.test("a run file that is a device, too large or no text is refused", async () => {
  await withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "large.yaml"), `${BASE}# ${"x".repeat(2 ** 18)}`);
    await writeFile(join(folder, "binary.yaml"), Uint8Array.of(0xff, 0xfe, 0x00));
    const cases: [string, RegExp][] = [
      [join(folder, "large.yaml"), /large.yaml: the run file cannot be read: it has more than 262144 bytes/],
      [join(folder, "binary.yaml"), /binary.yaml: the run file cannot be read: .*not valid/],
      ...isWindows
        ? []
        : [["/dev/zero", /zero: the run file cannot be read: it has more than/] as [string, RegExp]],
    ];
    for (const [path, says] of cases) {
      const { status, stderr } = await task("plan", path);
      assert.equal(status, 2, stderr);
      assert.match(stderr, says);
      assert.doesNotMatch(stderr, /\n\s+at /);
    }
  });
});

Deno.test({
  name: "files that are links to a device without an end are refused",
  ignore: isWindows,
  fn: () =>
    withTemporaryFolder(async (folder) => {
      for (const name of ["config.json", "tokenizer.json", "train.jsonl", "model.safetensors.index.json"]) {
        await symlink("/dev/zero", join(folder, name));
      }
      const refusal = { name: "UserError", message: /it is no file|found neither/ };
      await assert.rejects(readModelConfig(folder), refusal);
      await assert.rejects(loadTokenizer(folder), refusal);
      await assert.rejects(openCheckpoint(folder), refusal);
      await assert.rejects(openPairs(await optionsOf(folder, join(folder, "train.jsonl"))), refusal);
      await assert.rejects(openPairs(await optionsOf(folder, folder)), refusal);
      await assert.rejects(openPairs(await optionsOf(folder, "/dev/zero")), refusal);
    }),
});

Deno.test("JSON of a model that is not UTF-8 is refused, not read as something else", () =>
  withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "config.json"), Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d));
    await assert.rejects(readModelConfig(folder), {
      name: "UserError",
      message: /config\.json.*not text in UTF-8/,
    });
  }));

Deno.test("a config.json of ten thousand layers is refused", () =>
  withTemporaryFolder(async (folder) => {
    await modelFolder(folder, { "config.json": (json) => ({ ...json, num_hidden_layers: 10_000 }) });
    await assert.rejects(readModelConfig(folder), {
      name: "UserError",
      message: /num_hidden_layers: expected .* 1024/,
    });
  }));

Deno.test("a deviation of random weights that is no number is refused", () =>
  withTemporaryFolder(async (folder) => {
    const model = await modelFolder(join(folder, "model"), {
      "config.json": (json) => ({ ...json, initializer_range: "wide" }),
    });
    const words = ["--from_scratch", `--model_name_or_path=${model}`, `--output_dir=${join(folder, "out")}`];
    const { status, stderr } = await task(
      "train",
      `${GOLDEN}/run.yaml`,
      "--max_steps=1",
      "--log_level=error",
      ...words,
    );
    assert.equal(status, 1, stderr);
    assert.match(
      stderr,
      /^error: .*config\.json: initializer_range: expected a number from 0 to 1000000, found "wide"/,
    );
  }));

Deno.test("a plan for ten thousand million pairs is refused", async () => {
  const { status, stderr } = await task("plan", `${GOLDEN}/run.yaml`, "--num_pairs=1e10");
  assert.equal(status, 2, stderr);
  assert.match(stderr, /^error: --num_pairs: expected an integer from 1 to 100000000, found "1e10"/);
});

Deno.test("a tokenizer that only fails when text comes names its file", () =>
  withTemporaryFolder(async (folder) => {
    await modelFolder(folder, {
      "tokenizer.json": (json) => ({
        ...json,
        model: { type: "WordLevel", vocab: { a: 0 }, unk_token: "b" },
      }),
    });
    await assert.rejects(
      async () => (await loadTokenizer(folder)).encode("Is it late?"),
      {
        name: "UserError",
        message: /tokenizer\.json: model: "Is" is no token, and unk_token "b" is none either/,
      },
    );
  }));

Deno.test("steps of a tokenizer within steps, thousands deep, are refused where the file is read", () =>
  withTemporaryFolder(async (folder) => {
    const sequences = {
      pre_tokenizer: "pretokenizers",
      normalizer: "normalizers",
      decoder: "decoders",
      post_processor: "processors",
    };
    for (const [name, list] of Object.entries(sequences)) {
      for (const levels of [5000, 200_000]) {
        await modelFolder(folder, { "tokenizer.json": (json) => ({ ...json, [name]: "here" }) });
        const path = join(folder, "tokenizer.json");
        const nested = `{"type":"Sequence","${list}":[`.repeat(levels) + "]}".repeat(levels);
        await writeFile(path, (await readFile(path, "utf8")).replace('"here"', () => nested));
        for (const load of [loadTokenizer, loadVocabulary]) {
          await assert.rejects(load(folder), {
            name: "UserError",
            message: /tokenizer\.json: expected JSON of at most 256 levels, found more/,
          });
        }
      }
    }
  }));

Deno.test("a text of a million spaces, letters or line ends is tokenized in little memory", async () => {
  const { encode } = await loadTokenizer(join(DATA, "tokenizer"));
  for (const text of [" ", "a", "\n", "é", "👍"]) {
    const before = Deno.memoryUsage().rss;
    assert.ok(encode(text.repeat(1e6)).length > 1e5, text);
    assert.ok(Deno.memoryUsage().rss - before < 600e6, text);
  }
});

Deno.test("token ids that are negative or no whole numbers are refused", () =>
  withTemporaryFolder(async (folder) => {
    const real = await loadTokenizer(join(DATA, "tokenizer"));
    for (const id of [-1, 0.5, NaN, 415]) {
      const tokenizer = { ...real, encode: () => [id], fingerprint: String(id) };
      await assert.rejects(openPairs({ ...await optionsOf(folder, join(DATA, "rows.jsonl")), tokenizer }), {
        name: "UserError",
        message: /rows\.jsonl:1: expected token ids below the model's vocab_size of 415, found/,
      });
    }
  }));

async function optionsOf(folder: string, path: string): Promise<Parameters<typeof openPairs>[0]> {
  return {
    mixer: [{ path, share: 1 }],
    split: "train",
    tokenizer: await loadTokenizer(join(DATA, "tokenizer")),
    vocabSize: 415,
    autoInsertEmptySystemMsg: true,
    usesRejected: true,
    maxLength: 128,
    maxPromptLength: 64,
    truncationMode: "keep_end",
    cache: join(folder, "cache"),
  };
}

Deno.test("a cache of pairs whose checksum fits and whose numbers do not is tokenized again", () =>
  withTemporaryFolder(async (folder) => {
    const options = await optionsOf(folder, join(DATA, "rows.jsonl"));
    const whole = await openPairs(options);
    const { files } = whole;
    await whole.close();
    const pairs = join(folder, "cache", "pairs");
    const path = join(pairs, (await readdir(pairs))[0]);
    const bytes = await readFile(path);
    const end = bytes.length - 32;
    const tokenBytes = bytes.readDoubleLE(end + 8);
    const count = bytes.readDoubleLE(end);
    const column = (i: number) => tokenBytes + i * count * 4;
    const damages: Record<string, (damaged: Buffer) => unknown> = {
      "a negative count of pairs": (damaged) => damaged.writeDoubleLE(-1, end),
      "half a pair": (damaged) => damaged.writeDoubleLE(0.5, end),
      "ids of no bytes": (damaged) => damaged.writeUInt32LE(0, end + 16),
      "facts that are no JSON": (damaged) => damaged.write("!", end - 5),
      "a prefix beyond the pair": (damaged) => damaged.writeUInt32LE(2 ** 31, column(0)),
      "a length of four thousand million": (damaged) => damaged.writeUInt32LE(2 ** 32 - 1, column(2)),
      "a truncation of no name": (damaged) => damaged.writeUInt32LE(3, column(7)),
      "a file that is not there": (damaged) => damaged.writeUInt32LE(9, column(8)),
      "a unit of no name": (damaged) => damaged.writeUInt32LE(2, column(9)),
    };
    for (const [name, damage] of Object.entries(damages)) {
      const buffer = Buffer.from(bytes);
      damage(buffer);
      buffer.writeUInt32LE(crc32(buffer.subarray(0, -4)), buffer.length - 4);
      await writeFile(path, buffer);
      assert.equal(await openStore(path, files), "damaged", name);
    }
    const again = await openPairs(options);
    assertEqualBytes(await readFile(path), bytes);
    await again.close();
  }));

Deno.test("control characters of files and servers are written out for a terminal", async () => {
  assert.equal(
    printable("a\u001b]0;evil\u0007\u009b2J\u202e\nb\tc \u{1f642}"),
    "a\\u001b]0;evil\\u0007\\u009b2J\\u202e\nb\tc \u{1f642}",
  );
  const lines: string[] = [];
  createLogger("info", (text) => lines.push(text)).warning("\u001b[31m");
  assert.deepEqual(lines, ["warning: \\u001b[31m\n"]);
  const template = "--chat_template={{ raise_exception('\\u001b[31mred') }}";
  const { status, stderr } = await task("train", `${GOLDEN}/run.yaml`, "--output_dir=/tmp/never", template);
  assert.equal(status, 1);
  assert.match(stderr, /\\u001b\[31mred/);
});

for (const name of ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.json.gz"]) {
  const isList = name.includes("json.") || name.endsWith(".json");
  const refuses = (text: string, says: RegExp) =>
    withTemporaryFolder(async (folder) => {
      const path = join(folder, name);
      const whole = isList ? `[{"a": ${text}}]` : `{"a": ${text}}`;
      await writeFile(path, name.endsWith(".gz") ? gzipSync(whole) : whole);
      await assert.rejects(Array.fromAsync(readRows(path)), (error: Error) => {
        assert.equal(error.name, "UserError", error.stack);
        assert.match(error.message, says);
        return true;
      });
    });
  Deno.test(`rows nested without end are refused before they are read: ${name}`, () =>
    refuses(
      "[".repeat(4_000_000) + "]".repeat(4_000_000),
      /rows\.\S+(:1|:row 0): .*more than 256 levels of JSON/,
    ));
  Deno.test(`a row without end is refused: ${name}`, () =>
    refuses(`"${"x".repeat(20_000_000)}"`, /rows\.\S+(:1|:row 0): .* 8388608 bytes/));
}

Deno.test("rows of 256 levels, and marks within texts, are read", () =>
  withTemporaryFolder(async (folder) => {
    const deep = JSON.parse("[".repeat(254) + "]".repeat(254));
    const row = { deep, text: `\\"${"[{".repeat(500)}\\` };
    for (const name of ["rows.jsonl", "rows.json"]) {
      const path = join(folder, name);
      await writeFile(path, JSON.stringify(name.endsWith("l") ? row : [row]));
      assert.deepEqual((await Array.fromAsync(readRows(path))).map(({ row }) => row), [row]);
    }
  }));

Deno.test("a folder in place of a data file is named", () =>
  withTemporaryFolder(async (folder) => {
    await mkdir(join(folder, "train.jsonl"));
    await assert.rejects(openPairs(await optionsOf(folder, folder)), {
      name: "UserError",
      message: /train\.jsonl: cannot be read/,
    });
  }));
