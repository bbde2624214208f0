import assert from "node:assert/strict";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { countRows, readRows } from "../../lib/data/read.ts";
import { render } from "../../lib/data/render.ts";
import { filesOf } from "../../lib/data/splits.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { assertSame } from "../equal_bytes.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const GOLDEN = new URL("../golden/data/", import.meta.url).pathname;
const tokenizer = await loadTokenizer(join(GOLDEN, "tokenizer"));
const golden = JSON.parse(await readFile(`${GOLDEN}formats.json`, "utf8"));
const shapes = JSON.parse(await readFile(`${GOLDEN}shapes.json`, "utf8"));
const both = { autoInsertEmptySystemMsg: false, usesRejected: true };

const rejects = (promise: Promise<unknown>, message: RegExp) =>
  assert.rejects(promise, { name: "UserError", message });
const all = (path: string) => Array.fromAsync(readRows(path));

for (const [name, rows] of Object.entries<Record<string, unknown>[]>(golden)) {
  Deno.test(`rows of ${name} are those that pyarrow reads`, async () => {
    const found = await all(`${GOLDEN}${name}`);
    assert.deepEqual(found.map(({ row }) => row), rows);
    assert.equal(found.at(-1)!.where, `${GOLDEN}${name}:row ${rows.length - 1}`);
    assert.equal(await countRows([`${GOLDEN}${name}`]), rows.length);
  });
}

for (const codec of ["zstd", "gzip", "brotli", "lz4", "none"]) {
  Deno.test(`Parquet by the codec ${codec} gives the same rows`, async () => {
    const found = await all(`${GOLDEN}${codec}.parquet`);
    assert.deepEqual(found.map(({ row }) => row), golden["ultrafeedback.parquet"].slice(0, 8));
  });
}

Deno.test("rows of Parquet render as the same rows of JSONL do", async () => {
  const lines = (await all(`${GOLDEN}rows.jsonl`)).map(({ row }) => row);
  const texts = (rows: Record<string, unknown>[]) => rows.map((row) => render(row, tokenizer, both));
  const lists = lines.filter(({ prompt }) => Array.isArray(prompt));
  const others = lines.filter(({ prompt }) => !Array.isArray(prompt));
  for (const [name, rows] of [["ultrafeedback", others], ["prompt-lists", lists]] as const) {
    assertSame(texts((await all(`${GOLDEN}${name}.parquet`)).map(({ row }) => row)), texts(rows));
  }
});

Deno.test("a Parquet file that is cut short, or no Parquet, is refused, and so are claims beyond its size", async () => {
  const bytes = await readFile(`${GOLDEN}ultrafeedback.parquet`);
  await withTemporaryFolder(async (folder) => {
    const path = join(folder, "a.parquet");
    for (const cut of [0, 3, 11, 12, 400, bytes.length >> 1, bytes.length - 1]) {
      await writeFile(path, bytes.subarray(0, cut));
      await rejects(all(path), /a\.parquet: cannot be read as Parquet: .*damaged or not whole/);
    }
    // The end is there, and a piece of the middle is not.
    await writeFile(path, Buffer.concat([bytes.subarray(0, 500), bytes.subarray(700)]));
    await rejects(all(path), /a\.parquet.*: cannot be read as Parquet/);
    for (let at = 0; at < bytes.length; at += 97) {
      const damaged = Buffer.from(bytes);
      damaged.fill(0xff, at, at + 8);
      await writeFile(path, damaged);
      await all(path).catch((error) => assert.equal(error.name, "UserError", `${at}: ${error.stack}`));
    }
    await rejects(all(join(folder, "none.parquet")), /none\.parquet: cannot be read: .*ENOENT/);
  });
});

Deno.test("a Parquet column of another type is named with its row", async () => {
  const [{ row, where }] = await all(`${GOLDEN}numbers.parquet`);
  assert.match(where, /numbers\.parquet:row 0$/);
  assert.throws(() => render(row, tokenizer, both), {
    name: "UserError",
    message: `chosen: expected a list of messages, found ${2n ** 60n}`,
  });
});

Deno.test("JSON is a list of rows, an object with data, or JSONL under that name, gzipped or not", async () => {
  const rows = Array.from(
    { length: 3000 },
    (_, n) => ({ n, text: `"[{é🙂\u2028${"x".repeat(n % 90)}`, __proto__: null }),
  );
  const forms = {
    "list.json": JSON.stringify(rows),
    "pretty.json": `\ufeff${JSON.stringify(rows, null, 2)}\n`,
    "data.json": JSON.stringify({ version: [1, { data: [2] }], data: rows, more: {} }),
    "lines.json": rows.map((row) => JSON.stringify(row)).join("\n"),
  };
  await withTemporaryFolder(async (folder) => {
    for (const [name, text] of Object.entries(forms)) {
      for (const [path, bytes] of [[name, text], [`${name}.gz`, gzipSync(text)]] as const) {
        await writeFile(join(folder, path), bytes);
        const found = await all(join(folder, path));
        assertSame(found.map(({ row }) => row.n), rows.map(({ n }) => n), path);
        assertSame(found.map(({ row }) => row.text), rows.map(({ text }) => text), path);
        const last = name === "lines.json" ? `:${rows.length}` : `:row ${rows.length - 1}`;
        assert.equal(found.at(-1)!.where, join(folder, path) + last);
        assert.equal(await countRows([join(folder, path)]), rows.length);
      }
    }
  });
});

