import type { TrainConfig } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import { readCsv } from "./csv.ts";
import { isJsonLines, readJson } from "./json.ts";
import { linesOf, readJsonLines } from "./jsonl.ts";
import { countParquetRows, readParquet } from "./parquet.ts";
import type { MemoryRows } from "./memory.ts";
import type { Renames, Row } from "./row.ts";
import { filesOf } from "./splits.ts";

/** A data set: files, or rows of a script. */
export type DataSet = TrainConfig["datasetMixer"][number] & { rows?: MemoryRows };

/**
 * Rows of the data sets of `dataset_mixer`, in order, one at a time. Of each set the first int(share x rows) rows are
 * taken (the rule of the Alignment Handbook); a set of which a part is taken is read twice, to count its rows first.
 * Test splits are taken whole.
 *
 * @param split name with "train" or "test" in it.
 * @throws {UserError} for what is missing, with its place for a row that is not an object, and for a column to be
 * renamed that no row has.
 */
export async function* readMixer(mixer: readonly DataSet[], split: string): AsyncGenerator<Row> {
  const unseen = new Set(mixer.flatMap(({ columns }) => [...columns?.keys() ?? []]));
  const names = new Set<string>();
  for (const { path, share, config, columns, rows } of mixer) {
    const files = rows ? [] : await filesOf(path, split, config);
    let left = !rows && isPart(split, share) ? Math.trunc(share * await countRows(files)) : Infinity;
    for (const file of rows ? [rows] : files) {
      if (left <= 0) break;
      for await (const row of typeof file === "string" ? readRows(file, columns) : file.read()) {
        if (unseen.size > 0) {
          for (const name of Object.keys(row.row)) {
            unseen.delete(name);
            if (names.size < MOST_NAMES) names.add(name);
          }
        }
        yield columns ? renamed(row, columns) : row;
        if (--left <= 0) break;
      }
    }
  }
  if (unseen.size > 0 && names.size > 0) {
    throw new UserError(
      `column_mapping: expected the column ${[...unseen].map(show).join(" and ")} in some row of the split ${
        show(split)
      }, found ${[...names].map(show).join(", ")}`,
    );
  }
}

/** Columns that a message names. */
const MOST_NAMES = 12;

function renamed({ row, ...at }: Row, columns: Renames): Row {
  const kept = Object.entries(row).filter(([name]) => !columns.has(name));
  const found = Object.fromEntries(kept);
  for (const [name, target] of columns) {
    if (!Object.hasOwn(row, name)) continue;
    if (Object.hasOwn(found, target) && found[target] !== null) {
      throw new UserError(
        `${at.where}: column_mapping: expected no column ${show(target)} beside ${
          show(name)
        }, which is to be called so, ` +
          `found one: map it to another name, or leave one out`,
      );
    }
    found[target] = row[name];
  }
  return { ...at, row: found };
}

/** Whether a share leaves rows of a split out. */
export const isPart = (split: string, share: number) => split.includes("train") && share < 1;

/** By a file's name, less .gz or .zst; JSON Lines may have any, and what is in a file tells it from JSON. */
export function formatOf(path: string): "parquet" | "arrow" | "csv" | "tsv" | "json" {
  if (path.endsWith(".parquet")) return "parquet";
  if (path.endsWith(".arrow")) return "arrow";
  return /\.csv(\.gz|\.zst)?$/.test(path) ? "csv" : /\.tsv(\.gz|\.zst)?$/.test(path) ? "tsv" : "json";
}

/**
 * Rows of one file.
 * @param columns those that are read under other names; in columnar files others than these and `LOOKED_AT` stay
 * unread.
 */
export async function* readRows(path: string, columns?: Renames): AsyncGenerator<Row> {
  const format = formatOf(path);
  if (format === "parquet") yield* readParquet(path, columns);
  else if (format === "arrow") yield* (await import("./arrow.ts")).readArrow(path, columns);
  else if (format !== "json") yield* readCsv(path, format === "tsv" ? "\t" : ",");
  else yield* await isJsonLines(path) ? readJsonLines(path) : readJson(path);
}

/** Rows of files, without looking at what they hold where the format allows it. */
export async function countRows(files: readonly string[]): Promise<number> {
  let rows = 0;
  for (const file of files) {
    const format = formatOf(file);
    if (format === "parquet") rows += await countParquetRows(file);
    else {for await (
        const _ of format === "json" && await isJsonLines(file) ? linesOf(file) : readRows(file)
      ) rows++;}
  }
  return rows;
}
