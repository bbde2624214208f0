import { type FileHandle, open } from "node:fs/promises";
import { basename } from "node:path";
import { crc32 } from "node:zlib";
import type { PackedSizes, Pair } from "./pair.ts";
import { UserError } from "../errors.ts";
import type { HashedFile } from "./hash.ts";
import type { CountedNotice } from "./notices.ts";
import { describePlace } from "./row.ts";
import {
  areValid,
  COLUMNS,
  decodeFacts,
  decodeFooter,
  type Facts,
  type Footer,
  FOOTER_BYTES,
  JUDGEMENTS,
  type PairColumns,
  storedTokens,
  TRUNCATIONS,
  UNITS,
} from "./store_format.ts";

/** Counts over the pairs of a split. */
export interface PairStatistics {
  /** Rows that became pairs. */
  rows: number;
  /** Pairs that were cut to fit `maxLength`, */
  truncated: number;
  /** and those of them whose responses were cut too. */
  truncatedResponses: number;
  /** What may not be meant in the rows. */
  notices: CountedNotice[];
  /** Tokens of all sequences, each with its prompt. */
  tokens: number;
  /** Tokens of the longest sequence. */
  longest: number;
  /** Responses that are trained on, */
  responses: number;
  /** and those of them with an end token: all but those that were cut before it. */
  endedResponses: number;
  /** Of unpaired data: how many responses were judged to be good, and how many were not. */
  judged?: { desirable: number; undesirable: number };
}

/** The tokenized pairs of a split, in a file: what is in memory of each is its row in `columns`. */
export interface PairStore {
  /** Names what the pairs are: a hash of all that they follow from. */
  readonly id: string;
  /** Pairs. */
  readonly length: number;
  /** Counts over all of them. */
  readonly statistics: PairStatistics;
  /**
   * What is in memory of each pair.
   *
   * @internal
   */
  readonly columns: PairColumns;
  /** What each pair takes in a packed row. */
  readonly sizes: PackedSizes;
  /** The data files, in order. */
  readonly files: readonly HashedFile[];
  /**
   * The reference's sums, chosen and rejected of each pair, where the loss needs them: pairs are then read with theirs.
   *
   * @internal
   */
  reference?: Float32Array;
  /** Reads pairs by index, in the order given. */
  read(indices: readonly number[]): Promise<Pair[]>;
  /** Where the row of pair `index` stands, for messages. */
  where(index: number): string;
  /** Gives the file back; nothing can be read afterwards. */
  close(): Promise<void>;
}

const CHECKED_AT_A_TIME = 2 ** 22;

/**
 * Opens the file of a cached split, after a look at every byte of it.
 *
 * @param files where the data files are now.
 * @returns undefined where there is no such file, or "damaged" where it is not as it was written.
 */
export async function openStore(
  path: string,
  files: readonly HashedFile[],
): Promise<PairStore | "damaged" | undefined> {
  const file = await open(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
    throw new UserError(`${path}: cannot be read: ${error.message}`);
  });
  if (!file) return undefined;
  const footer = await checkedFooter(file);
  if (!footer) {
    await file.close();
    return "damaged";
  }
  const rest = await readBytes(
    file,
    footer.tokenBytes,
    footer.pairs * COLUMNS.length * 4 + footer.factsBytes,
  );
  const columns = Object.fromEntries(
    COLUMNS.map((name, i) => [name, new Uint32Array(rest, i * footer.pairs * 4, footer.pairs)]),
  ) as PairColumns;
  const text = new TextDecoder().decode(new Uint8Array(rest, footer.pairs * COLUMNS.length * 4));
  const facts = decodeFacts(text, footer.pairs);
  if (facts && areValid(columns, footer, files.length)) {
    return new FileStore(file, path, footer, columns, facts, files);
  }
  await file.close();
  return "damaged";
}

class FileStore implements PairStore {
  reference?: Float32Array;
  readonly id: string;
  readonly length: number;
  readonly statistics: PairStatistics;
  readonly sizes: PackedSizes;
  /** The token before which each pair begins in the file. */
  readonly #starts: Float64Array;

  constructor(
    readonly file: FileHandle,
    readonly path: string,
    readonly footer: Footer,
    readonly columns: PairColumns,
    facts: Facts,
    readonly files: readonly HashedFile[],
  ) {
    this.id = basename(path);
    this.length = footer.pairs;
    this.#starts = new Float64Array(this.length);
    for (let i = 1; i < this.length; i++) {
      this.#starts[i] = this.#starts[i - 1] + storedTokens(columns, i - 1);
    }
    this.sizes = { tokens: columns.tokens, labels: columns.labels, longest: facts.longest };
    const judged = (as: boolean) => columns.desirable.filter((found) => JUDGEMENTS[found] === as).length;
    const [desirable, undesirable] = [true, false].map(judged);
    this.statistics = {
      ...facts,
      ...(desirable + undesirable > 0 && { judged: { desirable, undesirable } }),
      notices: facts.notices.map(({ first, ...notice }) => ({
        ...notice,
        first: first.map(({ index, ...rest }) => ({ where: this.where(index), ...rest })),
      })),
    };
  }

  read(indices: readonly number[]): Promise<Pair[]> {
    return Promise.all(indices.map((index) => this.#readOne(index)));
  }

  async #readOne(index: number): Promise<Pair> {
    const { prefix, chosenLength, chosenPrompt, rejectedLength, rejectedPrompt } = this.columns;
    const { truncated, desirable } = this.columns;
    const { idBytes } = this.footer;
    const count = storedTokens(this.columns, index);
    const bytes = await readBytes(this.file, this.#starts[index] * idBytes, count * idBytes);
    const ids = [...idBytes === 2 ? new Uint16Array(bytes) : new Uint32Array(bytes)];
    const length = chosenLength[index];
    return {
      chosen: { ids: ids.slice(0, length), promptLength: chosenPrompt[index] },
      ...(rejectedLength[index] > 0 && {
        rejected: {
          ids: [...ids.slice(0, prefix[index]), ...ids.slice(length)],
          promptLength: rejectedPrompt[index],
        },
      }),
      ...(this.reference && {
        reference: { chosen: this.reference[2 * index], rejected: this.reference[2 * index + 1] },
      }),
      ...(desirable[index] > 0 && { desirable: JUDGEMENTS[desirable[index]] }),
      truncated: TRUNCATIONS[truncated[index]],
      where: this.where(index),
    };
  }

  where(index: number): string {
    const { file, unit, number } = this.columns;
    return describePlace({
      file: this.files[file[index]].path,
      unit: UNITS[unit[index]],
      number: number[index],
    });
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

async function checkedFooter(file: FileHandle): Promise<Footer | undefined> {
  const { size } = await file.stat();
  if (size < FOOTER_BYTES) return undefined;
  const last = new Uint8Array(await readBytes(file, size - FOOTER_BYTES, FOOTER_BYTES));
  const footer = decodeFooter(last, size);
  if (!footer) return undefined;
  let checksum = 0;
  for (let at = 0; at < size - 4; at += CHECKED_AT_A_TIME) {
    const piece = await readBytes(file, at, Math.min(CHECKED_AT_A_TIME, size - 4 - at));
    checksum = crc32(new Uint8Array(piece), checksum);
  }
  return checksum === footer.checksum ? footer : undefined;
}

async function readBytes(file: FileHandle, start: number, length: number): Promise<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const { bytesRead } = await file.read(bytes, at, length - at, start + at);
    if (bytesRead === 0) throw new UserError("the cache of tokenized pairs was cut short while it was read");
    at += bytesRead;
  }
  return bytes.buffer;
}
