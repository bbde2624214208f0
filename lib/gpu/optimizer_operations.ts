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

/** partial[firstBlock + b] = sum of squares of block b of the `count` floats of `gradients`. */
export function sumSquares(
  gradients: Tensor,
  partial: Tensor,
  { firstBlock, count }: { firstBlock: number; count: number },
): KernelCall {
  const length = Math.ceil(count / 4);
  const constants = { BLOCK: NORM_BLOCK, LENGTH: length, COUNT: count, FIRST_BLOCK: firstBlock };
  return {
    label: "sum_squares",
    source: withPrelude(sumSquaresSource, constants),
    bindings: [gradients, partial],
    grid: () => line(Math.ceil(length / NORM_BLOCK)),
  };
}

/** What the kernels of the gradient norm work on. */
export interface NormTensors {
  blocks: Tensor;
  partial: Tensor;
  squares: Tensor;
  clip: Tensor;
}

/** squares[p] for `count` parameters from `first` on; `guard` forbids all updates from one that is not finite on. */
export const parameterNorms = (
  t: NormTensors,
  { first, count, guard }: { first: number; count: number; guard: boolean },
): KernelCall => ({
  label: "parameter_norms",
  source: withPrelude(parameterNormsSource, { FIRST: first, GUARD: guard ? 1 : 0 }),
  bindings: [t.blocks, t.partial, t.squares, t.clip],
  grid: () => line(count),
});

/** Norm and clipping coefficient into `clip`, of the squares of so many parameters. */
export const clipByNorm = (t: NormTensors, parameters: number, maxNorm: number): KernelCall => ({
  label: "clip",
  source: withPrelude(clipSource, { PARAMETERS: parameters, MAX_NORM_F: maxNorm }),
  bindings: [t.squares, t.clip],
  grid: () => [1, 1],
});

/** One AdamW update of `count` floats, of which the first `decayed` (all, none, or a multiple of 4) are decayed. */
export function adamw(
  t: { hyper: Tensor; clip: Tensor; gradients: Tensor; weights: Tensor; first: Tensor; second: Tensor },
  { count, decayed }: { count: number; decayed: number },
): KernelCall {
  const length = Math.ceil(count / 4);
  return {
    label: "adamw",
    source: withPrelude(adamwSource, { LENGTH: length, COUNT: count, DECAY_END: Math.ceil(decayed / 4) }),
    bindings: [t.hyper, t.clip, t.gradients, t.weights, t.first, t.second],
    grid: () => line(Math.ceil(length / 64)),
  };
}
