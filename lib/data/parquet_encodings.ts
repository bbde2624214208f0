/** What must hold of the values of a page, in every encoding, before they are decoded. */
import type { SchemaElement } from "npm:hyparquet@^1.31.5";
import { deltaBinaryUnpack } from "npm:hyparquet@^1.31.5/src/delta.js";
import { LONGEST_ROW } from "./jsonl.ts";
import { VarintReader } from "./parquet_thrift.ts";
import { CHUNK_RATIO, TooLarge } from "./parquet_limits.ts";

/** What texts that begin as the ones before them do may unfold to besides a multiple of their bytes. */
const FREE_TEXT_BYTES = 2 ** 24;
/** Values by which a packed run may go beyond the end. */
const PADDING = 512;

/** Bits of a level. */
export const widthOf = (most: number) => 32 - Math.clz32(most);

/** Levels in runs: as many as there are values, where the column has any. */
export function checkRuns(bytes: Uint8Array, most: number, values: number): void {
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

export function checkValues(
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
