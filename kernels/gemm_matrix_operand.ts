/**
 * An operand of a product by subgroup matrices in workgroup memory: how it lies there, how it comes there, and how
 * matrices are loaded from it. Its numbers are float32, whole, or scaled and split into float16s: see `gemm_matrix.ts`.
 */
import { gemmGroupTile, type GemmLayout, isScaled, type MatrixTile } from "./gemm.ts";
import { linesAreRows } from "./gemm_largest.ts";
import { lines, range } from "./emit.ts";
import type { WeightStorage } from "./storage.ts";

/** Bytes between a tile's rows beside what they hold: rows a multiple of 128 bytes apart share their banks. */
const PADDING = 16;

const BYTES = { f16: 2, f32: 4 };

/** A float32 as it is; or the float16 nearest to it, alone or with the float16 of what that leaves. */
export type Part = "whole" | "high" | "low";

/** How an operand lies in workgroup memory, in each of its parts. */
export interface OperandTile {
  name: "a" | "b";
  type: "f16" | "f32";
  parts: readonly Part[];
  /** Its lines, and how many of them; whether they are rows, as in memory. */
  lines: number;
  areRows: boolean;
  /** Numbers from row to row, and of all. */
  pitch: number;
  length: number;
}

/** @param weights how B is stored: numbers of 11 bits and fewer have no low part. */
export function operandTile(
  layout: GemmLayout,
  name: "a" | "b",
  tile: MatrixTile,
  weights: WeightStorage,
): OperandTile {
  const { rows, columns } = gemmGroupTile(tile);
  const lines = name === "a" ? rows : columns;
  const areRows = linesAreRows(layout, name);
  const isHalf = name === "b" && (weights === "f16" || weights === "bf16");
  const type = isScaled(tile) ? "f16" : "f32";
  const pitch = (areRows ? tile.depth : lines) + PADDING / BYTES[type];
  return {
    name,
    type,
    parts: type === "f32" ? ["whole"] : tile.precision === "high" && !isHalf ? ["high", "low"] : ["high"],
    lines,
    areRows,
    pitch,
    length: (areRows ? lines : tile.depth) * pitch,
  };
}

/** Bytes of workgroup memory that it takes, without its lines' scales. */
export const operandBytes = ({ type, parts, length }: OperandTile): number =>
  BYTES[type] * parts.length * length;

/** WGSL of its variables. */
export const declaration = ({ name, type, parts, length, lines }: OperandTile): string =>
  [
    ...parts.map((part) => `var<workgroup> ${name}_${part}: array<${type}, ${length}>;`),
    ...type === "f16" ? [`var<workgroup> ${name}_scales: array<f32, ${lines}>;`] : [],
  ].join("\n");

/** WGSL of its matrix from `line` and from the inner dimension's `step` on. */
export function matrixLoad(
  { name, type, areRows, pitch }: OperandTile,
  part: Part,
  line: string,
  { m, n, k }: MatrixTile,
): string {
  const [hand, width, height] = name === "a" ? ["left", k, m] : ["right", n, k];
  const order = areRows === (name === "a") ? "row_major" : "col_major";
  const place = areRows ? `(${line}) * ${pitch}u + step` : `step * ${pitch}u + ${line}`;
  const matrix = `subgroup_matrix_${hand}<${type}, ${width}, ${height}>`;
  return `subgroupMatrixLoad<${matrix}, ${order}>(&${name}_${part}, ${place}, ${pitch}u)`;
}

/**
 * WGSL that copies a tile of an operand. Past its edge what is there is repeated, and never stored; past the inner
 * dimension it is 0.
 */
export function copy(
  { name, type, parts, lines, areRows, pitch }: OperandTile,
  { threads, depth, line, first, last }: {
    threads: number;
    depth: number;
    line: string;
    first: string;
    last: string;
  },
): string {
  const stride = `LD${name.toUpperCase()}`;
  const width = (areRows ? depth : lines) / 4;
  const scaled = type === "f16";
  const load = areRows
    ? `      let line = at / ${width}u;
      let k = k_first + at % ${width}u * 4u;
      let to = line * ${pitch}u + at % ${width}u * 4u;
      let loaded = ${name}4(${line} * ${stride} + min(k, K - 1u));
      let past = vec4u(k, k + 1u, k + 2u, k + 3u) >= vec4u(K);
      let v = select(loaded, vec4f(), past)${scaled ? ` * ${name}_scales[line]` : ""};`
    : `      let line = at % ${width}u * 4u;
      let k = k_first + at / ${width}u;
      let to = at / ${width}u * ${pitch}u + line;
      let loaded = ${name}4(min(k, K - 1u) * ${stride} + min(${first} + line, (${last}) & 0xfffffffcu));
${
      scaled
        ? `      let scale = vec4f(${range(4).map((l) => `${name}_scales[line + ${l}u]`).join(", ")});\n`
        : ""
    }      let v = select(loaded, vec4f(), k >= K)${scaled ? " * scale" : ""};`;
  return `    for (var at = index; at < ${lines * depth / 4}u; at += ${threads}u) {
${load}
${putParts(parts, name, "to")}
    }`;
}

/** Statements that write vec4 `v`, which is scaled where it is split, in these parts. */
export function putParts(parts: readonly Part[], name: string, at: string): string {
  const put = (part: Part, value: string = part) =>
    lines(4, (l) => `      ${name}_${part}[${at} + ${l}u] = ${value}[${l}];`);
  if (parts.includes("whole")) return put("whole", "v");
  if (!parts.includes("low")) return `      let high = vec4<f16>(v);\n${put("high")}`;
  // By bits: Mesa takes a float32 that was turned into a float16 and back for what it was, and nothing would be left.
  return `      let near = bitcast<vec4f>((bitcast<vec4u>(v) + 0x1000u) & vec4u(0xffffe000u));
      let high = vec4<f16>(near);
      let low = vec4<f16>(v - near);
${put("high")}
${put("low")}`;
}
