import type { Pair, Sequence } from "../lib/data/pair.ts";

const VOCABULARY = 50;

interface Parts {
  /** Tokens of the shared prefix; without any, each response needs at least one of its own. */
  prefix: number;
  /** Rows that chosen and rejected take besides: all their tokens past the prefix but the last. */
  chosen: number;
  rejected?: number;
}

const integers = (next: () => number) => (low: number, high: number) =>
  low + Math.floor(next() * (high - low + 1));

/** A pair of random tokens that packs into these parts. `next` gives uniform numbers in [0, 1). */
export function pairOf(next: () => number, { prefix, chosen, rejected }: Parts): Pair {
  const integer = integers(next);
  const randomIds = (length: number) => Array.from({ length }, () => integer(0, VOCABULARY - 1));
  const shared = randomIds(prefix);
  const row = { truncated: false as const, where: "random" };
  if (rejected === undefined) {
    return { chosen: { ids: [...shared, ...randomIds(chosen + 1)], promptLength: prefix }, ...row };
  }
  const sequences = [chosen, rejected].map((own): Sequence => ({
    ids: [...shared, ...randomIds(own + 1)],
    // Up to two tokens of a prompt's end may differ, as where its last token merges with the response.
    promptLength: prefix + integer(0, Math.min(2, own)),
  }));
  // The prefix ends at the first token that differs, or where a prompt ends.
  if (sequences.every(({ promptLength }) => promptLength > prefix)) {
    sequences[1].ids[prefix] = (sequences[0].ids[prefix] + 1) % VOCABULARY;
  }
  return { chosen: sequences[0], rejected: sequences[1], ...row };
}

/**
 * A random pair that takes exactly `tokens` (at least 1) rows when it is packed: with and without a prefix,
 * with responses of one token, and, where `sft`, without rejected.
 */
export function randomPair(next: () => number, tokens: number, sft = next() < 0.25): Pair {
  const integer = integers(next);
  const prefix = next() < 0.2 && tokens >= 2 ? 0 : integer(1, tokens);
  const own = tokens - prefix;
  if (sft) return pairOf(next, { prefix, chosen: own });
  const chosen = prefix ? integer(0, own) : integer(1, own - 1);
  return pairOf(next, { prefix, chosen, rejected: own - chosen });
}

/** Short and long pairs that take exactly `tokens` rows together. */
export function randomPairs(next: () => number, tokens: number): Pair[] {
  const integer = integers(next);
  const pairs: Pair[] = [];
  for (let left = tokens; left > 0;) {
    const take = integer(1, next() < 0.5 ? Math.min(left, 30) : left);
    pairs.push(randomPair(next, take));
    left -= take;
  }
  return pairs;
}

/**
 * A pair of 230 tokens whose last tiles of queries see the first tile of keys, not the second and third, and
 * their own.
 */
export const apartPair = (next: () => number): Pair =>
  pairOf(next, { prefix: 20, chosen: 90, rejected: 120 });
