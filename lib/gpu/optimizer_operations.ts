/** The kernels between the gradients and the weights: norm, clipping and AdamW. See `operations.ts` for the rest. */
import adamwSource from "../../kernels/adamw.wgsl" with { type: "text" };
import clipSource from "../../kernels/clip.wgsl" with { type: "text" };
import parameterNormsSource from "../../kernels/parameter_norms.wgsl" with { type: "text" };
import sumSquaresSource from "../../kernels/sum_squares.wgsl" with { type: "text" };
import { withPrelude } from "../../kernels/prelude.ts";
import type { Tensor } from "./memory.ts";
import { type KernelCall, line } from "./program.ts";

/** vec4s that one workgroup of `sumSquares` adds up; parameters start at multiples of it. */
export const NORM_BLOCK = 1024;

/** partial[firstBlock + b] = sum of squares of block b of `gradients`. */
export function sumSquares(gradients: Tensor, partial: Tensor, firstBlock: number): KernelCall {
  const length = gradients.bytes / 16;
  return {
    label: "sum_squares",
    source: withPrelude(sumSquaresSource, { BLOCK: NORM_BLOCK, LENGTH: length, FIRST_BLOCK: firstBlock }),
    bindings: [gradients, partial],
    grid: () => line(Math.ceil(length / NORM_BLOCK)),
  };
}

/** squares[parameter] of the blocks that `blocks[parameter]` names, then norm and clipping coefficient into `clip`. */
export const clipByNorm = (
  t: { blocks: Tensor; partial: Tensor; squares: Tensor; clip: Tensor },
  parameters: number,
  maxNorm: number,
): KernelCall[] => [
  {
    label: "parameter_norms",
    source: parameterNormsSource,
    bindings: [t.blocks, t.partial, t.squares, t.clip],
    grid: () => line(parameters),
  },
  {
    label: "clip",
    source: withPrelude(clipSource, { PARAMETERS: parameters, MAX_NORM_F: maxNorm }),
    bindings: [t.squares, t.clip],
    grid: () => [1, 1],
  },
];

/** One AdamW update of a chunk of parameters, of which the first `decayedElements` floats are decayed. */
export const adamw = (
  t: { hyper: Tensor; clip: Tensor; gradients: Tensor; weights: Tensor; first: Tensor; second: Tensor },
  decayedElements: number,
): KernelCall => ({
  label: "adamw",
  source: withPrelude(adamwSource, { LENGTH: t.weights.bytes / 16, DECAY_END: decayedElements / 4 }),
  bindings: [t.hyper, t.clip, t.gradients, t.weights, t.first, t.second],
  grid: () => line(Math.ceil(t.weights.bytes / 16 / 256)),
});
