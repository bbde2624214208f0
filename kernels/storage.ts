/**
 * How four numbers lie in memory: as float32, or two to a word as bfloat16 (the upper half of a float32) or float16.
 * The first of two is in the lower half, as in a file.
 */

import { type Quantization, quantizedReader } from "./quantized.ts";

/** Types that kernels read, and write where it says so. */
export type StorageType = "f32" | "bf16" | "f16";

/** How the matrix of a product may be stored. */
export type WeightStorage = StorageType | Quantization;

export const bytesOf = (storage: StorageType): 2 | 4 => storage === "f32" ? 4 : 2;

/** The WGSL type of four numbers. */
export const packedType = (storage: StorageType): string => storage === "f32" ? "vec4f" : "vec2u";

/**
 * WGSL of `fn unpack_NAME(packed) -> vec4f`. Exact: every bfloat16 and float16 value is a float32.
 */
export function unpackFunction(name: string, storage: StorageType): string {
  const head = `fn unpack_${name}(packed: ${packedType(storage)}) -> vec4f`;
  if (storage === "f32") return `${head} { return packed; }`;
  if (storage === "f16") {
    return `${head} { return vec4f(unpack2x16float(packed.x), unpack2x16float(packed.y)); }`;
  }
  return `${head} {
  return bitcast<vec4f>(vec4u(packed.x << 16u, packed.x & 0xffff0000u, packed.y << 16u, packed.y & 0xffff0000u));
}`;
}

/**
 * WGSL of `fn NAME4(i) -> vec4f`: the elements from `i` on, a multiple of 4, of the matrix in `NAME`, an array of
 * `readerElement`.
 *
 * @param elements WGSL of the number of its elements.
 */
export const matrixReader = (name: string, weights: WeightStorage, elements: string): string =>
  typeof weights !== "string"
    ? quantizedReader(name, weights, elements)
    : weights === "f32"
    ? `fn ${name}4(i: u32) -> vec4f { return ${name}[i >> 2u]; }`
    : `${unpackFunction(name, weights)}
fn ${name}4(i: u32) -> vec4f { return unpack_${name}(${name}[i >> 2u]); }`;

/** The type of an element of the array that `matrixReader` reads. */
export const readerElement = (weights: WeightStorage): string =>
  typeof weights === "string" ? packedType(weights) : "u32";

/** WGSL of `fn hash2(counters) -> vec2u`. */
export const HASH = `
// pcg2d of Jarzynski and Olano, "Hash Functions for GPU Rendering" (JCGT 9(3), 2020): 64 bits of two counters.
fn hash2(counters: vec2u) -> vec2u {
  var v = counters * 1664525u + 1013904223u;
  v.x += v.y * 1664525u;
  v.y += v.x * 1664525u;
  v ^= v >> vec2u(16u);
  v.x += v.y * 1664525u;
  v.y += v.x * 1664525u;
  return v ^ (v >> vec2u(16u));
}`;

/**
 * WGSL that packs vec4s as bfloat16: to the nearest, ties to even; or up or down by chance, so that the mean is
 * exact.
 */
export const PACK_BF16 = `
fn bf16_pairs(high: vec4u) -> vec2u {
  return vec2u((high.x >> 16u) | (high.y & 0xffff0000u), (high.z >> 16u) | (high.w & 0xffff0000u));
}
fn pack_bf16(values: vec4f) -> vec2u {
  let bits = bitcast<vec4u>(values);
  let rounded = bits + 0x7fffu + ((bits >> vec4u(16u)) & vec4u(1u));
  // A NaN stays one: rounding could carry its payload into the sign.
  let special = (bits & vec4u(0x7f800000u)) == vec4u(0x7f800000u);
  let quiet = select(vec4u(), vec4u(0x400000u), (bits & vec4u(0x7fffffu)) != vec4u());
  return bf16_pairs(select(rounded, bits | quiet, special));
}
// Adds 16 random bits below those that are kept, of finite values: P(up) is the distance from the lower neighbour.
fn pack_bf16_stochastic(values: vec4f, random: vec2u) -> vec2u {
  let chance = vec4u(random.x & 0xffffu, random.x >> 16u, random.y & 0xffffu, random.y >> 16u);
  return bf16_pairs(bitcast<vec4u>(values) + chance);
}
${HASH}`;
