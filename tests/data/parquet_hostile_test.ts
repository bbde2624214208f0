import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { readRows } from "../../lib/data/read.ts";
import { encode, type Page, parquet, textPage } from "../hostile_parquet.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const text = (words: string) => [words.length, 0, 0, 0, ...new TextEncoder().encode(words)];
/** A varint of five bytes. */
const LARGE = [0xfe, 0xff, 0xff, 0xff, 0x0f];

async function rowsOf(bytes: Uint8Array): Promise<unknown[]> {
  let rows: unknown[] = [];
  await withTemporaryFolder(async (folder) => {
    const path = join(folder, "a.parquet");
    await writeFile(path, bytes);
    rows = (await Array.fromAsync(readRows(path))).map(({ row }) => row);
  });
  return rows;
}

function refused(name: string, bytes: () => Uint8Array, message: RegExp): void {
  Deno.test(`a Parquet file is refused that has ${name}`, () =>
    assert.rejects(rowsOf(bytes()), (error: Error) => {
      assert.equal(error.name, "UserError", error.stack);
      assert.match(error.message, /a\.parquet.*: cannot be read as Parquet: /);
      assert.match(error.message, message);
      return true;
    }));
}

const onePage = (page: Page, rows = 2) => parquet({ pages: [page], rows });

Deno.test("a Parquet file made by hand is read: plain, dictionary, lengths and prefixes as differences", async () => {
  const expected = [{ chosen: "ab", rejected: "ab" }, { chosen: "abc", rejected: "abc" }];
  const plain = [...text("ab"), ...text("abc")];
  assert.deepEqual(await rowsOf(onePage(textPage({ values: 2, content: plain }))), expected);
  const dictionary: Page = {
    header: { 1: 2, 2: plain.length, 3: plain.length, 7: { 1: 2, 2: 0 } },
    content: plain,
  };
  const indices = textPage({ values: 2, encoding: "dictionary", content: [1, 3, 0b10] });
  assert.deepEqual(await rowsOf(parquet({ pages: [dictionary, indices], rows: 2 })), expected);
  // Blocks of 128 in 4 parts, two numbers, the first and the difference to the second, no bits.
  const deltas = (first: number, difference: number) => [128, 1, 4, 2, 2 * first, 2 * difference, 0, 0, 0, 0];
  const lengths = [...deltas(2, 1), ...new TextEncoder().encode("ababc")];
  assert.deepEqual(
    await rowsOf(onePage(textPage({ values: 2, encoding: "lengths", content: lengths }))),
    expected,
  );
  const prefixes = [...deltas(0, 2), ...deltas(2, -1 & 0x7f), ...new TextEncoder().encode("abc")];
  prefixes[15] = 1;
  assert.deepEqual(
    await rowsOf(onePage(textPage({ values: 2, encoding: "prefixes", content: prefixes }))),
    expected,
  );
});

