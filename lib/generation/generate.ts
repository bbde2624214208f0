import { type Batch, pack } from "../batch/pack.ts";
import type { Window } from "../batch/mask.ts";
import type { Gpu } from "../gpu/device.ts";
import { heed } from "../heed.ts";
import type { Decoder } from "../graph/decoder.ts";

export interface GenerateOptions {
  maxNewTokens: number;
  /** Generation ends before this token. */
  eosTokenId?: number;
  /** Hears of the number of tokens so far. */
  onToken?: (tokens: number) => void;
  /** Ends it: `generate` throws the signal's reason. */
  signal?: AbortSignal;
}

/** A batch without pairs whose one label row is the last token's: its logits say what comes next. */
export function nextTokenBatch(ids: readonly number[], windows?: readonly Window[]): Batch {
  const sequence = { ids: [...ids, 0], promptLength: ids.length };
  const batch = pack([{ chosen: sequence, truncated: false, where: "prompt" }], windows);
  return { ...batch, pairs: 0, longest: ids.length };
}

/**
 * Greedy continuation of `ids`, without a key-value cache: each token runs the whole row, which is right for showing a
 * few short answers. Stops where the plan's capacity ends.
 */
export async function generate(
  gpu: Gpu,
  decoder: Decoder,
  ids: readonly number[],
  { maxNewTokens, eosTokenId, onToken, signal }: GenerateOptions,
): Promise<number[]> {
  const answer: number[] = [];
  const limit = Math.min(decoder.capacity.tokens, decoder.capacity.positions) - ids.length;
  while (answer.length < Math.min(maxNewTokens, limit)) {
    await heed(signal);
    const logits = await decoder.logits(
      gpu,
      nextTokenBatch([...ids, ...answer], decoder.net.windows),
    );
    const next = logits.reduce((best, logit, id) => logit > logits[best] ? id : best, 0);
    if (next === eosTokenId) break;
    answer.push(next);
    onToken?.(answer.length);
  }
  return answer;
}
