import assert from "node:assert/strict";
import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openPairs } from "../../lib/data/pairs.ts";
import type { PairRules } from "../../lib/data/pair_of.ts";
import { type PoolOptions, TokenizerPool } from "../../lib/data/pool.ts";
import { readRows } from "../../lib/data/read.ts";
import { optionsOf } from "../../lib/data/tokenizer_worker.ts";
import { loadTokenizer, type Tokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { task } from "../command.ts";
import { assertSame } from "../equal_bytes.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const GOLDEN = new URL("../golden/data/", import.meta.url).pathname;
const FOLDER = join(GOLDEN, "tokenizer");
const RULES: PairRules = {
  vocabSize: 415,
  autoInsertEmptySystemMsg: true,
  usesRejected: true,
  maxLength: 128,
  maxPromptLength: 64,
  truncationMode: "keep_end",
};
const CHAT = { chosen: [turn("user", "Q"), turn("assistant", "A")], rejected: [turn("assistant", "B")] };

function turn(role: string, content: string) {
  return { role, content };
}

async function withPool<T>(folder: string, options: PoolOptions, body: (pool: TokenizerPool) => Promise<T>) {
  const pool = await TokenizerPool.open(folder, options);
  try {
    return await body(pool);
  } finally {
    pool.close();
  }
}

/** A file with these rows. */
async function rowsFile(folder: string, rows: unknown[]): Promise<string> {
  const path = join(folder, "rows.jsonl");
  await writeFile(path, rows.map((row) => JSON.stringify(row) + "\n").join(""));
  return path;
}

/** The bytes of the one file in a cache that `tokenizer` fills. */
async function storeOf(path: string, cache: string, tokenizer: Tokenizer | TokenizerPool) {
  const options = { ...RULES, mixer: [{ path, share: 1 }], split: "train", cache, tokenizer };
  await (await openPairs(options)).close();
  const [name] = await readdir(join(cache, "pairs"));
  return { name, bytes: await readFile(join(cache, "pairs", name)) };
}

/** A copy of the golden tokenizer, with changes to its tokenizer.json. */
async function changedTokenizer(folder: string, changes: Record<string, unknown>): Promise<string> {
  const copy = join(folder, "changed");
  await cp(FOLDER, copy, { recursive: true });
  const path = join(copy, "tokenizer.json");
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), ...changes }));
  return copy;
}

/**
 * Takes time that doubles with each x of a text of them: with 31 a quarter of a minute. A thread cannot be stopped by
 * force, and should not take the time of all tests after these.
 */
const ENDLESS = { Regex: "(x+x+)+y" };
const NEVER = { type: "Split", pattern: ENDLESS, behavior: "Isolated", invert: false };

const rejects = (promise: Promise<unknown>, message: RegExp) =>
  assert.rejects(promise, { name: "UserError", message });

Deno.test("a float of JSON is one to a template in a worker too, and a large integer keeps its digits", () =>
  withTemporaryFolder(async (folder) => {
    const chatTemplate = "{% for m in messages %}{{ m.role }}{{ m.v }},{{ m.w }}{{ m.content }}{% endfor %}";
    const message = '{"role":"user","content":"Q","v":1.0,"w":9007199254740993}';
    for (const [name, text] of [["rows.jsonl", "ROW\n"], ["rows.json", "[ROW]"]]) {
      const path = join(folder, name);
      const response = '[{"role":"assistant","content":"A","v":1,"w":1e2}]';
      await writeFile(
        path,
        text.replace("ROW", `{"prompt":[${message}],"chosen":${response},"rejected":${response}}`),
      );
      await withPool(FOLDER, { chatTemplate }, async (pool) => {
        for await (const { pair } of pool.pairs(readRows(path), RULES)) {
          const [text] = await pool.texts([pair.chosen.ids], "here", { skipSpecialTokens: true });
          assert.equal(text, "user1.0,9007199254740993Qassistant1,100.0A");
        }
      });
    }
  }));

