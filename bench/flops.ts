/** Floating-point operations that a packed batch needs, counted from its sizes; a multiply-add is two. */
import type { Batch } from "../lib/batch/pack.ts";
import { visiblePairs } from "../lib/graph/flops.ts";
import type { ModelConfig } from "../lib/models/config.ts";

/** Sizes of a batch that its operations follow from. */
export interface BatchSize {
  /** Rows of the packed row of tokens. */
  tokens: number;
  labels: number;
  /** Pairs of a query and a key that it sees. */
  visible: number;
}

export const sizeOf = ({ ids, targets, masks }: Pick<Batch, "ids" | "targets" | "masks">): BatchSize => ({
  tokens: ids.length,
  labels: targets.length,
  visible: visiblePairs(masks[0]),
});

export interface Operations {
  /** Products with the layers' weights. */
  linear: number;
  attention: number;
  /** Products with the LM head. */
  head: number;
  total: number;
}

/**
 * Operations of forward and backward. A product with weights counts three times: forward, input gradient, weight gradient.
 * Attention counts 2 products forward and 5 backward (the scores once again), the usual count: what kernels recompute
 * beyond it, norms, activations and the update are left out.
 */
export function operationsOf(config: ModelConfig, { tokens, labels, visible }: BatchSize): Operations {
  const { hiddenSize, intermediateSize, numAttentionHeads, numKeyValueHeads, headDim, numHiddenLayers } =
    config;
  const weights = hiddenSize *
    ((2 * numAttentionHeads + 2 * numKeyValueHeads) * headDim + 3 * intermediateSize);
  const linear = 3 * 2 * tokens * weights * numHiddenLayers;
  const attention = attentionOperations(config, visible, 2 + 5) * numHiddenLayers;
  const head = 3 * 2 * labels * hiddenSize * config.vocabSize;
  return { linear, attention, head, total: linear + attention + head };
}

/** `products` matrix products over the visible pairs of query and key, of one layer. */
export function attentionOperations(
  { numAttentionHeads, headDim }: Pick<ModelConfig, "numAttentionHeads" | "headDim">,
  visible: number,
  products: number,
): number {
  return 2 * products * visible * numAttentionHeads * headDim;
}
