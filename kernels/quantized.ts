/**
 * Weights in 4 or 8 bits as kernels read them: `nf4` and `fp4` as bitsandbytes has them, a code of 4 bits an element
 * and a scale for each block of 64, or `int8`, a byte an element and a scale for each row.
 *
 * A matrix is one run of words: the codes, eight or four to a word, in the order of its rows; then the scales. A
 * block may run on into the next row, and a row may have a scale for all its length: what has a scale here is a
 * group, the largest power of two of elements that both a row and a block are cut into, and the groups of a block
 * repeat its scale. (Rows of real models are multiples of 64, so that group and block are the same.)
 */
import { lines } from "./emit.ts";

export type QuantizedType = "nf4" | "fp4" | "int8";

/** How the weights of a matrix are to be quantized; `double`: the scales of 4-bit blocks too. */
export interface QuantizationOptions {
  type: QuantizedType;
  double?: boolean;
  /** What weights are rounded to first: the type in which transformers has loaded them by then. */
  from?: "bf16" | "f16";
}

/** How a matrix is quantized. */
export interface Quantization {
  type: QuantizedType;
  /** Elements of a group, a power of two. */
  group: number;
  /**
   * Where scales are quantized too: groups, a power of two, that share what their scales are multiplied by and added
   * to.
   */
  superblock?: number;
}

/** Elements that share a scale in bitsandbytes, and scales that share one where they are quantized too. */
export const BLOCK = 64;
export const SCALE_BLOCK = 256;

/** What a code of 4 bits stands for, as in bitsandbytes; NF4 is of Dettmers et al., "QLoRA" (2023), appendix E. */
export const CODES: Readonly<Record<"nf4" | "fp4", readonly number[]>> = {
  nf4: [
    ...[-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453],
    ...[-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0],
    ...[0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224],
    ...[0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1],
  ],
  // A sign and three bits.
  fp4: [1, -1].flatMap((sign) =>
    [0, 0.0052083334885537624, 0.6666666865348816, 1, 0.3333333432674408, 0.5, 0.1666666716337204, 0.25]
      .map((value) => sign * value)
  ),
};

/**
 * Where the parts of a quantized matrix of `elements` lie, in words from its beginning on, and how many it has in
 * all.
 */
export function quantizedLayout(
  { type, group, superblock }: Quantization,
  elements: number,
): { scales: number; factors: number; map: number; words: number } {
  const groups = elements / group;
  const scales = Math.ceil(elements / (type === "int8" ? 4 : 8));
  if (superblock === undefined) {
    return { scales, factors: scales + groups, map: scales + groups, words: scales + groups };
  }
  const factors = scales + Math.ceil(groups / 4);
  const map = factors + 2 * Math.ceil(groups / superblock);
  return { scales, factors, map, words: map + 256 };
}

/**
 * WGSL of `fn NAME4(i) -> vec4f`: the elements from `i` on, a multiple of 4, of the matrix in `NAME`, an array of
 * words.
 *
 * @param elements WGSL of the number of its elements.
 */
export function quantizedReader(
  name: string,
  { type, group, superblock }: Quantization,
  elements: string,
): string {
  const perWord = type === "int8" ? 4 : 8;
  const scale = superblock === undefined
    ? `
fn ${name}_scale(group: u32) -> f32 { return bitcast<f32>(${name}[${name}_codes() + group]); }`
    : `
fn ${name}_scale(group: u32) -> f32 {
  let factors = ${name}_codes() + (${name}_groups() + 3u) / 4u;
  let map = factors + 2u * ((${name}_groups() + ${superblock - 1}u) / ${superblock}u);
  let code = (${name}[${name}_codes() + group / 4u] >> (group % 4u * 8u)) & 255u;
  let factor = factors + 2u * (group / ${superblock}u);
  return bitcast<f32>(${name}[map + code]) * bitcast<f32>(${name}[factor]) + bitcast<f32>(${name}[factor + 1u]);
}`;
  // In the order of bitsandbytes' operations: a row's largest magnitude, over 127.
  const values = type === "int8"
    ? `
fn ${name}4(i: u32) -> vec4f {
  return vec4f(unpack4xI8(${name}[i / 4u])) * ${name}_scale(i / ${group}u) * 7.874015718698502e-3;
}`
    : `${codeFunction(name, CODES[type])}
fn ${name}4(i: u32) -> vec4f {
  // The first of two elements is in the upper half of their byte.
  let codes = ${name}[i / 8u] >> (i / 4u % 2u * 16u);
  return ${name}_value((vec4u(codes) >> vec4u(4u, 0u, 12u, 8u)) & vec4u(15u)) * ${name}_scale(i / ${group}u);
}`;
  return `
fn ${name}_groups() -> u32 { return (${elements}) / ${group}u; }
fn ${name}_codes() -> u32 { return ((${elements}) + ${perWord - 1}u) / ${perWord}u; }${scale}${values}`;
}

/**
 * Four codes at a time, bit by bit: an array that is indexed at run time would be copied or checked at every element.
 */
function codeFunction(name: string, codes: readonly number[]): string {
  const level = (bit: number): string =>
    lines(8 >> bit, (i) => {
      const value = (j: number) => bit === 0 ? `vec4f(${codes[j]})` : `v${bit - 1}_${j}`;
      return `  let v${bit}_${i} = select(${value(2 * i)}, ${value(2 * i + 1)}, b${bit});`;
    });
  return `
fn ${name}_value(code: vec4u) -> vec4f {
${lines(4, (bit) => `  let b${bit} = (code & vec4u(${1 << bit}u)) != vec4u();\n${level(bit)}`)}
  return v3_0;
}`;
}
