import { type Batch, pack } from "../batch/pack.ts";
import type { Window } from "../batch/mask.ts";
import type { Gpu } from "../gpu/device.ts";
import { heed } from "../heed.ts";
import type { Decoder } from "../graph/decoder.ts";

/** How a continuation is made. */
export interface GenerateOptions {
  /** Most tokens of it. */
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
 * Greedy continuation of `ids`, token by token, without a key-value cache: each runs the whole row, which is right for
 * showing a few short answers. Stops where the plan's capacity ends.
 *
 * @param logitsOf the logits that follow the last token of a batch.
 */
export async function* nextTokens(
  decoder: Decoder,
  logitsOf: (batch: Batch) => Promise<Float32Array>,
  ids: readonly number[],
  { maxNewTokens, eosTokenId, signal }: Omit<GenerateOptions, "onToken">,
): AsyncGenerator<number> {
  const row = [...ids];
  const { tokens, positions } = decoder.capacity;
  const limit = ids.length + Math.min(maxNewTokens, Math.min(tokens, positions) - ids.length);
  while (row.length < limit) {
    await heed(signal);
    const logits = await logitsOf(nextTokenBatch(row, decoder.net.windows));
    const next = logits.reduce((best, logit, id) => logit > logits[best] ? id : best, 0);
    if (next === eosTokenId) break;
    row.push(next);
    yield next;
  }
}

/** As `nextTokens`, all of them. */
export async function generate(
  gpu: Gpu,
  decoder: Decoder,
  ids: readonly number[],
  { onToken, ...options }: GenerateOptions,
): Promise<number[]> {
  const answer: number[] = [];
  for await (const id of nextTokens(decoder, (batch) => decoder.logits(gpu, batch), ids, options)) {
    answer.push(id);
    onToken?.(answer.length);
  }
  return answer;
}
