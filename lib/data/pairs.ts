import type { DatasetShare } from "../config/values.ts";
import { UserError } from "../errors.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { readMixer, type Row } from "./read.ts";
import { render, type RenderOptions } from "./render.ts";
import { type Pair, tokenizePair, type Truncation } from "./tokenize.ts";

/** What to read and how; see `readMixer`, `render` and `tokenizePair`. */
export interface PairOptions extends RenderOptions, Truncation {
  mixer: readonly DatasetShare[];
  /** Name with "train" or "test" in it. */
  split: string;
  tokenizer: Tokenizer;
  /** Rows of the model's embedding: every token id must be below. */
  vocabSize: number;
  /** Called with the rows and tokens so far, now and then and at the end. */
  onProgress?: (rows: number, tokens: number) => void;
}

/** Counts over the pairs of a split. */
export interface PairStatistics {
  rows: number;
  /** Pairs that were cut to fit `maxLength`. */
  truncated: number;
  /** Where the rows with an empty response stand, as path:line. */
  emptyResponses: string[];
  /** Tokens of all sequences, each with its prompt. */
  tokens: number;
  /** Tokens of the longest sequence. */
  longest: number;
}

const ROWS_PER_PROGRESS = 64;

/**
 * Reads, renders and tokenises the pairs of a split, in the order of the files.
 *
 * @throws {UserError} with path:line for the first row that cannot be used, and for a split without rows.
 */
export async function loadPairs(
  options: PairOptions,
): Promise<{ pairs: Pair[]; statistics: PairStatistics }> {
  const pairs: Pair[] = [];
  const statistics: PairStatistics = { rows: 0, truncated: 0, emptyResponses: [], tokens: 0, longest: 0 };
  for await (const row of readMixer(options.mixer, options.split)) {
    const { pair, isEmpty } = pairOf(row, options);
    pairs.push(pair);
    statistics.rows++;
    if (pair.truncated) statistics.truncated++;
    if (isEmpty) statistics.emptyResponses.push(row.where);
    for (const { ids } of sequencesOf(pair)) {
      statistics.tokens += ids.length;
      statistics.longest = Math.max(statistics.longest, ids.length);
    }
    if (statistics.rows % ROWS_PER_PROGRESS === 0) options.onProgress?.(statistics.rows, statistics.tokens);
  }
  if (pairs.length === 0) {
    throw new UserError(
      `dataset_mixer: expected rows in the split "${options.split}", found none in ${
        options.mixer.map(({ path, share }) => `${path} (share ${share})`).join(", ")
      }`,
    );
  }
  options.onProgress?.(statistics.rows, statistics.tokens);
  return { pairs, statistics };
}

const sequencesOf = ({ chosen, rejected }: Pair) => rejected ? [chosen, rejected] : [chosen];

function pairOf({ row, where }: Row, options: PairOptions): { pair: Pair; isEmpty: boolean } {
  try {
    const { prompt, chosen, rejected, emptyResponses } = render(row, options.tokenizer, options);
    const pair = { ...tokenizePair(prompt, chosen, rejected, options.tokenizer, options), where };
    for (const { ids } of sequencesOf(pair)) checkIds(ids, options.vocabSize);
    return { pair, isEmpty: emptyResponses.length > 0 };
  } catch (error) {
    if (error instanceof UserError) throw new UserError(`${where}: ${error.message}`, error.status);
    throw error;
  }
}

function checkIds(ids: number[], vocabSize: number): void {
  const wrong = ids.findIndex((id) => !(id < vocabSize));
  if (wrong < 0) return;
  throw new UserError(
    `expected token ids below the model's vocab_size of ${vocabSize}, found ${
      ids[wrong]
    }: tokenizer and model do not ` +
      "belong together",
  );
}
