/**
 * Where a row stands: a line of its file, from 1, or in formats without lines a row from 0, as `dataset[0]` in
 * Python.
 */
export interface Place {
  /** Path of the file, or what rows of a script are called. */
  file: string;
  /** What is counted. */
  unit: "line" | "row";
  /** From 1 for lines, from 0 for rows. */
  number: number;
}

/** Other names for columns, by those that the files have. */
export type Renames = ReadonlyMap<string, string>;

/** One row of a data file. */
export interface Row {
  /** Its columns by name. */
  row: Record<string, unknown>;
  /** Where it stands. */
  place: Place;
  /** The place in words. */
  where: string;
  /** Of unpaired data: whether the response was judged to be a good one. */
  desirable?: boolean;
}

export function rowAt(row: Record<string, unknown>, place: Place): Row {
  return { row, place, where: describePlace(place) };
}

/** `pairs.jsonl:12` or `pairs.parquet:row 11` */
export function describePlace({ file, unit, number }: Place): string {
  return unit === "line" ? `${file}:${number}` : `${file}:row ${number}`;
}
