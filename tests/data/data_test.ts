import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { readMixer, readRows } from "../../lib/data/read.ts";
import { render } from "../../lib/data/render.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const GOLDEN = new URL("../golden/data/", import.meta.url).pathname;
const tokenizer = await loadTokenizer(join(GOLDEN, "tokenizer"));

const rejects = (promise: Promise<unknown>, message: RegExp) =>
  assert.rejects(promise, { name: "UserError", message });

/** Rows {"n": from} ... {"n": to - 1} as JSONL. */
const numbers = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => `{"n": ${from + i}}\n`).join("");

async function read(mixer: Record<string, number>, split = "train"): Promise<unknown[]> {
  const shares = Object.entries(mixer).map(([path, share]) => ({ path, share }));
  return (await Array.fromAsync(readMixer(shares, split))).map(({ row }) => row.n);
}

Deno.test("rows are read line by line, plain or gzipped, with their line numbers; blank lines are passed over", async () => {
  await withTemporaryFolder(async (folder) => {
    // Longer than a chunk of the stream, with a separator that is no line break in JSON and no line break at the end.
    const long = "x\u2028".repeat(100_000);
    const text = `{"n": 1}\r\n\n \t\r\n{"n": "${long}"}\n{"n": 3}`;
    await writeFile(join(folder, "a.jsonl"), text);
    await writeFile(
      join(folder, "b.jsonl.gz"),
      Buffer.concat([gzipSync(text.slice(0, 9)), gzipSync(text.slice(9))]),
    );
    for (const name of ["a.jsonl", "b.jsonl.gz"]) {
      const rows = await Array.fromAsync(readRows(join(folder, name)));
      assert.deepEqual(rows.map(({ row }) => row.n), [1, long, 3]);
      assert.deepEqual(rows.map(({ where }) => basename(where)), [`${name}:1`, `${name}:4`, `${name}:5`]);
    }
  });
});

Deno.test("readMixer() takes the first int(share x rows) rows of each set, and test splits whole", async () => {
  await withTemporaryFolder(async (folder) => {
    const [a, b] = [join(folder, "a.jsonl"), join(folder, "b")];
    await writeFile(a, numbers(0, 10) + "\n\n");
    await mkdir(b);
    await writeFile(join(b, "train.jsonl.gz"), gzipSync(numbers(10, 13)));
    await writeFile(join(b, "test.jsonl"), numbers(20, 23));
    assert.deepEqual(await read({ [b]: 1, [a]: 0.29 }), [10, 11, 12, 0, 1]);
    assert.deepEqual(await read({ [a]: 0, [b]: 0.7 }), [10, 11]);
    assert.deepEqual(await read({ [b]: 0.1 }, "test"), [20, 21, 22]);
    await rejects(read({ [a]: 1 }, "test"), /a\.jsonl: expected a folder with files for the splits/);
  });
});

Deno.test("a folder's split is the file named after it, or all its numbered files", async () => {
  await withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "train.jsonl"), numbers(0, 1));
    await writeFile(join(folder, "train_prefs-00000-of-00002.jsonl"), numbers(1, 2));
    await rejects(read({ [folder]: 1 }, "train_prefs"), /expected 2 files train_prefs-.*, found 1/);
    await writeFile(join(folder, "train_prefs-00001-of-00002.jsonl"), numbers(2, 4));
    assert.deepEqual(await read({ [folder]: 1 }), [0]);
    assert.deepEqual(await read({ [folder]: 1 }, "train_prefs"), [1, 2, 3]);
    assert.deepEqual(await read({ [folder]: 0.7 }, "train_prefs"), [1, 2]);
    await rejects(
      read({ [folder]: 1 }, "train_sft"),
      /expected the split "train_sft", found the splits train, train_prefs: set dataset_splits/,
    );
    await rejects(read({ [join(folder, "..", basename(folder))]: 1 }, "test"), /expected the split "test"/);
  });
});

Deno.test("a path that is not there is named, with the nearest that is", async () => {
  await withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "pairs.jsonl"), "");
    await rejects(
      read({ [join(folder, "pair.jsonl")]: 1 }),
      /dataset_mixer: .*did you mean .*pairs\.jsonl\?/,
    );
    await rejects(
      read({ [join(folder, "elsewhere")]: 1 }),
      /found nothing there; give the path of a \.jsonl/,
    );
    await rejects(read({ [join(folder, "no", "x.jsonl")]: 1 }), /there is no folder .*no either/);
  });
});