Deno.test("the store has the same bytes with one worker, several and none", () =>
  withTemporaryFolder(async (folder) => {
    const golden = (await readFile(join(GOLDEN, "rows.jsonl"), "utf8")).trim().split("\n");
    const rows = Array.from({ length: 1500 }, (_, i) => JSON.parse(golden[(i * i) % golden.length]));
    const path = await rowsFile(folder, rows);
    const alone = await storeOf(path, join(folder, "alone"), await loadTokenizer(FOLDER));
    for (const workers of [1, 2, 5]) {
      const found = await withPool(
        FOLDER,
        { workers, headStart: 0 },
        (pool) => storeOf(path, join(folder, `${workers}`), pool),
      );
      assertSame(found, alone);
    }
  }));

Deno.test("the first row that cannot be used is named, whoever comes to it, before one that cannot be read", () =>
  withTemporaryFolder(async (folder) => {
    const rows: unknown[] = Array.from({ length: 700 }, () => CHAT);
    rows[300] = { chosen: [], rejected: [], other: "x" };
    rows[301] = { chosen: 7 };
    rows[320] = [];
    const path = await rowsFile(folder, rows);
    for (const workers of [1, 4]) {
      await withPool(FOLDER, { workers, headStart: 0 }, async (pool) => {
        const places: string[] = [];
        const read = async () => {
          for await (const { pair, row } of pool.pairs(readRows(path), RULES)) {
            assert.equal(pair.where, row.where);
            places.push(row.where);
          }
        };
        await rejects(read(), /rows\.jsonl:301: chosen: expected a list of messages, found \[\]$/);
        assert.equal(places.length, 300);
        // The pool can be used further.
        assert.ok((await pool.promptIds("Hi")).length > 3);
      });
    }
    rows[300] = rows[301] = CHAT;
    await withPool(FOLDER, {}, async (pool) => {
      const path = await rowsFile(folder, rows);
      await rejects(
        Array.fromAsync(pool.pairs(readRows(path), RULES)),
        /rows\.jsonl:321: expected a JSON object/,
      );
    });
  }));

Deno.test("a row that lacks a key is told which it has, though their values are not sent", () =>
  withTemporaryFolder(async (folder) => {
    const path = await rowsFile(folder, [{ choosen: [], rejected: [], nothing: null }]);
    await withPool(FOLDER, {}, (pool) =>
      rejects(
        Array.fromAsync(pool.pairs(readRows(path), RULES)),
        /:1: expected a key "chosen", found "choosen", "rejected"; did you mean "choosen"\?$/,
      ));
  }));

Deno.test("workers are sent what a template reads of a row: messages with all their keys, tools and documents", () =>
  withTemporaryFolder(async (folder) => {
    const chatTemplate = "{{ tools[0].name + documents[0].text }}{% for m in messages %}{{ m.content }}" +
      "{% if m.tool_calls %}{{ m.tool_calls[0].name }}{% endif %}{% endfor %}";
    const called = { role: "assistant", content: null, tool_calls: [{ name: "clock" }] };
    const row = {
      ...CHAT,
      tools: '[{"name": "t"}]',
      documents: [{ text: "d" }],
      prompt: [turn("user", "Q")],
    };
    const path = await rowsFile(folder, [{ ...row, chosen: [called] }]);
    await withPool(FOLDER, { chatTemplate }, async (pool) => {
      const [{ pair }] = await Array.fromAsync(pool.pairs(readRows(path), RULES));
      assert.equal(pool.vocabulary.decode(pair.chosen.ids, { skipSpecialTokens: true }), "tdQNoneclock");
    });
  }));

Deno.test("a row of lists within lists is refused", () =>
  withTemporaryFolder(async (folder) => {
    const path = join(folder, "rows.jsonl");
    // As deep as a row may be: what is deeper is refused where it is read.
    const deep = `{"chosen": ${"[".repeat(250)}${"]".repeat(250)}, "rejected": []}\n`;
    await writeFile(path, JSON.stringify(CHAT) + "\n" + deep);
    await withPool(FOLDER, {}, (pool) =>
      rejects(
        Array.fromAsync(pool.pairs(readRows(path), RULES)),
        /rows\.jsonl:2: chosen\[0\]: expected a message such as .*, found \[a list\]$/,
      ));
  }));

