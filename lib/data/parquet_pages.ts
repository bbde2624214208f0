/**
 * What must hold of a column's pages before they are given to the decoder, which trusts the counts in them: a run of
 * a few bytes may claim two thousand million values.
 */
import type { ColumnMetaData } from "npm:hyparquet@^1.31.5";
import { parquetHeader } from "npm:hyparquet@^1.31.5/src/column.js";
import { readRleBitPackedHybrid } from "npm:hyparquet@^1.31.5/src/encoding.js";
import { checkThrift } from "./parquet_thrift.ts";
import { Budget, CHUNK_RATIO, count, FREE_ROWS } from "./parquet_limits.ts";
import type { Levels } from "./parquet_metadata.ts";
import { checkRuns, checkValues, widthOf } from "./parquet_encodings.ts";

/**
 * What a page may unfold to besides a multiple of its bytes, as much as pages usually have, and deflate's largest
 * ratio.
 */
const FREE_PAGE_BYTES = 2 ** 20;
const PAGE_RATIO = 1032;
/** The same for all pages of a column in a row group. */
const FREE_CHUNK_BYTES = 2 ** 26;

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
