import { isObject } from "../text/json.ts";

/**
 * The file of a cached split: [tokens][columns][facts as JSON][footer]. Tokens are u16 or u32, for each pair the
 * chosen sequence and the rejected one after the prefix that they share. Columns are u32, one number a pair. The
 * footer holds the sizes of the parts and, last, the CRC-32 of everything before. Numbers are little-endian.
 */
export const COLUMNS = [
  /** Tokens that both sequences begin with and that carry no label. */
  "prefix",
  "chosenPrompt",
  "chosenLength",
  "rejectedPrompt",
  /** 0 where the loss does not look at `rejected`. */
  "rejectedLength",
  /** What the pair takes in a packed row. */
  "tokens",
  "labels",
  /** An index of `TRUNCATIONS`. */
  "truncated",
  /** An index of `JUDGEMENTS`. */
  "desirable",
  /** The row's place: an index of the data files, an index of `UNITS`, and its number. */
  "file",
  "unit",
  "number",
] as const;

/** What is known of every pair of a split without reading its tokens: numbers of pair i at index i. */
export type PairColumns = Readonly<Record<typeof COLUMNS[number], Uint32Array<ArrayBuffer>>>;

export const TRUNCATIONS = [false, "prompt", "response"] as const;

/** Of unpaired data: what was said of the response. */
export const JUDGEMENTS = [undefined, false, true] as const;

export const UNITS = ["line", "row"] as const;

/** To be raised with every change of this form: it is in the name of the file. */
export const STORE_FORMAT = 3;

/** What is known of the whole split. */
export interface Facts {
  rows: number;
  truncated: number;
  truncatedResponses: number;
  tokens: number;
  longest: number;
  responses: number;
  endedResponses: number;
  /** What may not be meant in the rows: how many have it, and the first pairs of them. */
  notices: StoredNotice[];
}

interface StoredNotice {
  kind: string;
  count: number;
  first: { index: number; detail?: string }[];
}

/** Places that are kept of each kind of notice, and kinds of a split. */
export const NOTICES_PLACED = 5;
export const MOST_NOTICES = 64;

export const FOOTER_BYTES = 32;
const MAGIC = 0x31505353;

export interface Footer {
  pairs: number;
  tokenBytes: number;
  /** Bytes of 2 or 4 for each token id. */
  idBytes: number;
  factsBytes: number;
}

/**
 * The facts in their text, or undefined where they are none of a file with so many pairs: a checksum says that a file
 * is as it was written, not who wrote it.
 */
export function decodeFacts(text: string, pairs: number): Facts | undefined {
  let facts: unknown;
  try {
    facts = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(facts) || facts.rows !== pairs) return undefined;
  const { truncated, truncatedResponses, tokens, longest, responses, endedResponses, notices } = facts;
  const isCount = (value: unknown, below = Infinity) =>
    Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < below;
  const counts = [truncated, truncatedResponses, tokens, longest, responses, endedResponses];
  const valid = counts.every((value) => isCount(value)) &&
    Array.isArray(notices) && notices.length <= MOST_NOTICES &&
    notices.every((notice) =>
      isObject(notice) && typeof notice.kind === "string" && isCount(notice.count, pairs + 1) &&
      Array.isArray(notice.first) && notice.first.length <= NOTICES_PLACED &&
      notice.first.every((place) =>
        isObject(place) && isCount(place.index, pairs) &&
        ["string", "undefined"].includes(typeof place.detail)
      )
    );
  return valid ? facts as unknown as Facts : undefined;
}

/** Tokens that the file has of pair `index`. */
export function storedTokens(columns: PairColumns, index: number): number {
  const { prefix, chosenLength, rejectedLength } = columns;
  return chosenLength[index] + (rejectedLength[index] > 0 ? rejectedLength[index] - prefix[index] : 0);
}

/** Whether every pair of the columns is one that the tokens and the `files` data files can have. */
export function areValid(
  columns: PairColumns,
  { pairs, tokenBytes, idBytes }: Footer,
  files: number,
): boolean {
  const { prefix, chosenPrompt, chosenLength, rejectedPrompt, rejectedLength } = columns;
  const { truncated, desirable, file, unit } = columns;
  let stored = 0;
  for (let i = 0; i < pairs; i++) {
    const valid = chosenPrompt[i] <= chosenLength[i] && rejectedPrompt[i] <= rejectedLength[i] &&
      prefix[i] <= chosenLength[i] && (rejectedLength[i] === 0 || prefix[i] <= rejectedLength[i]) &&
      truncated[i] < TRUNCATIONS.length && desirable[i] < JUDGEMENTS.length && file[i] < files &&
      unit[i] < UNITS.length;
    if (!valid) return false;
    stored += storedTokens(columns, i);
  }
  return stored * idBytes === tokenBytes;
}

/** The footer but for its last four bytes, the checksum. */
export function encodeFooter({ pairs, tokenBytes, idBytes, factsBytes }: Footer): Uint8Array {
  const view = new DataView(new ArrayBuffer(FOOTER_BYTES - 4));
  view.setFloat64(0, pairs, true);
  view.setFloat64(8, tokenBytes, true);
  view.setUint32(16, idBytes, true);
  view.setUint32(20, factsBytes, true);
  view.setUint32(24, MAGIC, true);
  return new Uint8Array(view.buffer);
}

/** A footer and its checksum, or undefined where the bytes are no footer of a file of `size` bytes. */
export function decodeFooter(bytes: Uint8Array, size: number): Footer & { checksum: number } | undefined {
  if (bytes.length !== FOOTER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const footer = {
    pairs: view.getFloat64(0, true),
    tokenBytes: view.getFloat64(8, true),
    idBytes: view.getUint32(16, true),
    factsBytes: view.getUint32(20, true),
    checksum: view.getUint32(28, true),
  };
  const { pairs, tokenBytes, idBytes, factsBytes } = footer;
  const counts = [pairs, tokenBytes, tokenBytes / idBytes];
  const whole = (idBytes === 2 || idBytes === 4) &&
    counts.every((count) => Number.isSafeInteger(count) && count >= 0) &&
    tokenBytes + pairs * COLUMNS.length * 4 + factsBytes + FOOTER_BYTES === size;
  return whole && view.getUint32(24, true) === MAGIC ? footer : undefined;
}
