/**
 * What must hold before a Parquet file is given to its decoder, which trusts the counts in it: a run of a few bytes may claim
 * two thousand million values.
 */
import type { ColumnMetaData, FileMetaData, SchemaElement } from "npm:hyparquet@^1.31.5";
import { parquetHeader } from "npm:hyparquet@^1.31.5/src/column.js";
import { deltaBinaryUnpack } from "npm:hyparquet@^1.31.5/src/delta.js";
import { readRleBitPackedHybrid } from "npm:hyparquet@^1.31.5/src/encoding.js";
import { LONGEST_ROW } from "./jsonl.ts";
import { checkThrift, VarintReader } from "./parquet_thrift.ts";

/** A column of a message list has five levels. */
const MOST_LEVELS = 16;
/** Rows that any file may have, however short, since rows that are alike take no room. */
const FREE_ROWS = 2 ** 20;
/** What a page may unfold to besides a multiple of its bytes, as much as pages usually have, and deflate's largest ratio. */
const FREE_PAGE_BYTES = 2 ** 20;
const PAGE_RATIO = 1032;
/** The same for texts that begin as the ones before them do. */
const FREE_TEXT_BYTES = 2 ** 24;
/** The same for all pages of a column in a row group. */
const FREE_CHUNK_BYTES = 2 ** 26;
const CHUNK_RATIO = 64;
/**
 * Memory that the columns of a row group may take when they are decoded, all at once: so much, and this multiple of their
 * bytes in the file.
 */
const FREE_GROUP_BYTES = 2 ** 29;
const GROUP_RATIO = 16;
/** What the decoder was measured to take for a value besides its text, and for each level of lists and structures around it. */
const BYTES_PER_VALUE = 64;
const BYTES_PER_LEVEL = 270;
/** Values by which a packed run may go beyond the end. */
const PADDING = 512;

/** What is whole, and larger than it may be. */
export class TooLarge extends Error {}

/** The deepest definition and repetition of a column's values. */
interface Levels {
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
      `cannot be read as Parquet: ${rows} rows in ${size} bytes, which is more than one a byte: a file like that may unfold without end; write it with less ` +
        "compression, or as JSON Lines",
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
      `a row group of ${this.rows} rows, ${this.values} values, takes more memory than its bytes in the file allow: write the file again in ` +
        "smaller ones, as pyarrow's write_table(..., row_group_size=1000) does",
    );
  }
}

