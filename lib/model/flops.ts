import type { Batch } from "../batch.ts";
import type { ModelConfig } from "./config.ts";

/** Query-key pairs that attention has to look at in a packed row, as its spans say. */
export function visiblePairs({ spans, ids }: Pick<Batch, "spans" | "ids">): number {
  let pairs = 0;
  for (let token = 0; token < ids.length; token++) {
    const [from, to, own] = spans.subarray(4 * token, 4 * token + 3);
    pairs += to - from + token - own + 1;
  }
  return pairs;
}

/**
 * Floating-point operations of one batch, forward: two for every weight and token of the linear layers, two for every
 * weight of the head and label, four for every head dimension and visible query-key pair.
 */
export function forwardFlops(config: ModelConfig, batch: Pick<Batch, "spans" | "ids" | "targets">): number {
  const { hiddenSize, intermediateSize, headDim, numAttentionHeads: heads, numKeyValueHeads: kvHeads } =
    config;
  const layerWeights = hiddenSize * headDim * (2 * heads + 2 * kvHeads) + 3 * hiddenSize * intermediateSize;
  const layer = 2 * layerWeights * batch.ids.length + 4 * heads * headDim * visiblePairs(batch);
  return config.numHiddenLayers * layer + 2 * config.vocabSize * hiddenSize * batch.targets.length;
}

/** Forward and backward: a backward product for each operand of a forward one. Recomputation is not counted. */
export const trainingFlops = (config: ModelConfig, batch: Parameters<typeof forwardFlops>[1]): number =>
  3 * forwardFlops(config, batch);
