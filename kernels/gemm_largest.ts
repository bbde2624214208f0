/**
 * The largest magnitudes in the operands of a product of float16 matrices, by which they are scaled.
 *
 * A line of an operand is all of its inner dimension that goes into one sum: a row of A, a column of B. Each line has a
 * scale of its own, so that a large one takes no digits from the others.
 */
import { extents, type GemmLayout, type GemmVariant, SIZE_HEADER } from "./gemm.ts";
import { matrixReader, readerElement } from "./storage.ts";

/** Whether the operand's lines are its rows in memory. */
export const linesAreRows = (layout: GemmLayout, operand: "a" | "b"): boolean =>
  operand === "a" ? layout !== "tn" : layout === "nt";

/**
 * A line is looked at in parts by as many threads, side by side in rows (8 threads read 128 bytes), and every so many
 * rows where lines are columns: a product's few columns would keep few threads busy. The product joins them.
 */
export const largestParts = (layout: GemmLayout, operand: "a" | "b"): number =>
  linesAreRows(layout, operand) ? 8 : 32;

/** Lines that the operand has at most, and those and the inner dimension that it has now, as WGSL. */
const linesOf = (layout: GemmLayout, operand: "a" | "b") => {
  const { M, K } = extents(layout);
  return operand === "a"
    ? { most: "size.m", lines: M, inner: K, stride: "size.lda" }
    : { most: "size.n", lines: "size.n", inner: K, stride: "size.ldb" };
};

const THREADS = 64;

/** Workgroups of `largestSource` for an operand of at most so many lines. */
export const largestGroups = (layout: GemmLayout, operand: "a" | "b", lines: number): number =>
  Math.ceil(
    (linesAreRows(layout, operand) ? lines : Math.ceil(lines / 4)) * largestParts(layout, operand) / THREADS,
  );

/**
 * WGSL that leaves for each part of each line the bits of its largest magnitude, [parts, lines]: as whole numbers they
 * are in the order of the magnitudes, and those of infinity and NaN are the largest. Bindings: 0 the row count, 1 the
 * size, 2 the operand, 3 what is found.
 */
export function largestSource({ layout, weights, aligned }: GemmVariant, operand: "a" | "b"): string {
  const { most, lines, inner, stride } = linesOf(layout, operand);
  const parts = largestParts(layout, operand);
  const isStored = operand === "b" && weights !== "f32";
  const element = isStored ? readerElement(weights) : aligned ? "vec4f" : "f32";
  const reader = isStored
    ? matrixReader("x", weights, `${layout === "nt" ? "size.n" : "size.k"} * size.ldb`)
    : aligned
    ? "fn x4(i: u32) -> vec4f { return x[i >> 2u]; }"
    : "fn x4(i: u32) -> vec4f { return vec4f(x[i], x[i + 1u], x[i + 2u], x[i + 3u]); }";
  const main = linesAreRows(layout, operand)
    ? `
  let line = index / ${parts}u;
  let part = index % ${parts}u;
  if (line >= lines) { return; }
  var largest = vec4u();
  for (var k = part * 4u; k < inner; k += ${4 * parts}u) {
    let past = vec4u(k, k + 1u, k + 2u, k + 3u) >= vec4u(inner);
    largest = max(largest, select(magnitude(line * ${stride} + k), vec4u(), past));
  }
  found[part * ${most} + line] = max(max(largest.x, largest.y), max(largest.z, largest.w));`
    : `
  let width = (lines + 3u) / 4u;
  let line = index % width * 4u;
  let part = index / width;
  if (part >= ${parts}u) { return; }
  var largest = vec4u();
  for (var k = part; k < inner; k += ${parts}u) {
    largest = max(largest, magnitude(k * ${stride} + line));
  }
  for (var l = 0u; l < 4u; l += 1u) {
    if (line + l < lines) { found[part * ${most} + line + l] = largest[l]; }
  }`;
  return `${SIZE_HEADER}
@group(0) @binding(2) var<storage, read> x: array<${element}>;
@group(0) @binding(3) var<storage, read_write> found: array<u32>;
${reader}
fn magnitude(i: u32) -> vec4u { return bitcast<vec4u>(x4(i)) & vec4u(0x7fffffffu); }

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let index = (group.y * groups.x + group.x) * ${THREADS}u + local;
  // Not every layout counts the rows of this operand, and what no kernel reads is no binding.
  _ = rows.count;
  let lines = ${lines};
  let inner = ${inner};
${main}
}
`;
}

/** WGSL of what is found of an operand, at that binding, and of `fn OPERAND_largest(line) -> u32`. */
export const foundSource = (layout: GemmLayout, operand: "a" | "b", binding: number): string => `
@group(0) @binding(${binding}) var<storage, read> ${operand}_found: array<u32>;
fn ${operand}_largest(line: u32) -> u32 {
  var largest = 0u;
  for (var part = 0u; part < ${largestParts(layout, operand)}u; part += 1u) {
    largest = max(largest, ${operand}_found[part * ${linesOf(layout, operand).most} + line]);
  }
  return largest;
}`;

/** Of a line or row: its scale, and what sums are without those of both operands. */
export const SCALES = `
// The power of two that brings a line's largest magnitude, of these bits, to 2^14 .. 2^15; a NaN where that is no
// number.
fn scale_of(largest: u32) -> f32 {
  let exponent = clamp(268u - (largest >> 23u), 2u, 252u);
  return bitcast<f32>(select(exponent << 23u, largest | 0x7fc00000u, largest >= 0x7f800000u));
}
// Half of it, and then the rest: it may be more than a float32's range.
fn unscaled(scaled: vec4f, a_scale: f32, b_scale: vec4f) -> vec4f {
  let a_exponent = vec4i(i32((bitcast<u32>(a_scale) >> 23u) & 255u));
  let b_exponent = vec4i((bitcast<vec4u>(b_scale) >> vec4u(23u)) & vec4u(255u));
  let exponent = 254 - a_exponent - b_exponent;
  let half = exponent >> vec4u(1u);
  let value = scaled * power_of_two(half) * power_of_two(exponent - half);
  let is_number = max(a_exponent, b_exponent) < vec4i(255);
  return select(vec4f(a_scale) + b_scale, value, is_number);
}
fn power_of_two(exponent: vec4i) -> vec4f { return bitcast<vec4f>(vec4u(exponent + 127) << vec4u(23u)); }`;
