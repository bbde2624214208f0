/** The kernels between the gradients and the weights: norm, clipping and AdamW. See `operations.ts` for the rest. */
import adamwSource from "../../kernels/adamw.wgsl" with { type: "text" };
import clipSource from "../../kernels/clip.wgsl" with { type: "text" };
import parameterNormsSource from "../../kernels/parameter_norms.wgsl" with { type: "text" };
import sumSquaresSource from "../../kernels/sum_squares.wgsl" with { type: "text" };
import { withPrelude } from "../../kernels/prelude.ts";
import { PACK_BF16, packedType, unpackFunction } from "../../kernels/storage.ts";
import type { Tensor } from "./memory.ts";
import { type KernelCall, line } from "./program.ts";

/** vec4s that one workgroup of `sumSquares` adds up; parameters start at multiples of it. */
export const NORM_BLOCK = 1024;

/** Where a range of parameters stands: its first block of the gradient norm, and its first parameter. */
const PLACE = "struct Place { block: u32, parameter: u32 }\n";

/** partial[b] = sum of squares of block b of the `count` floats of `gradients`, from the block of `place` on. */
export function sumSquares(place: Tensor, gradients: Tensor, partial: Tensor, count: number): KernelCall {
  const length = Math.ceil(count / 4);
  const constants = { BLOCK: NORM_BLOCK, LENGTH: length, COUNT: count };
  return {
    label: "sum_squares",
    source: withPrelude(PLACE + sumSquaresSource, constants),
    bindings: [place, gradients, partial],
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

/** squares[p] for `count` parameters from that of `place` on; `guard` forbids all updates from one that is not finite on. */
export const parameterNorms = (
  place: Tensor,
  t: NormTensors,
  { count, guard }: { count: number; guard: boolean },
): KernelCall => ({
  label: "parameter_norms",
  source: withPrelude(PLACE + parameterNormsSource, { GUARD: guard ? 1 : 0 }),
  bindings: [place, t.blocks, t.partial, t.squares, t.clip],
  grid: () => line(count),
});

/** Norm and clipping coefficient into `clip`, of the squares of so many parameters. */
export const clipByNorm = (t: NormTensors, parameters: number, maxNorm: number): KernelCall => ({
  label: "clip",
  source: withPrelude(clipSource, { PARAMETERS: parameters, MAX_NORM_F: maxNorm }),
  bindings: [t.squares, t.clip],
  grid: () => [1, 1],
});

/**
 * One AdamW update of `count` floats, of which the first `decayed` (all, none, or a multiple of 4) are decayed. Moments that
 * are stored as bfloat16 are rounded when they are written: the first to the nearest; the second by chance, since at beta2
 * 0.999 it changes by less than half of its last place in a step, and to the nearest would never fall.
 */
export function adamw(
  t: {
    place: Tensor;
    hyper: Tensor;
    clip: Tensor;
    gradients: Tensor;
    weights: Tensor;
    first: Tensor;
    second: Tensor;
  },
  { count, decayed }: { count: number; decayed: number },
): KernelCall {
  const length = Math.ceil(count / 4);
  const constants = { LENGTH: length, COUNT: count, DECAY_END: Math.ceil(decayed / 4), NORM_BLOCK };
  const source = [
    PLACE,
    PACK_BF16,
    momentType("First", t.first),
    momentType("Second", t.second),
    adamwSource,
  ];
  return {
    label: "adamw",
    source: withPrelude(source.join("\n"), constants),
    bindings: [t.place, t.hyper, t.clip, t.gradients, t.weights, t.first, t.second],
    grid: () => line(Math.ceil(length / 256)),
  };
}

/** The WGSL type of four elements of a moment, and the functions that read and write it. */
function momentType(type: "First" | "Second", { storage = "f32" }: Tensor): string {
  const name = type.toLowerCase();
  const [parameters, stochastic] = type === "Second" ? [", counters: vec2u", true] : ["", false];
  const packed = storage === "f32"
    ? "values"
    : stochastic
    ? "pack_bf16_stochastic(values, hash2(counters))"
    : "pack_bf16(values)";
  return `alias ${type} = ${packedType(storage)};
${unpackFunction(name, storage)}
fn pack_${name}(values: vec4f${parameters}) -> ${type} { return ${packed}; }`;
}
