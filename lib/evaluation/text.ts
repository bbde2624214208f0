/** Perplexity of a model on plain text. */
import type { Pair } from "../data/pair.ts";

/** What a model makes of a text, as a whole. */
export interface TextFigures {
  /** Tokens that were predicted: all but the first. */
  tokens: number;
  /** Of the text, split at white space. */
  words: number;
  /** Of the text in UTF-8. */
  bytes: number;
  /** Sum of their natural log-probabilities. */
  logp: number;
  /** exp of the mean negative log-probability of a token. */
  perplexity: number;
  /**
   * The same sum over words, and over bytes. Not known where windows do not overlap: the first token of each is
   * predicted by none, and its letters are among the text's.
   */
  word_perplexity?: number;
  byte_perplexity?: number;
  bits_per_byte?: number;
}

/**
 * The windows of a text: each begins `stride` tokens after the one before, and predicts what those before it have
 * not. The first predicts all but its first token. As transformers' "Perplexity of fixed-length models" has them.
 *
 * @example
 * ```ts
 * import { textWindows } from "./text.ts";
 * import assert from "node:assert/strict";
 * const windows = textWindows([7, 8, 9, 10, 11], 4, 2, "text");
 * assert.deepEqual(windows.map(({ chosen }) => chosen), [
 *   { ids: [7, 8, 9, 10], promptLength: 0 },
 *   { ids: [9, 10, 11], promptLength: 2 },
 * ]);
 * ```
 */
export function textWindows(ids: readonly number[], length: number, stride: number, where: string): Pair[] {
  const windows: Pair[] = [];
  let predicted = 0;
  for (let begin = 0; predicted < ids.length; begin += stride) {
    const end = Math.min(begin + length, ids.length);
    windows.push({
      chosen: { ids: ids.slice(begin, end), promptLength: predicted - begin },
      truncated: false,
      where,
    });
    predicted = end;
  }
  return windows;
}

/**
 * Figures of a text from what its windows sum to. Words and bytes are counted as lm-evaluation-harness counts them:
 * pieces between white space, and UTF-8.
 *
 * @param length tokens of the text.
 */
export function textFigures(
  text: string,
  length: number,
  sums: readonly { chosen: number; chosenLabels: number }[],
): TextFigures {
  const logp = sums.reduce((sum, { chosen }) => sum + chosen, 0);
  const tokens = sums.reduce((sum, { chosenLabels }) => sum + chosenLabels, 0);
  const words = text.split(/\s+/u).length;
  const bytes = new TextEncoder().encode(text).length;
  return {
    tokens,
    words,
    bytes,
    logp,
    perplexity: Math.exp(-logp / tokens),
    ...tokens === length - 1 && {
      word_perplexity: Math.exp(-logp / words),
      byte_perplexity: Math.exp(-logp / bytes),
      bits_per_byte: -logp / bytes / Math.LN2,
    },
  };
}
