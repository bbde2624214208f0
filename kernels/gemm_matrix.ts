/**
 * A matrix product by subgroup matrices (tensor cores): a workgroup copies tiles of A and B to workgroup memory as
 * float16, and each of its subgroups multiplies some matrices of them at a time, with float32 sums.
 *
 * From its largest to its smallest number float16 has 2^40, so each line of an operand (`gemm_largest.ts`) is multiplied
 * by the power of two that brings its largest magnitude to 2^14 .. 2^15, and sums are divided by both. `high` splits a
 * number into the nearest float16 and the float16 of what that leaves, 22 bits together, and adds up three of the four
 * products: the fourth is below 2^-22 of the first. `medium` takes the first alone.
 *
 * A line that has an infinity or a NaN is NaN here, and all sums with it, which in float32 are one of both.
 *
 * WGSL: the extension `chromium_experimental_subgroup_matrix`, of Dawn. All threads must come by its operations.
 */
import {
  extents,
  gemmGroupTile,
  type GemmLayout,
  type GemmVariant,
  type MatrixPrecision,
  type MatrixTile,
} from "./gemm.ts";
import { isPaired, stores } from "./gemm_epilogue.ts";
import { foundSource, linesAreRows } from "./gemm_largest.ts";
import { innerRange } from "./gemm_parts.ts";
import { lines, range } from "./emit.ts";
import type { WeightStorage } from "./storage.ts";

/** float16s between a tile's rows beside what they hold: rows a multiple of 128 bytes apart share their banks. */
const PADDING = 8;

/**
 * What a workgroup may have, the best first. By 4 x 4 matrices of 16 x 16, two a direction: 128 x 128 sums of which a
 * step of 32 reads 32 KiB for 2^19 multiply-adds, 16 a byte; and a subgroup reads 8 matrices from workgroup memory for
 * 16 products, 16 multiply-adds a byte of it too, which by reckoning, not measured, keeps up with an H200's 2048 a
 * cycle at its 128 bytes a cycle. `high` has two parts of each operand, and three products of them: 4 x 2 matrices do as
 * well (16 and 18 a byte), and fit.
 */
const CUTS: readonly Pick<MatrixTile, "subgroups" | "matrices">[] = [
  { subgroups: [2, 2], matrices: [4, 4] },
  { subgroups: [2, 2], matrices: [4, 2] },
  { subgroups: [2, 1], matrices: [2, 2] },
];
/**
 * A driver on the processor, whose subgroups are small, takes 5 s to compile this, and minutes for 4 x 4. What it waits
 * for is copies: 32 x 32 sums and 32 deep are twice as fast as 16 x 32 and 16 deep (REJECTED.md).
 */
const SMALL: typeof CUTS = [{ subgroups: [4, 1], matrices: [1, 4] }];
const SMALL_LANES = 16;

/** Bytes of workgroup memory; more, even where a GPU has them, and fewer workgroups run at a time. */
const MOST_BYTES = 32 * 1024;

/** The tile for a device's matrices and the workgroup memory that it has; none where that is too little for any. */
export function matrixTile(
  { m, n, k, lanes, workgroupBytes }: Pick<MatrixTile, "m" | "n" | "k" | "lanes"> & {
    workgroupBytes: number;
  },
  precision: MatrixPrecision,
): MatrixTile | undefined {
  const isSmall = lanes < SMALL_LANES;
  const depth = precision === "high" && !isSmall ? 16 : 32;
  return (isSmall ? SMALL : CUTS)
    .map((cut): MatrixTile => ({ memory: "matrix", precision, m, n, k, lanes, ...cut, depth }))
    .find((tile) => matrixBytes(tile) <= Math.min(workgroupBytes, MOST_BYTES));
}

/** How an operand lies in workgroup memory, in each of its parts. */
interface OperandTile {
  /** The high part, or that and the low one. */
  parts: readonly ("high" | "low")[];
  /** Its lines, and how many of them; whether they are rows, as in memory. */
  lines: number;
  areRows: boolean;
  /** float16s from row to row, and of all. */
  pitch: number;
  length: number;
}

/** @param weights how B is stored: numbers of 11 bits and fewer have no low part. */
function operandTile(
  layout: GemmLayout,
  operand: "a" | "b",
  tile: MatrixTile,
  weights: WeightStorage,
): OperandTile {
  const { rows, columns } = gemmGroupTile(tile);
  const lines = operand === "a" ? rows : columns;
  const areRows = linesAreRows(layout, operand);
  const isHalf = operand === "b" && (weights === "f16" || weights === "bf16");
  const pitch = (areRows ? tile.depth : lines) + PADDING;
  return {
    parts: tile.precision === "high" && !isHalf ? ["high", "low"] : ["high"],
    lines,
    areRows,
    pitch,
    length: (areRows ? lines : tile.depth) * pitch,
  };
}