Deno.test("a regular expression that does not end is stopped, and the row and the file are named", () =>
  withTemporaryFolder(async (folder) => {
    const endless = await changedTokenizer(folder, { pre_tokenizer: NEVER });
    const rows = [CHAT, CHAT, { ...CHAT, rejected: [turn("assistant", "x".repeat(31))] }, CHAT];
    const path = await rowsFile(folder, rows);
    await withPool(endless, { patience: 1000 }, async (pool) => {
      await rejects(
        Array.fromAsync(pool.pairs(readRows(path), RULES)),
        /rows\.jsonl:3: .*changed\/tokenizer\.json has not tokenized the text after 1 s/,
      );
      // Others go on.
      assert.ok((await pool.promptIds("Hi")).length > 0);
    });
    await withPool(endless, { patience: 1000 }, async (pool) => {
      await rejects(pool.promptIds("x".repeat(31)), /^prompts: "xxx.*has not tokenized/);
    });
  }));

Deno.test("a row that takes more memory than a worker has is named, and the process goes on", () =>
  withTemporaryFolder(async (folder) => {
    const path = await rowsFile(folder, [CHAT, {
      ...CHAT,
      rejected: [turn("assistant", "ab cd ef ".repeat(900_000))],
    }]);
    await withPool(FOLDER, { patience: 3000, megabytes: 64 }, (pool) =>
      rejects(
        Array.fromAsync(pool.pairs(readRows(path), RULES)),
        /rows\.jsonl:2: .*tokenizer\.json has not tokenized the text within 64 MB of memory: stopped\. Look at the row/,
      ));
  }));

Deno.test("a decoder that does not come to an end is stopped as a regular expression is", () =>
  withTemporaryFolder(async (folder) => {
    const twice = { type: "Replace", pattern: { String: "a" }, content: "aaaaaaaaaa" };
    const endless = await changedTokenizer(folder, {
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
          ...Array(8).fill(twice),
        ],
      },
    });
    const ids = (await loadTokenizer(FOLDER)).encode("banana");
    await withPool(
      endless,
      { patience: 1000, megabytes: 64 },
      (pool) =>
        rejects(
          pool.texts([ids], "prompts: an answer"),
          /^prompts: an answer: .*changed\/tokenizer\.json has not made text /,
        ),
    );
    await withPool(FOLDER, {}, async (pool) => {
      const prompt = await pool.promptIds("Is it late?");
      const [plain, special] = [{ skipSpecialTokens: true }, {}];
      assert.doesNotMatch((await pool.texts([prompt], "", plain))[0], /im_start/);
      assert.match((await pool.texts([[], prompt], "", special))[1], /im_start.*Is it late\?/s);
      pool.rest();
      assert.deepEqual(await pool.texts([ids, []], ""), ["banana", ""]);
    });
  }));

Deno.test("tokenizer files that change while a run reads them are told", () =>
  withTemporaryFolder(async (folder) => {
    const copy = await changedTokenizer(folder, {});
    await withPool(copy, {}, async (pool) => {
      await changedTokenizer(folder, { note: "another" });
      await rejects(pool.promptIds("Hi"), /changed: its tokenizer files are others than when the run began/);
    });
    await withPool(copy, {}, async (pool) => {
      await writeFile(join(copy, "chat_template.jinja"), "{{ messages }}");
      await rejects(pool.promptIds("Hi"), /changed: its tokenizer files are others than when the run began/);
    });
  }));

