import type { BatchSize } from "../batch/size.ts";
import type { Op } from "./graph.ts";
import type { Net } from "./net.ts";
import { isTrained, parameterCount } from "../parameters/parameter.ts";

/**
 * Floating-point operations of one batch, forward: two for every weight and token of the linear layers, two for every
 * weight of the head and label, four for every head dimension and visible query-key pair.
 */
export const forwardFlops = (net: Net, size: BatchSize): number =>
  net.segments.flatMap(({ ops }) => ops).reduce((sum, op) => sum + (op.flops?.(size) ?? 0), 0);

/**
 * Forward and backward: a backward product for each operand of a forward one that has a gradient. Recomputation is
 * not counted.
 */
export function trainingFlops(net: Net, size: BatchSize): number {
  const withGradient = net.valuesWithGradient();
  const operands = ({ inputs, parameters }: Op) => {
    const matrices = parameters.filter(({ kind, role }) => kind === "matrix" && role !== "adapter");
    const others = inputs.some((input) => withGradient.has(input)) ? 2 - matrices.length : 0;
    return matrices.filter(isTrained).length + others;
  };
  // Forward, and the gradients of both operands.
  const ofAdapters = ({ parameters }: Op) =>
    6 * size.tokens * parameterCount(parameters.filter(({ role }) => role === "adapter"));
  return net.segments.flatMap(({ ops }) => ops)
    .reduce((sum, op) => sum + (op.flops?.(size) ?? 0) * (1 + operands(op)) + ofAdapters(op), 0);
}
