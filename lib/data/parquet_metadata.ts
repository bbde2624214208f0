/** What must hold of a Parquet file's footer: its columns, counts and offsets. */
import type { ColumnMetaData, FileMetaData, SchemaElement } from "npm:hyparquet@^1.31.5";
import { count, FREE_ROWS, TooLarge } from "./parquet_limits.ts";

/** A column of a message list has five levels. */
const MOST_LEVELS = 16;

/** The deepest definition and repetition of a column's values. */
export interface Levels {
  definition: number;
  repetition: number;
  element: SchemaElement;
}

/** A column of a row group, by its path with dots. */
export type Columns = ReadonlyMap<string, Levels>;

/**
 * Checks the footer's counts and offsets against the size of the file.
 * @returns the columns that hold values.
 * @throws {Error} that says what is wrong.
 */
export function checkMetadata(metadata: FileMetaData, size: number): Columns {
  const columns = columnsOf(metadata.schema);
  const rows = metadata.row_groups.reduce((sum, { num_rows }) => sum + count(num_rows, "rows"), 0);
  if (rows !== Number(metadata.num_rows)) {
    throw new Error(`${metadata.num_rows} rows, but ${rows} in its row groups`);
  }
  if (rows > FREE_ROWS + size) {
    throw new TooLarge(
      `cannot be read as Parquet: ${rows} rows in ${size} bytes, which is more than one a byte: a file like ` +
        "that may unfold without end; write it with less compression, or as JSON Lines",
    );
  }
  let bytes = 0;
  for (const group of metadata.row_groups) {
    const seen = new Set<string>();
    for (const { meta_data: meta } of group.columns) {
      if (!meta) throw new Error("a column without a description");
      const path = meta.path_in_schema.join(".");
      // The decoder leaves a column that comes twice to itself, with whatever is wrong in it.
      if (!columns.has(path) || seen.has(path)) {
        throw new Error(`a column ${path} that the schema does not have`);
      }
      seen.add(path);
      const { start, end } = rangeOf(meta);
      if (!(end <= size)) throw new Error(`bytes ${start} to ${end} are not in the file`);
      bytes += end - start;
      if (count(meta.num_values, "values") > FREE_ROWS + size) {
        throw new Error(`${meta.num_values} values in ${size} bytes`);
      }
    }
  }
  if (bytes > size) throw new Error("columns that share their bytes");
  return columns;
}

/** Where a column of a row group lies in the file. */
export function rangeOf(meta: ColumnMetaData): { start: number; end: number } {
  const start = count(meta.dictionary_page_offset || meta.data_page_offset, "bytes");
  return { start, end: start + count(meta.total_compressed_size, "bytes") };
}

function columnsOf(schema: SchemaElement[]): Columns {
  const columns = new Map<string, Levels>();
  let next = 0;
  // The decoder takes the root for a level of its own.
  if (schema[0]) schema[0].repetition_type = undefined;
  const visit = (path: string[], definition: number, repetition: number): void => {
    const element = schema[next++];
    if (!element) throw new Error("a schema that ends early");
    if (path.length > MOST_LEVELS) throw new Error(`columns nested more than ${MOST_LEVELS} deep`);
    // Decoders of their own, for what no text is.
    const kind = element.logical_type?.type;
    if (kind === "VARIANT" || kind === "GEOMETRY" || kind === "GEOGRAPHY") element.logical_type = undefined;
    const children = element.num_children ?? 0;
    const inner = next === 1 ? path : [...path, element.name];
    if (next > 1) {
      if (element.repetition_type !== "REQUIRED") definition++;
      if (element.repetition_type === "REPEATED") repetition++;
    }
    if (children === 0) columns.set(inner.join("."), { definition, repetition, element });
    for (let i = 0; i < children; i++) visit(inner, definition, repetition);
  };
  visit([], 0, 0);
  return columns;
}
