import { rm } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import type { OnProgress } from "../progress/progress.ts";
import type { HashedFile } from "./hash.ts";
import type { Tokenizer, Vocabulary } from "../tokenizer/tokenizer.ts";
import { VERSION } from "../program/version.ts";
import { removeOrphans } from "../files/cache_folder.ts";
import { changed, checkUnchanged, rememberedHashes, sha256 } from "./file_hash.ts";
import { pairOf, type PairRules } from "./pair_of.ts";
import { TokenizerPool } from "./pool.ts";
import { type DataSet, formatOf, readMixer } from "./read.ts";
import type { Row } from "./row.ts";
import { canonicalRow, type ShapeOptions } from "./shapes.ts";
import { filesOf } from "./splits.ts";
import { openStore, type PairStore } from "./store.ts";
import { STORE_FORMAT } from "./store_format.ts";
import { type StoredRow, writeStore } from "./store_write.ts";
import { judgedRows, withKl } from "./unpaired.ts";

/** What to read and how; see `readMixer`, `render` and `tokenizePair`. */
export interface PairOptions extends PairRules {
  /** The data sets, in order. */
  mixer: readonly DataSet[];
  /** Name with "train" or "test" in it. */
  split: string;
  /**
   * Where the loss reads single judged responses: so many make a micro-batch, in which each gets another's, as KTO
   * needs it; with 0 none gets any. Then `usesRejected` is false.
   */
  judgedPerBatch?: number;
  /** A pool works in several threads, and stops what does not come to an end; a tokenizer works in this one. */
  tokenizer: Tokenizer | TokenizerPool;
  /** Folder for tokenized pairs; see `cacheFolder`. */
  cache: string;
  /** Tokenize again what the cache has. */
  overwriteCache?: boolean;
  /** Hears of files that are hashed and rows that are tokenized; of none where the cache has them. */
  onProgress?: OnProgress;
  /** Notes for people. */
  log?: (level: "debug" | "info" | "warning", message: string) => void;
  /** Stops the tokenizing; its reason is thrown. */
  signal?: AbortSignal;
}

/**
 * To be raised with every change of what rows become: it is in the name of what the cache holds, and in checkpoints.
 */
export const RULES = 2;
const ROWS_PER_PROGRESS = 64;

/**
 * The pairs of a split, in the order of the files: read, rendered and tokenized row by row into a file of the cache,
 * or found there. That file's name is a hash of all that the pairs follow from: the bytes of the data files,
 * tokenizer, chat template (and the date, where that asks for it), shares, lengths and rules.
 *
 * @throws {UserError} with its place for the first row that cannot be used, and for a split without rows.
 */
export async function openPairs(options: PairOptions): Promise<PairStore> {
  const { mixer, split, cache, vocabSize, log, onProgress } = options;
  const { fingerprint, chatTemplate, templateDate, eosTokenId } = vocabularyOf(options);
  const sets = await Promise.all(mixer.map(async ({ path, share, config, columns, rows }) => {
    if (rows) return { share, files: [{ path: rows.path, sha256: rows.sha256 }], columns, isMemory: true };
    const paths = await filesOf(path, split, config);
    const files = await rememberedHashes(paths, cache, "hashing data", onProgress);
    return { share, files, columns, isMemory: false };
  }));
  const files = sets.flatMap((set) => set.files);
  const onDisk = sets.filter(({ isMemory }) => !isMemory).flatMap((set) => set.files);
  const path = join(
    cache,
    "pairs",
    sha256(JSON.stringify({
      rules: RULES,
      format: STORE_FORMAT,
      version: VERSION,
      sets: sets.map(({ share, files, columns, isMemory }) => ({
        share,
        columns: [...columns ?? []],
        files: files.map(({ path, sha256 }) => [isMemory ? "memory" : formatOf(path), sha256]),
      })),
      isTrain: split.includes("train"),
      judgedPerBatch: options.judgedPerBatch ?? null,
      tokenizer: fingerprint,
      template: chatTemplate ?? null,
      date: templateDate ?? null,
      ...rulesOf(options),
    })),
  );
  const cached = options.overwriteCache ? undefined : await openStore(path, files);
  if (cached === "damaged") {
    log?.("warning", `${path}: the cached pairs are damaged: tokenizing again`);
    await rm(path, { force: true });
  } else if (cached) {
    log?.("debug", `${split}: tokenized before, found in ${path}`);
    return cached;
  }
  for (const folder of ["pairs", "hashes"]) await removeOrphans(join(cache, folder));
  const { judgedPerBatch, maxLength } = options;
  const read = unchanged(options, files, onDisk);
  const rows = judgedPerBatch ? withKl(read, judgedPerBatch, maxLength) : read;
  await writeStore(path, rows, { vocabSize, eosTokenId });
  const store = await openStore(path, files);
  if (store === "damaged" || !store) throw new UserError(`${path}: was changed as soon as it was written`);
  return store;
}

