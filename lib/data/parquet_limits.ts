/** How much a Parquet file may unfold to. */
import type { ColumnMetaData } from "npm:hyparquet@^1.31.5";

/** Rows that any file may have, however short, since rows that are alike take no room. */
export const FREE_ROWS = 2 ** 20;
/**
 * Bytes that all pages of a column in a row group, or texts, may unfold to for each of theirs, besides what is free.
 */
export const CHUNK_RATIO = 64;
/**
 * Memory that the columns of a row group may take when they are decoded, all at once: so much, and this multiple of
 * their bytes in the file.
 */
const FREE_GROUP_BYTES = 2 ** 29;
const GROUP_RATIO = 16;
/**
 * What the decoder was measured to take for a value besides its text, and for each level of lists and structures
 * around it.
 */
const BYTES_PER_VALUE = 64;
const BYTES_PER_LEVEL = 270;

/** What is whole, and larger than it may be. */
export class TooLarge extends Error {}

/** What is left of the memory that a row group may take. */
export class Budget {
  readonly values: number;
  #left: number;

  /** @throws {TooLarge} where the values alone take too much, whatever their texts. */
  constructor(readonly rows: number, columns: readonly ColumnMetaData[]) {
    this.values = columns.reduce((sum, { num_values }) => sum + Number(num_values), 0);
    this.#left = FREE_GROUP_BYTES;
    for (const { total_compressed_size } of columns) {
      this.#left += GROUP_RATIO * Number(total_compressed_size);
    }
    for (const { num_values, path_in_schema } of columns) {
      this.spend(Number(num_values) * (BYTES_PER_VALUE + BYTES_PER_LEVEL * (path_in_schema.length - 1)));
    }
  }

  spend(bytes: number): void {
    this.#left -= bytes;
    if (this.#left >= 0) return;
    throw new TooLarge(
      `a row group of ${this.rows} rows, ${this.values} values, takes more memory than its bytes in the file ` +
        "allow: write the file again in smaller ones, as pyarrow's write_table(..., row_group_size=1000) does",
    );
  }
}

export function count(value: unknown, unit: string): number {
  const number = typeof value === "bigint" || typeof value === "number" ? Number(value) : NaN;
  if (!Number.isSafeInteger(number) || number < 0) throw new Error(`${value} ${unit}`);
  return number;
}
