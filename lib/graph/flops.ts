import type { Batch } from "../batch/pack.ts";
import type { Mask } from "../batch/mask.ts";
import type { Op } from "./graph.ts";
import type { Net } from "./net.ts";
import { isTrained } from "./parameter.ts";

/** What the work of a batch follows from. */
export interface BatchSize {
  tokens: number;
  labels: number;
  /** Query-key pairs that attention has to look at, for each of the model's windows. */
  visible: number[];
}

/** Query-key pairs of a packed row, as a mask says. */
export function visiblePairs({ spans }: Mask): number {
  let pairs = 0;
  for (let token = 0; token < spans.length / 4; token++) {
    const [from, to, own] = spans.subarray(4 * token, 4 * token + 3);
    pairs += to - from + token - own + 1;
  }
  return pairs;
}

export const sizeOf = ({ ids, targets, masks }: Pick<Batch, "ids" | "targets" | "masks">): BatchSize => ({
  tokens: ids.length,
  labels: targets.length,
  visible: masks.map(visiblePairs),
});

/**
 * Floating-point operations of one batch, forward: two for every weight and token of the linear layers, two for every
 * weight of the head and label, four for every head dimension and visible query-key pair.
 */
export const forwardFlops = (net: Net, size: BatchSize): number =>
  net.segments.flatMap(({ ops }) => ops).reduce((sum, op) => sum + (op.flops?.(size) ?? 0), 0);

/** Forward and backward: a backward product for each operand of a forward one that has a gradient. Recomputation is not counted. */
export function trainingFlops(net: Net, size: BatchSize): number {
  const withGradient = net.valuesWithGradient();
  const operands = ({ inputs, parameters }: Op) => {
    const matrices = parameters.filter(({ kind }) => kind === "matrix");
    const others = inputs.some((input) => withGradient.has(input)) ? 2 - matrices.length : 0;
    return matrices.filter(isTrained).length + others;
  };
  return net.segments.flatMap(({ ops }) => ops)
    .reduce((sum, op) => sum + (op.flops?.(size) ?? 0) * (1 + operands(op)), 0);
}
