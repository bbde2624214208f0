/** The kernels between the gradients and the weights: norm, clipping and AdamW. See `operations.ts` for the rest. */
import adamwSource from "../../kernels/adamw.wgsl" with { type: "text" };
import adamw8bitSource from "../../kernels/adamw_8bit.wgsl" with { type: "text" };
import adamwStepSource from "../../kernels/adamw_step.wgsl" with { type: "text" };
import clipSource from "../../kernels/clip.wgsl" with { type: "text" };
import parameterNormsSource from "../../kernels/parameter_norms.wgsl" with { type: "text" };
import sumSquaresSource from "../../kernels/sum_squares.wgsl" with { type: "text" };
import { DYNAMIC_MAP } from "../../kernels/dynamic_map.ts";
import { withPrelude } from "../../kernels/prelude.ts";
import { PACK_BF16, packedType, unpackFunction } from "../../kernels/storage.ts";
import type { Tensor } from "./memory.ts";
import { type KernelCall, line } from "./program.ts";

/** vec4s that one workgroup of `sumSquares` adds up; parameters start at multiples of it. */
export const NORM_BLOCK = 1024;

/** Elements that share a largest magnitude where moments are bytes. */
export const MOMENT_BLOCK = 256;

/**
 * Where a range of parameters stands: its first block of the gradient norm, its first parameter, and its first block
 * of moments in `absmax`.
 */
const PLACE = "struct Place { block: u32, parameter: u32, scale: u32 }\n";

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

/**
 * squares[p] for `count` parameters from that of `place` on; `guard` forbids all updates from one that is not finite
 * on.
 */
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

/** What an update reads and writes. */
export interface AdamWTensors {
  place: Tensor;
  hyper: Tensor;
  clip: Tensor;
  gradients: Tensor;
  weights: Tensor;
  first: Tensor;
  second: Tensor;
}

/** Of how many floats an update is, and of which. */
interface Extent {
  count: number;
  /** The first that are decayed: all, none, or a multiple of 4. */
  decayed: number;
}

/**
 * One AdamW update. What is stored as bfloat16 is rounded when it is written: the first moment to the nearest;
 * weights and second moment by chance, since a step changes most of them by less than half of their last place (at
 * beta2 0.999 the second moment, which to the nearest would never fall).
 */
export const adamw = (t: AdamWTensors, { count, decayed }: Extent): KernelCall => ({
  label: "adamw",
  source: stepSource(t.weights, { COUNT: count, DECAY_END: Math.ceil(decayed / 4) }, count, [
    elementSource("First", t.first, "nearest"),
    elementSource("Second", t.second, "chance"),
    adamwSource,
  ]),
  bindings: [t.place, t.hyper, t.clip, t.gradients, t.weights, t.first, t.second],
  grid: () => line(Math.ceil(count / 1024)),
});

/**
 * The same with moments in bytes, `count` a multiple of 4.
 *
 * @param t with `absmax`, two floats for each `MOMENT_BLOCK` of what is trained, and `map`, which holds
 * `dynamicTables`.
 */
export const adamw8bit = (
  t: AdamWTensors & { absmax: Tensor; map: Tensor },
  { count, decayed }: Extent,
): KernelCall => ({
  label: "adamw_8bit",
  source: stepSource(t.weights, { DECAY_END: decayed / 4 }, count, [DYNAMIC_MAP, adamw8bitSource]),
  bindings: [t.place, t.hyper, t.clip, t.map, t.absmax, t.gradients, t.weights, t.first, t.second],
  grid: () => line(Math.ceil(count / (8 * MOMENT_BLOCK))),
});

const stepSource = (
  weights: Tensor,
  constants: Record<string, number>,
  count: number,
  rest: readonly string[],
) =>
  withPrelude(
    [PLACE, PACK_BF16, elementSource("Weight", weights, "chance"), adamwStepSource, ...rest].join("\n"),
    { ...constants, LENGTH: Math.ceil(count / 4), NORM_BLOCK },
  );

/** Of a WGSL type what its unpack_... and pack_... are named by. */
const NAMES = { First: "first", Second: "second", Weight: "weights" } as const;

/** The WGSL type of four elements, and the functions that read and write it, rounded to the nearest or by chance. */
function elementSource(
  type: keyof typeof NAMES,
  { storage = "f32" }: Tensor,
  rounding: "nearest" | "chance",
): string {
  const name = NAMES[type];
  const packed = storage === "f32"
    ? "values"
    : rounding === "chance"
    ? "pack_bf16_stochastic(values, hash2(counters))"
    : "pack_bf16(values)";
  return `alias ${type} = ${packedType(storage)};
${unpackFunction(name, storage)}
fn pack_${name}(values: vec4f, counters: vec2u) -> ${type} { return ${packed}; }`;
}
