import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readMixer } from "../../lib/data/read.ts";

const GOLDEN = new URL("../golden/rows/", import.meta.url).pathname;
const golden: Record<string, Record<string, unknown>[]> = JSON.parse(
  await readFile(join(GOLDEN, "rows.json"), "utf8"),
);

/** As make.py writes what JSON has no number for. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "bigint" || (typeof value === "number" && Math.abs(value) >= 2 ** 53)) {
    return Number.isFinite(Number(value))
      ? { int: String(value) }
      : { float: String(value).replace("inity", "").toLowerCase() };
  }
  // A float without a fraction.
  if (value instanceof Number) return { float: value.toFixed(1) };
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

const rowsOf = async (path: string, split = "train") =>
  await Array.fromAsync(readMixer([{ path, share: 1 }], split));

for (const [name, rows] of Object.entries(golden)) {
  Deno.test(`rows of ${name} are those that datasets reads`, async () => {
    const [file, split] = name.split(" ");
    const found = await rowsOf(join(GOLDEN, file), split);
    assert.deepEqual(found.map(({ row }) => plain(row)), rows);
  });
}
