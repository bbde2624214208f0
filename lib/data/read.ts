import type { DatasetShare } from "../config/values.ts";
import { readJson } from "./json.ts";
import { linesOf, readJsonLines } from "./jsonl.ts";
import { countParquetRows, readParquet } from "./parquet.ts";
import type { Row } from "./row.ts";
import { filesOf } from "./splits.ts";

/**
 * Rows of the data sets of `dataset_mixer`, in order, one at a time. Of each set the first int(share x rows) rows are
 * taken (the rule of the Alignment Handbook); a set of which a part is taken is read twice, to count its rows first. Test
 * splits are taken whole.
 *
 * @param split name with "train" or "test" in it.
 * @throws {UserError} for what is missing, and with its place for a row that is not an object.
 */
export async function* readMixer(mixer: readonly DatasetShare[], split: string): AsyncGenerator<Row> {
  for (const { path, share, config } of mixer) {
    const files = await filesOf(path, split, config);
    let left = isPart(split, share) ? Math.trunc(share * await countRows(files)) : Infinity;
    for (const file of files) {
      if (left <= 0) break;
      for await (const row of readRows(file)) {
        yield row;
        if (--left <= 0) break;
      }
    }
  }
}

/** Whether a share leaves rows of a split out. */
export const isPart = (split: string, share: number) => split.includes("train") && share < 1;

/** By a file's name: .parquet, .json, and everything else is JSONL; the latter two also as .gz. */
export const formatOf = (path: string) =>
  path.endsWith(".parquet") ? "parquet" : /\.json(\.gz)?$/.test(path) ? "json" : "jsonl";

/** Rows of one file. */
export function readRows(path: string): AsyncGenerator<Row> {
  const format = formatOf(path);
  return format === "parquet" ? readParquet(path) : format === "json" ? readJson(path) : readJsonLines(path);
}

/** Rows of files, without looking at what they hold where the format allows it. */
export async function countRows(files: readonly string[]): Promise<number> {
  let rows = 0;
  for (const file of files) {
    const format = formatOf(file);
    if (format === "parquet") rows += await countParquetRows(file);
    else for await (const _ of format === "json" ? readJson(file) : linesOf(file)) rows++;
  }
  return rows;
}