function count(value: unknown, unit: string): number {
  const number = typeof value === "bigint" || typeof value === "number" ? Number(value) : NaN;
  if (!Number.isSafeInteger(number) || number < 0) throw new Error(`${value} ${unit}`);
  return number;
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

/** Unpacks a page to `length` bytes. */
export type Decompress = (input: Uint8Array, length: number) => Uint8Array;

/**
 * Checks every page of a column in a row group.
 *
 * @param bytes the column's, as `rangeOf` says.
 * @param decompress undefined where pages are as they are.
 * @throws {Error} that says what is wrong.
 */
export function checkPages(
  bytes: Uint8Array,
  meta: ColumnMetaData,
  levels: Levels,
  budget: Budget,
  decompress?: Decompress,
): void {
  const values = count(meta.num_values, "values");
  let unfolded = 0;
  let seen = 0;
  for (let at = 0; at < bytes.length - 1;) {
    const start = checkThrift(bytes, at);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const header = parquetHeader({ view, offset: at });
    const packed = count(header.compressed_page_size, "bytes");
    const length = count(header.uncompressed_page_size, "bytes");
    if (packed > bytes.length - start) {
      throw new Error(`a page of ${packed} bytes in ${bytes.length - start}`);
    }
    unfolded += length;
    if (
      length > FREE_PAGE_BYTES + PAGE_RATIO * packed ||
      unfolded > FREE_CHUNK_BYTES + CHUNK_RATIO * bytes.length
    ) {
      throw new Error(`a page that unfolds from ${packed} bytes to ${length}`);
    }
    const content = bytes.subarray(start, start + packed);
    // As bytes, and as texts.
    budget.spend(2 * length);
    const unpack = (part: Uint8Array, size: number) => decompress ? decompress(part, size) : part;
    const { data_page_header: one, data_page_header_v2: two, dictionary_page_header: dictionary } = header;
    if (header.type === "DICTIONARY_PAGE") {
      if (count(dictionary?.num_values, "values") > FREE_ROWS + bytes.length) {
        throw new Error(`a dictionary of ${dictionary?.num_values} values`);
      }
      checkValues(unpack(content, length), dictionary!.num_values, "PLAIN", levels.element, true);
    } else if (header.type === "DATA_PAGE" && one) {
      seen += count(one.num_values, "values");
      if (seen > values) throw new Error(`more than the ${values} values of the column`);
      checkPage(unpack(content, length), one.num_values, one.encoding, levels);
    } else if (header.type === "DATA_PAGE_V2" && two) {
      seen += count(two.num_values, "values");
      count(two.num_rows, "rows");
      if (seen > values) throw new Error(`more than the ${values} values of the column`);
      const repetitions = count(two.repetition_levels_byte_length, "bytes");
      const definitions = count(two.definition_levels_byte_length, "bytes");
      if (repetitions + definitions > packed) throw new Error(`levels of more than ${packed} bytes`);
      const present = two.num_values - count(two.num_nulls, "nulls");
      if (present < 0) throw new Error(`${two.num_nulls} nulls in ${two.num_values} values`);
      const rest = content.subarray(repetitions + definitions);
      checkRuns(content.subarray(0, repetitions), levels.repetition, two.num_values);
      checkRuns(content.subarray(repetitions, repetitions + definitions), levels.definition, two.num_values);
      const plain = two.is_compressed === false
        ? rest
        : unpack(rest, count(length - repetitions - definitions, "bytes"));
      checkValues(plain, present, two.encoding, levels.element, false);
    }
    at = start + packed;
  }
}

/** A page of the first kind: levels, each with its length in front, and values. */
function checkPage(page: Uint8Array, values: number, encoding: string | undefined, levels: Levels): void {
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  let at = 0;
  let present = values;
  for (const most of [levels.repetition, levels.definition]) {
    if (most === 0) continue;
    const length = view.getUint32(at, true);
    at += 4;
    if (length > page.length - at) throw new Error(`levels of ${length} bytes`);
    const runs = page.subarray(at, at + length);
    checkRuns(runs, most, values);
    if (most === levels.definition) {
      const found: number[] = new Array(values);
      const runsView = new DataView(runs.buffer, runs.byteOffset, runs.length);
      readRleBitPackedHybrid({ view: runsView, offset: 0 }, widthOf(most), found, length);
      present = found.reduce((sum, level) => sum + (level === most ? 1 : 0), 0);
    }
    at += length;
  }
  checkValues(page.subarray(at), present, encoding, levels.element, true);
}

const widthOf = (most: number) => 32 - Math.clz32(most);

/** Levels in runs: as many as there are values, where the column has any. */
function checkRuns(bytes: Uint8Array, most: number, values: number): void {
  if (most === 0) return;
  const seen = walkRuns(bytes, widthOf(most), values);
  if (seen < values) throw new Error(`${seen} levels for ${values} values`);
}

/** Numbers that the runs in `bytes` stand for, `most` of them at most. */
function walkRuns(bytes: Uint8Array, width: number, most: number): number {
  const reader = new VarintReader(bytes);
  let seen = 0;
  while (seen < most && reader.at < bytes.length) {
    const head = reader.varint();
    const isPacked = head % 2 === 1;
    const run = isPacked ? 8 * Math.floor(head / 2) : Math.floor(head / 2);
    if (run > most - seen + (isPacked ? PADDING : 0)) {
      throw new Error(`a run of ${run} for ${most - seen} values`);
    }
    // The last packed run may be cut where its values end. The decoder takes a byte of it in any case.
    if (isPacked) reader.at += Math.max(1, (run / 8) * width);
    else reader.skip(Math.ceil(width / 8));
    seen += run;
  }
  return seen;
}

function checkValues(
  bytes: Uint8Array,
  values: number,
  encoding: string | undefined,
  { type, type_length: width = 0 }: SchemaElement,
  isFirstKind: boolean,
): void {
  switch (encoding) {
    case "PLAIN":
      if (type === "BYTE_ARRAY") checkTexts(bytes, values);
      return;
    case "PLAIN_DICTIONARY":
    case "RLE_DICTIONARY":
    case "RLE": {
      if (values === 0 && bytes.length === 0) return;
      // Truth values have the length of the runs in front, others how many bits an index has.
      const isTruth = isFirstKind ? type === "BOOLEAN" : encoding === "RLE";
      if (!isTruth && bytes[0] > 32) throw new Error(`indices of ${bytes[0]} bits`);
      return void walkRuns(bytes.subarray(isTruth ? 4 : 1), isTruth ? 1 : bytes[0], values);
    }
    case "DELTA_BINARY_PACKED":
      return void walkDeltas(bytes, 0, values);
    case "DELTA_LENGTH_BYTE_ARRAY":
      return unpackDeltas(bytes, 0, values).numbers.forEach((length) => checkText(length, bytes.length));
    case "DELTA_BYTE_ARRAY": {
      const prefixes = unpackDeltas(bytes, 0, values);
      walkDeltas(bytes, prefixes.end, values);
      // Each text may begin as the one before it does.
      const unfolded = prefixes.numbers.reduce((total, number) => total + number, 0);
      if (unfolded > FREE_TEXT_BYTES + CHUNK_RATIO * bytes.length) {
        throw new Error(`texts that unfold from ${bytes.length} bytes to ${unfolded}`);
      }
      return;
    }
    case "BYTE_STREAM_SPLIT": {
      const each = type === "FIXED_LEN_BYTE_ARRAY" ? width : type === "DOUBLE" || type === "INT64" ? 8 : 4;
      if (values * each > bytes.length) {
        throw new Error(`${values} values of ${each} bytes in ${bytes.length}`);
      }
    }
  }
}

/** Texts, each with its length in front. */
function checkTexts(bytes: Uint8Array, values: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let i = 0, at = 0; i < values; i++) {
    const length = view.getUint32(at, true);
    at += 4 + length;
    checkText(length, bytes.length - at + length);
  }
}