/** Elements that the two matrices take which a subgroup stores at a time. */
const sumsLength = ({ subgroups: [down, across], m, n }: MatrixTile) => down * across * 2 * m * n;

/** Bytes of workgroup memory in the layout that takes the most. */
export function matrixBytes(tile: MatrixTile): number {
  const { rows, columns } = gemmGroupTile(tile);
  const bytesOf = (layout: GemmLayout) =>
    (["a", "b"] as const).reduce((sum, operand) => {
      const { parts, length } = operandTile(layout, operand, tile, "f32");
      return sum + 2 * parts.length * length;
    }, 4 * (sumsLength(tile) + rows + columns));
  return Math.max(...(["nt", "nn", "tn"] as const).map(bytesOf));
}

const SCALES = `
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

/** The entry point, and what it needs beside what `gemm_source.ts` declares; `binding` is the first that is free. */
export function matrixMain(
  { layout, epilogue, weights }: GemmVariant,
  tile: MatrixTile,
  binding: number,
): string {
  const { m, n, k, lanes, subgroups: [, across], matrices: [down, right], depth } = tile;
  const { rows, columns } = gemmGroupTile(tile);
  const threads = tile.subgroups[0] * across * lanes;
  if (depth % k || right % 2 || m * n % (4 * lanes) || lanes % (n / 4)) {
    throw new RangeError(`no tile for subgroup matrices: ${JSON.stringify(tile)}`);
  }
  const a = operandTile(layout, "a", tile, weights);
  const b = operandTile(layout, "b", tile, weights);
  const products = ([["low", "high"], ["high", "low"], ["high", "high"]] as const)
    .filter(([left, right]) => a.parts.includes(left) && b.parts.includes(right));
  const first = {
    row: (subgroup: string, i: number) => `(${subgroup} / ${across}u * ${down}u + ${i}u) * ${m}u`,
    // A subgroup has matrices of both halves of the tile: of pairs, first columns and their partners.
    column: (subgroup: string, j: number) =>
      `(${subgroup} % ${across}u * ${right / 2}u + ${j % (right / 2)}u) * ${n}u`,
  };
  const half = (j: number) => j < right / 2 ? "" : ` + ${columns / 2}u`;

  const load = (hand: "left" | "right", name: string, line: string, { areRows, pitch }: OperandTile) => {
    const [width, height] = hand === "left" ? [k, m] : [n, k];
    const order = areRows === (hand === "left") ? "row_major" : "col_major";
    const place = areRows ? `(${line}) * ${pitch}u + step` : `step * ${pitch}u + ${line}`;
    return `subgroupMatrixLoad<subgroup_matrix_${hand}<f16, ${width}, ${height}>, ${order}>(&${name}, ${place}, ${pitch}u)`;
  };
  const declare = (name: "a" | "b", { parts, length, lines }: OperandTile) =>
    [
      ...parts.map((part) => `var<workgroup> ${name}_${part}: array<f16, ${length}>;`),
      `var<workgroup> ${name}_scales: array<f32, ${lines}>;`,
    ].join("\n");
  const aLine = "min(m_first + line, M - 1u)";
  const bLine = isPaired(epilogue)
    ? `(first_of_pair(n_first / 2u + line % ${columns / 2}u) + line / ${columns / 2}u * size.half)`
    : "min(n_first + line, N - 1u)";

  return `${foundSource(layout, "a", binding)}
${foundSource(layout, "b", binding + 1)}
${SCALES}
${declare("a", a)}
${declare("b", b)}
var<workgroup> sums: array<f32, ${sumsLength(tile)}>;