refused(
  "lists within lists that each claim 30 million items",
  () => {
    const list = [0xf9, 0x80, 0x8e, 0xa7, 0x0e];
    return parquet({ pages: [], rows: 0, metadata: [0x19, ...Array(100).fill(list).flat(), 0] });
  },
  /a list of 3\d{7} items/,
);
refused(
  "structures within structures without end",
  () => parquet({ pages: [], rows: 0, metadata: Array(100_000).fill(0x1c) }),
  /nested more than 16 deep/,
);
refused(
  "a number of half a megabyte",
  () => parquet({ pages: [], rows: 0, metadata: [0x16, ...Array(500_000).fill(0xff), 1, 0] }),
  /a number of more than 10 bytes/,
);
refused(
  "a schema of columns within columns",
  () =>
    parquet({
      pages: [],
      rows: 0,
      metadata: encode({ 1: 1, 2: Array.from({ length: 5000 }, () => ({ 4: "a", 5: 1 })), 3: 0n, 4: [] }),
    }),
  /nested more than 16 deep/,
);
refused(
  "a run of 2^31 levels",
  () => onePage(textPage({ values: 2, levels: [...LARGE, 1] })),
  /a run of \d{10} for 2/,
);
refused(
  "a packed run of a negative count",
  () => onePage(textPage({ values: 2, levels: [0xff, 0xff, 0xff, 0xff, 0x0f, 1] })),
  /a run of \d+ for 2/,
);
refused(
  "fewer levels than values",
  () => onePage(textPage({ values: 2, levels: [2, 1] })),
  /1 levels for 2 values/,
);
refused(
  "a run of 2^31 indices of a dictionary",
  () => onePage(textPage({ values: 2, encoding: "dictionary", content: [1, ...LARGE, 1] })),
  /a run of \d{10} for 2/,
);
refused(
  "a page of 2^31 values",
  () => onePage(textPage({ values: 2 ** 31 - 1, levels: [4, 1] })),
  /more than the 2 values of the column/,
);
refused(
  "a column of 2^40 values",
  () => parquet({ pages: [textPage({ values: 2 })], rows: 2, values: 2 ** 40 }),
  /1099511627776 values in \d+ bytes/,
);
refused(
  "2^40 rows",
  () => parquet({ pages: [], rows: 2 ** 40, values: 2 }),
  /1099511627776 rows in \d+ bytes/,
);
refused(
  "a dictionary of 2^30 values",
  () => onePage({ header: { 1: 2, 2: 1, 3: 1, 7: { 1: 2 ** 30, 2: 0 } }, content: [0] }),
  /a dictionary of 1073741824 values/,
);
refused(
  "differences in less than no parts, which the decoder reads over and over",
  () =>
    onePage(textPage({
      values: 2,
      encoding: "lengths",
      content: [128, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 2, 0, 0, 0],
    })),
  /blocks of 128 numbers in 4294967295 parts/,
);
refused(
  "texts that each begin with all of the one before",
  () => {
    const values = 20_000;
    // The prefixes grow by one with each text, and every text adds a letter.
    const grow = [128, 1, 4, 0xa0, 0x9c, 1, 0, ...Array(157).fill([2, 0, 0, 0, 0]).flat()];
    const ones = [128, 1, 4, 0xa0, 0x9c, 1, 2, ...Array(157).fill([0, 0, 0, 0, 0]).flat()];
    const content = [...grow, ...ones, ...Array(values).fill(0x61)];
    return onePage(textPage({ values, levels: [0xc0, 0xb8, 2, 1], encoding: "prefixes", content }), values);
  },
  /texts that unfold from \d+ bytes to 199990000/,
);
refused(
  "columns that share their bytes",
  () =>
    parquet({
      pages: [textPage({ values: 1, content: text("a".repeat(5000)) })],
      rows: 1,
      share: true,
    }),
  /columns that share their bytes/,
);
refused(
  "a page of 20 bytes that claims a gigabyte",
  () =>
    onePage({
      header: { 1: 0, 2: 2 ** 30, 3: 20, 5: { 1: 2, 2: 0, 3: 3, 4: 3 } },
      content: Array(20).fill(0),
    }),
  /unfolds from 20 bytes to 1073741824/,
);
refused(
  "zstd that holds more than the page's header says",
  () => {
    const content = [...zstdCompressSync(new Uint8Array(2 ** 24))];
    const header = { 1: 0, 2: 100, 3: content.length, 5: { 1: 2, 2: 0, 3: 3, 4: 3 } };
    return parquet({ pages: [{ header, content }], rows: 2, codec: 6 });
  },
  /larger than 100 bytes/,
);
function tooLarge(name: string, read: () => Promise<unknown>, message: RegExp): void {
  Deno.test(`what is whole and too large is refused as that: ${name}`, () =>
    assert.rejects(read, (error: Error) => {
      assert.equal(error.name, "UserError", error.stack);
      assert.doesNotMatch(error.message, /damaged/);
      assert.match(error.message, message);
      return true;
    }));
}

tooLarge(
  "200,000 rows of messages in 3 KB",
  // pyarrow 26: s = pa.StructArray.from_arrays([pa.array(["user"] * 200_000)] * 2, ["role", "content"])
  // a = pa.ListArray.from_arrays(pa.array(range(200_001), pa.int32()), s)
  // pq.write_table(pa.table({"chosen": a, "rejected": a}), "alike.parquet", compression="zstd")
  () => Array.fromAsync(readRows(new URL("../golden/data/alike.parquet", import.meta.url).pathname)),
  /alike\.parquet:row 0: a row group of 200000 rows, 800000 values, takes more memory .* row_group_size=1000/,
);
tooLarge(
  "a text of 9 MB",
  () => {
    const length = 9_000_000;
    const page = Buffer.alloc(10 + length, "a");
    page.set([2, 0, 0, 0, 2, 1]);
    page.writeUInt32LE(length, 6);
    // What does not shrink: a page may not unfold beyond what a real one would.
    for (let i = 0; i < 600; i++) page.set(createHash("sha256").update(`${i}`).digest(), 10 + 32 * i);
    const content = [...zstdCompressSync(page)];
    const header = { 1: 0, 2: page.length, 3: content.length, 5: { 1: 1, 2: 0, 3: 3, 4: 3 } };
    return rowsOf(parquet({ pages: [{ header, content }], rows: 1, codec: 6 }));
  },
  /a\.parquet:row 0: a text of 9000000 bytes, and 8388608 is the most that is read$/,
);
refused(
  "a text that goes beyond its page",
  () => onePage(textPage({ values: 1, content: [9, 0, 0, 0, 0x61] }), 1),
  /a text of 9 bytes in 1/,
);
refused(
  "a column that comes twice, of which nobody waits for the second",
  () => {
    const column = { 2: 4n, 3: { 1: 6, 2: [0], 3: ["chosen"], 4: 0, 5: 1n, 6: 5n, 7: 5n, 9: 4n } };
    return parquet({
      pages: [{ header: { 1: 0, 2: 0, 3: 0 } }],
      rows: 1,
      metadata: encode({
        1: 1,
        2: [{ 4: "root", 5: 1 }, { 1: 6, 4: "chosen" }],
        3: 1n,
        4: [{ 1: [column, column], 2: 5n, 3: 1n }],
      }),
    });
  },
  /a column chosen that the schema does not have/,
);
