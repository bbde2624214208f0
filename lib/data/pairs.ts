import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { DatasetShare } from "../config/values.ts";
import { UserError } from "../errors.ts";
import type { HashedFile } from "../report/run_report.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { VERSION } from "../version.ts";
import { rememberedHash, sha256 } from "./file_hash.ts";
import { formatOf, readMixer } from "./read.ts";
import { render, type RenderOptions } from "./render.ts";
import type { Row } from "./row.ts";
import { filesOf } from "./splits.ts";
import { openStore, type PairStore } from "./store.ts";
import { type StoredRow, writeStore } from "./store_write.ts";
import { type Pair, tokenizePair, type Truncation } from "./tokenize.ts";

/** What to read and how; see `readMixer`, `render` and `tokenizePair`. */
export interface PairOptions extends RenderOptions, Truncation {
  mixer: readonly DatasetShare[];
  /** Name with "train" or "test" in it. */
  split: string;
  tokenizer: Tokenizer;
  /** Rows of the model's embedding: every token id must be below. */
  vocabSize: number;
  /** Folder for tokenised pairs; see `cacheFolder`. */
  cache: string;
  /** Tokenise again what the cache has. */
  overwriteCache?: boolean;
  /** Called with the rows and tokens so far, now and then and at the end; not at all where the cache has the pairs. */
  onProgress?: (rows: number, tokens: number) => void;
  /** Notes for people. */
  log?: (level: "info" | "warning", message: string) => void;
  /** Stops the tokenising; its reason is thrown. */
  signal?: AbortSignal;
}

/** To be raised with every change of what rows become: it is in the name of what the cache holds. */
const RULES = 1;
const ROWS_PER_PROGRESS = 64;

/**
 * The pairs of a split, in the order of the files: read, rendered and tokenised row by row into a file of the cache, or found
 * there. That file's name is a hash of all that the pairs follow from: the bytes of the data files, tokenizer, chat template,
 * shares, lengths and rules.
 *
 * @throws {UserError} with its place for the first row that cannot be used, and for a split without rows.
 */
export async function openPairs(options: PairOptions): Promise<PairStore> {
  const { mixer, split, cache, tokenizer, vocabSize, log } = options;
  const sets = await Promise.all(mixer.map(async ({ path, share }) => {
    const files: HashedFile[] = [];
    for (const file of await filesOf(path, split)) {
      files.push({ path: file, sha256: await rememberedHash(file, cache) });
    }
    return { share, files };
  }));
  const files = sets.flatMap((set) => set.files);
  const path = join(
    cache,
    "pairs",
    sha256(JSON.stringify({
      rules: RULES,
      version: VERSION,
      sets: sets.map(({ share, files }) => ({
        share,
        files: files.map(({ path, sha256 }) => [formatOf(path), sha256]),
      })),
      isTrain: split.includes("train"),
      tokenizer: tokenizer.fingerprint,
      template: tokenizer.chatTemplate ?? null,
      vocabSize,
      usesRejected: options.usesRejected,
      autoInsertEmptySystemMsg: options.autoInsertEmptySystemMsg,
      maxLength: options.maxLength,
      maxPromptLength: options.maxPromptLength,
      truncationMode: options.truncationMode,
    })),
  );
  const cached = options.overwriteCache ? undefined : await openStore(path, files);
  if (cached === "damaged") {
    log?.("warning", `${path}: the cached pairs are damaged: tokenising again`);
    await rm(path, { force: true });
  } else if (cached) {
    log?.("info", `${split}: tokenised before, found in ${path}`);
    return cached;
  }
  await writeStore(path, tokenised(options, files), vocabSize);
  const store = await openStore(path, files);
  if (store === "damaged" || !store) throw new UserError(`${path}: was changed as soon as it was written`);
  return store;
}

/** Rows as pairs, one at a time. */
async function* tokenised(options: PairOptions, files: readonly HashedFile[]): AsyncGenerator<StoredRow> {
  const { mixer, split, onProgress, signal } = options;
  let rows = 0;
  let tokens = 0;
  for await (const row of readMixer(mixer, split)) {
    signal?.throwIfAborted();
    const { pair, isEmpty } = pairOf(row, options);
    yield { pair, isEmpty, place: row.place, file: files.findIndex(({ path }) => path === row.place.file) };
    rows++;
    tokens += pair.chosen.ids.length + (pair.rejected?.ids.length ?? 0);
    if (rows % ROWS_PER_PROGRESS === 0) onProgress?.(rows, tokens);
  }
  if (rows === 0) {
    throw new UserError(
      `dataset_mixer: expected rows in the split "${split}", found none in ${
        mixer.map(({ path, share }) => `${path} (share ${share})`).join(", ")
      }`,
    );
  }
  onProgress?.(rows, tokens);
}

function pairOf({ row, where }: Row, options: PairOptions): { pair: Pair; isEmpty: boolean } {
  try {
    const { prompt, chosen, rejected, emptyResponses } = render(row, options.tokenizer, options);
    const pair = { ...tokenizePair(prompt, chosen, rejected, options.tokenizer, options), where };
    checkIds(pair.chosen.ids, options.vocabSize);
    if (pair.rejected) checkIds(pair.rejected.ids, options.vocabSize);
    return { pair, isEmpty: emptyResponses.length > 0 };
  } catch (error) {
    if (error instanceof UserError) throw new UserError(`${where}: ${error.message}`, error.status);
    throw error;
  }
}

function checkIds(ids: number[], vocabSize: number): void {
  const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
  if (wrong === undefined) return;
  throw new UserError(
    `expected token ids below the model's vocab_size of ${vocabSize}, found ${wrong}: tokenizer and model do not ` +
      "belong together",
  );
}