@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32,
        @builtin(subgroup_id) subgroup: u32) {
  let M = ${extents(layout).M};
  let N = size.n;
${innerRange({ layout, epilogue }, depth)}
  let LDA = size.lda;
  let LDB = size.ldb;
  let m_first = group.y * ${rows}u;
  // The first column or, where it is cut along pairs of them, twice the first pair.
  let n_first = group.x * ${columns}u;
  for (var line = index; line < ${rows}u; line += ${threads}u) {
    a_scales[line] = scale_of(a_largest(${aLine}));
  }
  for (var line = index; line < ${columns}u; line += ${threads}u) {
    b_scales[line] = scale_of(b_largest(${bLine}));
  }
  workgroupBarrier();
${grid(tile, (i, j) => `  var sum${i}_${j}: subgroup_matrix_result<f32, ${n}, ${m}>;`)}
  for (var k_first = k_begin; k_first < K; k_first += ${depth}u) {
${copy("a", a, { threads, depth, line: aLine, first: "m_first", last: "M - 1u" })}
${copy("b", b, { threads, depth, line: bLine, first: "n_first", last: "N - 1u" })}
    workgroupBarrier();
    for (var step = 0u; step < ${depth}u; step += ${k}u) {
${
    lines(
      down,
      (i) =>
        a.parts.map((part) =>
          `      let a${i}_${part} = ${load("left", `a_${part}`, first.row("subgroup", i), a)};`
        )
          .join("\n"),
    )
  }
${
    lines(right, (j) =>
      [
        ...b.parts.map((part) =>
          `      let b${j}_${part} = ${load("right", `b_${part}`, first.column("subgroup", j) + half(j), b)};`
        ),
        ...products.flatMap(([left, right]) =>
          range(down).map((i) =>
            `      sum${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}_${left}, b${j}_${right}, sum${i}_${j});`
          )
        ),
      ].join("\n"))
  }
    }
    workgroupBarrier();
  }
  // Two matrices of each subgroup at a time are stored in workgroup memory, where threads have rows of them.
  let owner = index / ${lanes}u;
  let row = index % ${lanes}u / ${n / 4}u;
  let column = index % ${n / 4}u * 4u;
${
    range(down).flatMap((i) =>
      range(right / 2).map((j) => {
        const rowOf = (t: number) => `${first.row("owner", i)} + row + ${t * lanes / (n / 4)}u`;
        const columnOf = `${first.column("owner", j)} + column`;
        const four = (name: string, at: string) =>
          `vec4f(${range(4).map((l) => `${name}[${at} + ${l}u]`).join(", ")})`;
        const reads = range(m * n / 4 / lanes).flatMap((t) =>
          range(2).map((g) => {
            const at = `(owner * 2u + ${g}u) * ${m * n}u + (row + ${t * lanes / (n / 4)}u) * ${n}u + column`;
            const scales = four("b_scales", columnOf + half(g * right / 2));
            return `    let c${t}_${g} = unscaled(${four("sums", at)}, a_scales[${rowOf(t)}], ${scales});`;
          })
        );
        const store = (g: number) =>
          `  subgroupMatrixStore<row_major>(&sums, (subgroup * 2u + ${g}u) * ${m * n}u, sum${i}_${
            j + g * right / 2
          }, ${n}u);`;
        return `${i + j > 0 ? "  workgroupBarrier();\n" : ""}${store(0)}
${store(1)}
  workgroupBarrier();
  {
${reads.join("\n")}
${
          stores(epilogue, m * n / 4 / lanes, 2, (t, g) => ({
            m: `m_first + ${rowOf(t)}`,
            n: isPaired(epilogue)
              ? `n_first / 2u + ${columnOf}`
              : `n_first + ${columnOf}${half(g * right / 2)}`,
          }))
        }
  }`;
      })
    ).join("\n")
  }
}
`;
}

/** A line for each of a subgroup's matrices of sums. */
const grid = ({ matrices: [down, right] }: MatrixTile, line: (i: number, j: number) => string) =>
  range(down).flatMap((i) => range(right).map((j) => line(i, j))).join("\n");

/**
 * Copies a tile of an operand. Past its edge what is there is repeated, and never stored; past the inner dimension it
 * is 0.
 */
function copy(
  name: "a" | "b",
  { parts, lines, areRows, pitch }: OperandTile,
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
  const load = areRows
    ? `      let line = at / ${width}u;
      let k = k_first + at % ${width}u * 4u;
      let to = line * ${pitch}u + at % ${width}u * 4u;
      let loaded = ${name}4(${line} * ${stride} + min(k, K - 1u));
      let past = vec4u(k, k + 1u, k + 2u, k + 3u) >= vec4u(K);
      let v = select(loaded, vec4f(), past) * ${name}_scales[line];`
    : `      let line = at % ${width}u * 4u;
      let k = k_first + at / ${width}u;
      let to = at / ${width}u * ${pitch}u + line;
      let loaded = ${name}4(min(k, K - 1u) * ${stride} + min(${first} + line, (${last}) & 0xfffffffcu));
      let scale = vec4f(${range(4).map((l) => `${name}_scales[line + ${l}u]`).join(", ")});
      let v = select(loaded, vec4f(), k >= K) * scale;`;
  const put = (part: string) =>
    range(4).map((l) => `      ${name}_${part}[to + ${l}u] = ${part}[${l}];`).join("\n");
  // By bits: Mesa takes a float32 that was turned into a float16 and back for what it was, and nothing would be left.
  const split = parts.includes("low")
    ? `      let near = bitcast<vec4f>((bitcast<vec4u>(v) + 0x1000u) & vec4u(0xffffe000u));
      let high = vec4<f16>(near);
      let low = vec4<f16>(v - near);
${put("high")}
${put("low")}`
    : `      let high = vec4<f16>(v);
${put("high")}`;
  return `    for (var at = index; at < ${lines * depth / 4}u; at += ${threads}u) {
${load}
${split}
    }`;
}
