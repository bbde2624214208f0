import type { Pair, Sequence } from "../lib/data/tokenize.ts";

const VOCABULARY = 50;

/**
 * A pair that takes exactly `tokens` (at least 1) rows when it is packed: with and without a shared prefix, with prompts
 * that part before their end, responses of one token, and, where `sft` allows it, no rejected. `next` gives uniform
 * numbers in [0, 1).
 */
export function randomPair(next: () => number, tokens: number, sft = next() < 0.25): Pair {
  const integer = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  const randomIds = (length: number) => Array.from({ length }, () => integer(0, VOCABULARY - 1));
  // Without a prefix, each of the two needs a token of its own to predict its first label from.
  const prefixLength = next() < 0.2 && tokens >= 2 ? 0 : integer(1, tokens);
  const prefix = randomIds(prefixLength);
  const own = tokens - prefixLength;
  if (sft) return { chosen: { ids: [...prefix, ...randomIds(own + 1)], promptLength: prefixLength }, ...ROW };

  const chosenOwn = prefixLength ? integer(0, own) : integer(1, own - 1);
  const [chosen, rejected] = [chosenOwn, own - chosenOwn].map((own): Sequence => ({
    ids: [...prefix, ...randomIds(own + 1)],
    // Up to two tokens of the prompt may differ, as where its last token merges with the response.
    promptLength: prefixLength + integer(0, Math.min(2, own)),
  }));
  // The prefix ends at the first token that differs, or where a prompt ends.
  if (chosen.promptLength > prefixLength && rejected.promptLength > prefixLength) {
    rejected.ids[prefixLength] = (chosen.ids[prefixLength] + 1) % VOCABULARY;
  }
  return { chosen, rejected, ...ROW };
}

const ROW = { truncated: false, where: "random" };

/** Pairs that take exactly `tokens` rows together. */
export function randomPairs(next: () => number, tokens: number): Pair[] {
  const pairs: Pair[] = [];
  for (let left = tokens; left > 0;) {
    const take = 1 + Math.floor(next() * Math.min(left, 60));
    pairs.push(randomPair(next, take));
    left -= take;
  }
  return pairs;
}
