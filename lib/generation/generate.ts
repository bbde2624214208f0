import type { Gpu } from "../gpu/device.ts";
import { heed } from "../heed.ts";
import type { CachedDecoder } from "./cached_decoder.ts";

/** How a continuation is made. */
export interface GenerateOptions {
  /** Most tokens of it. */
  maxNewTokens: number;
  /** Generation ends before any of these tokens. */
  eosTokenIds?: readonly number[];
  /** Hears of the number of tokens so far. */
  onToken?: (tokens: number) => void;
  /** Ends it: `generate` throws the signal's reason. */
  signal?: AbortSignal;
}

/** Milliseconds of passes to one read, which costs 10 and shows what there is of the answer. */
const BETWEEN_READS = 100;
/** Tokens to one read at most: those behind the end are made in vain. */
const MOST_AHEAD = 32;

/**
 * Greedy continuation of `ids`, token by token. Stops where the room of what continues them ends.
 *
 * @param next the most likely tokens that follow a row, so many or fewer: see `CachedDecoder`.
 */
export async function* nextTokens(
  next: (ids: readonly number[], count: number) => Promise<number[]>,
  ids: readonly number[],
  { maxNewTokens, positions, eosTokenIds = [], signal }: Omit<GenerateOptions, "onToken"> & {
    positions: number;
  },
): AsyncGenerator<number> {
  const row = [...ids];
  const limit = Math.min(ids.length + maxNewTokens, positions);
  let ahead = 1;
  while (row.length < limit) {
    await heed(signal);
    const begin = performance.now();
    const chosen = await next(row, Math.min(ahead, limit - row.length));
    const fitting = Math.floor(BETWEEN_READS * chosen.length / (performance.now() - begin));
    ahead = Math.max(1, Math.min(fitting, 2 * ahead, MOST_AHEAD));
    for (const id of chosen) {
      if (eosTokenIds.includes(id)) return;
      row.push(id);
      yield id;
    }
  }
}

/** As `nextTokens`, all of them. */
export async function generate(
  gpu: Gpu,
  decoder: CachedDecoder,
  ids: readonly number[],
  { onToken, ...options }: GenerateOptions,
): Promise<number[]> {
  const answer: number[] = [];
  const { positions } = decoder.options;
  const next = (row: readonly number[], count: number) => decoder.next(gpu, row, count);
  for await (const id of nextTokens(next, ids, { ...options, positions })) {
    answer.push(id);
    onToken?.(answer.length);
  }
  return answer;
}