/** A text may be as long as a line of JSON. */
function checkText(length: number, available: number): void {
  if (!(length >= 0 && length <= available)) throw new Error(`a text of ${length} bytes in ${available}`);
  if (length > LONGEST_ROW) {
    throw new TooLarge(`a text of ${length} bytes, and ${LONGEST_ROW} is the most that is read`);
  }
}

/** Walks over numbers as differences; gives where they end. */
function walkDeltas(bytes: Uint8Array, start: number, values: number): number {
  if (values === 0) return start;
  const reader = new VarintReader(bytes, start);
  const [block, parts] = [reader.varint(), reader.varint()];
  const each = block / parts;
  if (!(parts > 0 && parts <= 2 ** 16 && block <= 2 ** 20 && each > 0 && each % 32 === 0)) {
    throw new Error(`blocks of ${block} numbers in ${parts} parts`);
  }
  reader.varint();
  reader.varint();
  for (let seen = 1; seen < values;) {
    reader.varint();
    const widths = reader.at;
    reader.skip(parts);
    for (let part = 0; part < parts && seen < values; part++) {
      if (bytes[widths + part] > 64) throw new Error(`differences of ${bytes[widths + part]} bits`);
      // The decoder itself ends where the bytes do.
      reader.at += each * bytes[widths + part] / 8;
      seen += each;
    }
  }
  return reader.at;
}

function unpackDeltas(
  bytes: Uint8Array,
  start: number,
  values: number,
): { numbers: Int32Array; end: number } {
  walkDeltas(bytes, start, values);
  const numbers = new Int32Array(values);
  const reader = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length), offset: start };
  if (values > 0) deltaBinaryUnpack(reader, values, numbers);
  return { numbers, end: reader.offset };
}