/** Rows as pairs, where the files are the same afterwards as they were when their hashes named the store. */
async function* unchanged(
  options: PairOptions,
  files: readonly HashedFile[],
  onDisk: readonly HashedFile[],
): AsyncGenerator<StoredRow> {
  try {
    yield* tokenized(options, files);
  } catch (error) {
    // What is wrong with a row may only be that it is half written.
    if (error instanceof UserError) await checkUnchanged(onDisk, options.cache);
    throw error;
  }
  await checkUnchanged(onDisk, options.cache);
}

/** Rows as pairs, one at a time. */
async function* tokenized(options: PairOptions, files: readonly HashedFile[]): AsyncGenerator<StoredRow> {
  const { mixer, split, onProgress, signal } = options;
  let rows = 0;
  const report = () => onProgress?.({ what: `tokenizing ${split}`, done: rows, unit: "rows" });
  const read = readMixer(mixer, split);
  const shapes = options.judgedPerBatch === undefined
    ? shaped(read, options)
    : judgedRows(read, vocabularyOf(options).chatTemplate !== undefined);
  for await (const { pair, notices, row } of pairsOf(shapes, options)) {
    signal?.throwIfAborted();
    const file = files.findIndex(({ path }) => path === row.place.file);
    if (file < 0) throw changed(row.place.file);
    const { place, desirable } = row;
    yield { pair: desirable === undefined ? pair : { ...pair, desirable }, notices, place, file };
    rows++;
    if (rows % ROWS_PER_PROGRESS === 0) report();
  }
  if (rows === 0) {
    throw new UserError(
      `${
        mixer.some(({ rows }) => rows) ? "data" : "dataset_mixer"
      }: expected rows in the split "${split}", found none in ${
        mixer.map(({ path, share, rows }) => rows ? path : `${path} (share ${share})`).join(", ")
      }`,
    );
  }
  onProgress?.({ what: `tokenizing ${split}`, done: rows, total: rows, unit: "rows" });
}

/**
 * Rows in the one shape that is rendered.
 * @throws {UserError} with its place, for the first that has none that is known.
 */
export async function* shaped(
  rows: AsyncIterable<Row>,
  options: ShapeOptions,
): AsyncGenerator<Row> {
  for await (const row of rows) {
    try {
      yield { ...row, row: canonicalRow(row.row, options) };
    } catch (error) {
      throw error instanceof UserError ? new UserError(`${row.where}: ${error.message}`) : error;
    }
  }
}

async function* pairsOf(rows: AsyncIterable<Row>, options: PairOptions) {
  const { tokenizer } = options;
  if (tokenizer instanceof TokenizerPool) return yield* tokenizer.pairs(rows, rulesOf(options));
  for await (const row of rows) yield { ...pairOf(row.row, row.where, tokenizer, options), row };
}

const vocabularyOf = ({ tokenizer }: PairOptions): Vocabulary =>
  tokenizer instanceof TokenizerPool ? tokenizer.vocabulary : tokenizer;

/** Of the options those that a worker is sent. */
function rulesOf(options: PairRules): PairRules {
  const { vocabSize, usesRejected, autoInsertEmptySystemMsg, labelGenerationPrompt = true } = options;
  const { maxLength, maxPromptLength, truncationMode } = options;
  return {
    vocabSize,
    usesRejected,
    autoInsertEmptySystemMsg,
    labelGenerationPrompt,
    maxLength,
    maxPromptLength,
    truncationMode,
  };
}