Deno.test("a worker may read, and nothing else", async () => {
  const worker = new Worker(new URL("../denied_worker.ts", import.meta.url), optionsOf({ readsOnly: true }));
  const found = await new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data));
  worker.terminate();
  assert.deepEqual(found, {
    read: "done",
    write: "NotCapable",
    env: "NotCapable",
    run: "NotCapable",
    net: "NotCapable",
    sys: "NotCapable",
    ffi: "NotCapable",
  });
});

for (const name of ["train", "data", "plan"]) {
  Deno.test(`the ${name} task takes the permissions from its workers`, async () => {
    // Deno says so itself where deno.json does not ask for that: it is no stable option yet.
    const args = [
      ...["run", "--no-config", "--no-lock", "--no-check", "--allow-all", "lib/cli/main.ts", name],
      ...name === "plan" ? ["--data", "--device_memory=1GB"] : [],
      "--overwrite_cache",
    ];
    const output = await new Deno.Command(Deno.execPath(), { args, stdin: "null" }).output();
    assert.equal(output.code, 70);
    assert.match(new TextDecoder().decode(output.stderr), /Worker\.deno\.permissions/);
  });
}

Deno.test("a regular expression that does not end while the tokenizer is loaded is stopped", () =>
  withTemporaryFolder(async (folder) => {
    const token = { content: "x".repeat(31), id: 500, normalized: true, special: false };
    const { added_tokens } = JSON.parse(await readFile(join(FOLDER, "tokenizer.json"), "utf8"));
    const endless = await changedTokenizer(folder, {
      normalizer: { type: "Replace", pattern: ENDLESS, content: "" },
      added_tokens: [...added_tokens, token],
    });
    await withPool(
      endless,
      { patience: 200 },
      (pool) => rejects(pool.promptIds("Hi"), /changed\/tokenizer\.json: not loaded after 1\.2 s/),
    );
  }));

Deno.test("a chat template that goes on and on is stopped, and the row is named", () =>
  withTemporaryFolder(async (folder) => {
    const path = await rowsFile(folder, [CHAT]);
    // Few steps that take long: of short ones so many are allowed that a fast machine comes to their end first.
    const loops = "{% set x = range(99999) %}{% for i in x %}{% set y = x | join %}{% endfor %}";
    await withPool(FOLDER, { chatTemplate: loops, patience: 300 }, (pool) =>
      rejects(
        Array.fromAsync(pool.pairs(readRows(path), RULES)),
        /rows\.jsonl:1: the chat template of .*tokenizer has not come to an end after 0\.3 s/,
      ));
    const chatTemplate = "{% for i in range(1000000000) %}x{% endfor %}";
    const message = /the chat template .*Range too big/;
    await withPool(FOLDER, { chatTemplate }, (pool) => rejects(pool.promptIds("Hi"), message));
    const run = join(folder, "run.yaml");
    await writeFile(
      run,
      `model_name_or_path: ${GOLDEN}../llama/untied\ndataset_mixer: { ${path}: 1 }\n` +
        `chat_template: "${chatTemplate}"\nmax_length: 64\nmax_prompt_length: 32\n`,
    );
    const { status, stderr } = await task("data", run);
    assert.equal(status, 1);
    assert.match(stderr, /^error: .*rows\.jsonl:1: the chat template .*Range too big\..*\n$/);
  }));

Deno.test("a pool tokenizes texts as they stand, and with special tokens where asked", () =>
  withTemporaryFolder(async (folder) => {
    const post_processor = {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<s>": { id: "<s>", ids: [7], tokens: ["<s>"] } },
    };
    await withPool(await changedTokenizer(folder, { post_processor }), {}, async (pool) => {
      const [plain, empty] = await pool.idsOf(["Hello", ""], "texts");
      assert.deepEqual(await pool.texts([plain], "ids"), ["Hello"]);
      assert.deepEqual(empty, []);
      assert.deepEqual(await pool.idsOf(["Hello", ""], "texts", { addSpecialTokens: true }), [[7, ...plain], [
        7,
      ]]);
      await rejects(pool.idsOf(["\ud800"], "texts"), /half of a surrogate pair/);
    });
  }));