Deno.test("a damaged file is named with the line", async () => {
  await withTemporaryFolder(async (folder) => {
    const all = async (name: string, bytes: string | Uint8Array) => {
      await writeFile(join(folder, name), bytes);
      return await Array.fromAsync(readRows(join(folder, name)));
    };
    await rejects(all("a.jsonl", '{"n": 1}\n{"n": \n'), /a\.jsonl:2: expected a JSON object on the line: /);
    await rejects(all("b.jsonl", "[1]"), /b\.jsonl:1: expected a JSON object on the line, found \[1\]/);
    await rejects(all("c.jsonl", Uint8Array.of(0x7b, 0xff, 0x7d)), /c\.jsonl:1: expected a JSON object/);
    const gzipped = gzipSync(numbers(0, 9));
    await rejects(
      all("d.jsonl.gz", gzipped.subarray(0, -9)),
      /d\.jsonl\.gz:\d+: cannot be read: .*not whole gzip/,
    );
    await rejects(all("e.jsonl.gz", '{"n": 1}'), /e\.jsonl\.gz:1: cannot be read: .*damaged/);
    await rejects(
      all("f.jsonl.gz", gzipSync(Buffer.alloc(65 * 2 ** 20))),
      /f\.jsonl\.gz:1: .*more than 8388608 bytes on one/,
    );
    for (const name of ["g.jsonl", "g.jsonl.gz"]) {
      await rejects(Array.fromAsync(readRows(join(folder, name))), /g\.jsonl.*:1: cannot be read: .*ENOENT/);
    }
  });
});

const both = { autoInsertEmptySystemMsg: true, usesRejected: true };
const alone = { autoInsertEmptySystemMsg: false, usesRejected: false };
const turn = (role: string, content: string) => ({ role, content });

Deno.test("render() puts an empty system message in front where the template knows one", () => {
  const row = { chosen: [turn("user", "Q"), turn("assistant", "A")], rejected: [turn("assistant", "B")] };
  const answers = {
    chosen: "<|im_start|>assistant\nA<|im_end|>\n",
    rejected: "<|im_start|>assistant\nB<|im_end|>\n",
  };
  const prompt = "<|im_start|>user\nQ<|im_end|>\n";
  assert.deepEqual(render(row, tokenizer, both), {
    prompt: `<|im_start|>system\n<|im_end|>\n${prompt}`,
    ...answers,
    notices: [],
  });
  assert.deepEqual(render(row, tokenizer, { ...both, autoInsertEmptySystemMsg: false }), {
    prompt,
    ...answers,
    notices: [],
  });
  assert.deepEqual(row.chosen.length, 2);
});

Deno.test("render() joins texts as they are, and takes messages where one response will do", () => {
  const texts = { prompt: "P", chosen: " C", rejected: "\n" };
  const untouched = { kind: "withoutTemplate" };
  const empty = (detail: string) => ({ kind: "emptyResponse", detail });
  assert.deepEqual(render(texts, tokenizer, both), { ...texts, notices: [empty("rejected"), untouched] });
  assert.deepEqual(render(texts, tokenizer, alone), { prompt: "P", chosen: " C", notices: [untouched] });
  assert.deepEqual(render({ messages: [turn("user", "Q"), turn("assistant", " ")] }, tokenizer, alone), {
    prompt: "<|im_start|>user\nQ<|im_end|>\n",
    chosen: "<|im_start|>assistant\n <|im_end|>\n",
    notices: [empty("messages")],
  });
});

Deno.test("render() says what a row lacks", () => {
  const good = { chosen: [turn("user", "Q"), turn("assistant", "A")], rejected: [turn("assistant", "B")] };
  const refuses = (row: Record<string, unknown>, message: RegExp) =>
    assert.throws(() => render({ ...good, ...row }, tokenizer, both), { name: "UserError", message });
  refuses(
    { chosen: undefined, choosen: 1 },
    /expected a key "chosen", found .*"rejected".*; did you mean "choosen"\?/,
  );
  refuses({ rejected: null }, /expected a key "rejected", found "chosen"$/);
  refuses({ chosen: [] }, /chosen: expected a list of messages, found \[\]/);
  refuses({ chosen: 7 }, /chosen: expected a list of messages, found 7/);
  refuses({ rejected: ["hi"] }, /rejected\[0\]: expected a message .*, found "hi"/);
  refuses({ chosen: [{ role: "user" }] }, /chosen\[0\]\.content: expected text, found nothing/);
  refuses(
    { chosen: [turn("user", "Q"), { role: 1, content: "" }] },
    /chosen\[1\]\.role: expected text, found 1/,
  );
  refuses({ chosen: "text" }, /expected a key "prompt"/);
  refuses({ chosen: "text", prompt: "P" }, /rejected: expected text, as chosen is text, found \[an object\]/);
  const oneMessage = { chosen: [turn("assistant", "A")], rejected: [turn("assistant", "B")] };
  assert.throws(() => render(oneMessage, tokenizer, { ...both, autoInsertEmptySystemMsg: false }), {
    name: "UserError",
    message: /expected at least one message before the response/,
  });
});
