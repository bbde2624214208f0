/** Floating-point operations that a packed batch needs, counted from its sizes; a multiply-add is two. */
import type { BatchSize } from "../lib/batch/size.ts";
import type { Op } from "../lib/graph/graph.ts";
import type { Net } from "../lib/graph/net.ts";
import type { Heads } from "../lib/models/keys.ts";

export interface Operations {
  /** Products with the layers' weights. */
  linear: number;
  attention: number;
  /** Products with the LM head. */
  head: number;
  total: number;
}

/**
 * Operations of forward and backward. A product with weights counts three times: forward, input gradient, weight
 * gradient. Attention counts 2 products forward and 5 backward (the scores once again), the usual count: what kernels
 * recompute beyond it, norms, activations and the update are left out.
 */
export function operationsOf(net: Net, size: BatchSize): Operations {
  const ops = net.segments.flatMap(({ ops }) => ops);
  const forward = (isPart: (op: Op) => boolean) =>
    ops.filter(isPart).reduce((sum, op) => sum + (op.flops?.(size) ?? 0), 0);
  const isHead = (op: Op) => op === ops.at(-1);
  const linear = 3 * forward((op) => op.isProduct === true);
  const attention = (2 + 5) / 2 * forward((op) => !op.isProduct && !isHead(op));
  const head = 3 * forward(isHead);
  return { linear, attention, head, total: linear + attention + head };
}

/** `products` matrix products over the visible pairs of query and key, of one layer. */
export function attentionOperations(
  { numAttentionHeads, headDim }: Pick<Heads, "numAttentionHeads" | "headDim">,
  visible: number,
  products: number,
): number {
  return 2 * products * visible * numAttentionHeads * headDim;
}