Deno.test("JSON that is cut short, or of another form, is refused with its row", async () => {
  await withTemporaryFolder(async (folder) => {
    const refuses = async (text: string | Uint8Array, message: RegExp) => {
      await writeFile(join(folder, "a.json"), text);
      await rejects(all(join(folder, "a.json")), message);
    };
    await refuses('[{"n": 1}, {"n": 2', /a\.json:row 1: not JSON, or not the whole file/);
    await refuses('[{"n": 1}, {"n": 2}', /a\.json:row 2: not JSON, or not the whole file/);
    await refuses('[{"n": 1}, 2]', /a\.json:row 1: expected a JSON object, found 2/);
    await refuses('[{"n": 1}] []', /a\.json:row 1: not JSON/);
    await refuses(
      '{"n": 1, "rows": [{}]}'.replace("{", "{\n"),
      /a\.json: expected a list of rows.*no rows in "data"/,
    );
    await refuses('{"data":\n {"a": {}}}', /a\.json: expected a list of rows.*data with a key "a"/);
    await refuses("7", /a\.json: expected a list of rows.*found "7"/);
    await refuses("", /a\.json: expected a list of rows.*found ""/);
    await refuses(Uint8Array.of(0x5b, 0x22, 0xff, 0x22, 0x5d), /a\.json:row 0: not JSON/);
    await rejects(all(join(folder, "none.json")), /none\.json:row 0: cannot be read: .*ENOENT/);
  });
});

Deno.test("a split is found in the Hub's layouts, also through links", async () => {
  await withTemporaryFolder(async (folder) => {
    const files = [
      "README.md",
      "data/train_prefs-00000-of-00002-0a1b2c3d.parquet",
      "data/train_prefs-00001-of-00002-4e5f6a7b.parquet",
      "data/test_prefs-00000-of-00001-0123abcd.parquet",
      "train_sft.parquet",
      "train/0000.parquet",
      "train/0001.parquet",
    ];
    await mkdir(join(folder, "data"));
    await mkdir(join(folder, "train"));
    await writeFile(join(folder, "blob"), "");
    for (const file of files) await symlink(join(folder, "blob"), join(folder, file));
    const found = async (split: string) =>
      (await filesOf(folder, split)).map((file) => file.slice(folder.length + 1));
    assert.deepEqual(await found("train_prefs"), files.slice(1, 3));
    assert.deepEqual(await found("test_prefs"), files.slice(3, 4));
    assert.deepEqual(await found("train_sft"), files.slice(4, 5));
    assert.deepEqual(await found("train"), files.slice(5));
    await rejects(
      found("train_pref"),
      /expected the split "train_pref", found the splits [^(]*train_sft[^(]* \(did you mean train_prefs\?\)/,
    );
    await rejects(found("test"), /expected the split "test", found the splits .*test_prefs/);
    await writeFile(join(folder, "train_sft.jsonl"), "");
    await rejects(found("train_sft"), /one form of the split "train_sft", found .*: keep one/);
  });
});

for (const { row, trl } of shapes.transcripts) {
  Deno.test(`a transcript is parted as TRL's script does: ${JSON.stringify(row.chosen.slice(0, 40))}`, () => {
    assert.deepEqual(render(row, tokenizer, both), render(trl, tokenizer, both));
    const plain = render(row, { ...tokenizer, chatTemplate: undefined }, both);
    assert.deepEqual([plain.prompt + plain.chosen, plain.prompt + plain.rejected], [
      row.chosen,
      row.rejected,
    ]);
    assert.ok(plain.prompt.endsWith("\n\nAssistant:"));
  });
}

for (const { row, trl } of shapes.texts) {
  Deno.test(`a prompt that texts imply is TRL's: ${JSON.stringify(row)}`, () => {
    const { notices, ...texts } = render(row, tokenizer, both);
    assert.deepEqual(texts, trl);
    assert.ok(notices.some(({ kind }) => kind === "withoutTemplate"));
  });
}

Deno.test("a transcript alone is parted at its last answer, and empty turns stay", () => {
  const chosen = "\n\nHuman:\n\nAssistant: Yes?\n\nHuman: Go\n\nAssistant:";
  const { prompt, ...rest } = render({ chosen }, tokenizer, { ...both, usesRejected: false });
  assert.equal(
    prompt,
    "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nGo<|im_end|>\n",
  );
  assert.deepEqual(rest, {
    chosen: "<|im_start|>assistant\n<|im_end|>\n",
    notices: [{ kind: "emptyResponse", detail: "chosen" }],
  });
  assert.throws(
    () => render({ chosen, rejected: "\n\nHuman: Other\n\nAssistant: No" }, tokenizer, both),
    { name: "UserError", message: /transcripts of one conversation/ },
  );
});
