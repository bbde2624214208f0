/**
 * The kernels between the gradients and the weights: norm, clipping and the optimizer's update. See `operations.ts` for
 * the rest.
 */
import clipSource from "../../kernels/clip.wgsl" with { type: "text" };
import optimizerSource from "../../kernels/optimizer.wgsl" with { type: "text" };
import optimizer8bitSource from "../../kernels/optimizer_8bit.wgsl" with { type: "text" };
import optimizerStepSource from "../../kernels/optimizer_step.wgsl" with { type: "text" };
import parameterNormsSource from "../../kernels/parameter_norms.wgsl" with { type: "text" };
import sumSquaresSource from "../../kernels/sum_squares.wgsl" with { type: "text" };
import { DYNAMIC_MAP } from "../../kernels/dynamic_map.ts";
import { withPrelude } from "../../kernels/prelude.ts";
import { PACK_BF16, packedType, unpackFunction } from "../../kernels/storage.ts";
import type { Hyperparameters, Moment, MomentKind, UpdateRule } from "../optimizers/rule.ts";
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
export const clipByNorm = (
  t: Pick<NormTensors, "squares" | "clip">,
  parameters: number,
  maxNorm: number,
): KernelCall => ({
  label: "clip",
  source: withPrelude(clipSource, { PARAMETERS: parameters, MAX_NORM_F: maxNorm }),
  bindings: [t.squares, t.clip],
  grid: () => [1, 1],
});

/** What an update reads and writes; of the moments those that the optimizer has. */
export interface UpdateTensors extends Partial<Record<MomentKind, Tensor>> {
  place: Tensor;
  hyper: Tensor;
  clip: Tensor;
  gradients: Tensor;
  weights: Tensor;
  /**
   * Where moments are bytes: a float of each moment for each `MOMENT_BLOCK` of what is trained, and what holds
   * `dynamicTables`.
   */
  inBytes?: { absmax: Tensor; map: Tensor };
}

/** Of how many floats an update is, and of which. */
interface Extent {
  count: number;
  /** The first that are decayed: all, none, or a multiple of 4. */
  decayed: number;
}

/** Words of what `hyper` holds: kept, the keys of weights and of moments, an empty one, and the rule's figures. */
export function hyperWords(
  rule: UpdateRule,
  hyperparameters: Hyperparameters,
  step: number,
  learningRate: number,
  keys: readonly [weights: number, moments: number] = [0, 0],
): Float32Array<ArrayBuffer> {
  const words = Float32Array.of(
    1 - learningRate * hyperparameters.weightDecay,
    ...[0, 0, 0],
    ...rule.figures(hyperparameters, step, learningRate),
  );
  new Uint32Array(words.buffer).set(keys, 1);
  return words;
}

/**
 * One update of an optimizer. What is stored as bfloat16 is rounded when it is written: weights by chance, since a step
 * changes most of them by less than half of their last place, moments as the rule says. With moments in bytes `count`
 * is a multiple of 4.
 */
export function optimizerUpdate(rule: UpdateRule, t: UpdateTensors, { count, decayed }: Extent): KernelCall {
  const { place, hyper, clip, gradients, weights, inBytes } = t;
  const moments = rule.moments.map(({ kind }) => t[kind]!);
  const source = (own: string, constants: Record<string, number>, ...rest: string[]) =>
    withPrelude(
      [
        PLACE,
        PACK_BF16,
        storageSource("Weight", "weights", weights, "chance"),
        momentsSource(rule.moments),
        ...rest,
        rule.source,
        optimizerStepSource,
        own,
      ].join("\n"),
      { ...constants, LENGTH: Math.ceil(count / 4), DECAY_END: Math.ceil(decayed / 4), NORM_BLOCK },
    );
  const common = [place, hyper, clip, gradients, weights];
  return inBytes
    ? {
      label: `${rule.name}_8bit`,
      source: source(optimizer8bitSource, {}, DYNAMIC_MAP, byteMoments(rule.moments)),
      bindings: [...common, inBytes.absmax, inBytes.map, ...moments],
      grid: () => line(Math.ceil(count / (8 * MOMENT_BLOCK))),
    }
    : {
      label: rule.name,
      source: source(optimizerSource, { COUNT: count }, floatMoments(rule.moments, moments)),
      bindings: [...common, ...moments],
      grid: () => line(Math.ceil(count / 1024)),
    };
}

const momentsSource = (moments: readonly Moment[]) =>
  `struct Moments { ${moments.map(({ kind }) => `${kind}: vec4f`).join(", ")} }`;

/** The bindings of moments that are numbers, behind those that every update has, and what reads and writes them. */
const floatMoments = (moments: readonly Moment[], tensors: readonly Tensor[]) =>
  `${
    moments.map(({ kind, rounding }, i) =>
      `${storageSource(`Type${i}`, kind, tensors[i], rounding)}
@group(0) @binding(${5 + i}) var<storage, read_write> ${kind}: array<Type${i}>;`
    ).join("\n")
  }
fn moments_at(i: u32) -> Moments {
  return Moments(${moments.map(({ kind }) => `unpack_${kind}(${kind}[i])`).join(", ")});
}
fn keep_moments(i: u32, m: Moments) {
${
    moments.map(({ kind }) => `  ${kind}[i] = pack_${kind}(m.${kind}, counters(i, hyper.moments_key));`).join(
      "\n",
    )
  }
}`;

/** The same of moments that are bytes, each a share of its part of a Scale. */
function byteMoments(moments: readonly Moment[]): string {
  const parts = moments.map((moment, i) => ({
    ...moment,
    name: moment.isSigned ? "signed" : "unsigned",
    part: moments.length === 1 ? "" : `.${"xy"[i]}`,
  }));
  const magnitude = ({ kind, isSigned }: Moment) => isSigned ? `abs(m.${kind})` : `m.${kind}`;
  return `alias Scale = ${moments.length === 1 ? "f32" : "vec2f"};
${
    parts.map(({ kind }, i) => `@group(0) @binding(${7 + i}) var<storage, read_write> ${kind}: array<u32>;`)
      .join("\n")
  }
fn moments_at(i: u32, scale: Scale) -> Moments {
  return Moments(${
    parts.map(({ kind, name, part }) => `unpack_${name}(${kind}[i]) * scale${part}`).join(", ")
  });
}
fn keep_moments(i: u32, m: Moments, unit: Scale) {
${parts.map(({ kind, name, part }) => `  ${kind}[i] = pack_${name}(m.${kind} * unit${part});`).join("\n")}
}
fn most(v: vec4f) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn largest_of(m: Moments) -> Scale { return Scale(${
    parts.map((m) => `most(${magnitude(m)})`).join(", ")
  }); }`;
}

/** The WGSL type of four elements, and the functions that read and write it, rounded to the nearest or by chance. */
function storageSource(
  type: string,
  name: string,
  { storage = "f32" }: Tensor,
  rounding: "nearest" | "chance",
): string {
  const packed = storage === "f32"
    ? "values"
    : rounding === "chance"
    ? "pack_bf16_stochastic(values, hash2(counters))"
    : "pack_bf16(values)";
  return `alias ${type} = ${packedType(storage)};
${unpackFunction(name, storage)}
fn pack_${name}(values: vec4f, counters: vec2u) -> ${type} { return ${packed}; }`;
}
