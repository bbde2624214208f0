/**
 * A matrix product by subgroup matrices (tensor cores): a workgroup copies tiles of A and B to workgroup memory as float16, and
 * each of its four subgroups multiplies some square matrices of them at a time, with float32 sums.
 *
 * float16 has a range of 2^40 from its largest number to its smallest, so each operand is multiplied by a power of two that brings
 * its largest magnitude (`largestSource`) to 2^14 .. 2^15, and the sums by the inverse. `high` splits each number into its float16
 * and the float16 of what that leaves, 22 bits together, and adds up three of the four products; `medium` takes the first part alone.
 *
 * WGSL: the extension `chromium_experimental_subgroup_matrix`, of Dawn. Every thread must come by its operations.
 */
import { type GemmVariant, type MatrixTile, SIZE_HEADER } from "./gemm.ts";
import { isPaired, stores } from "./gemm_epilogue.ts";
import { lines, range } from "./emit.ts";
import { matrixReader, readerElement } from "./storage.ts";

/** Workgroups that look for an operand's largest magnitude, each in a part of it, and their threads. */
export const LARGEST_PARTS = 128;
const LARGEST_THREADS = 64;
/** Subgroups of a workgroup in each direction. */
const SUBGROUPS = 2;
/** float16s between the rows of a tile beside what they hold: rows that are multiples of 128 bytes apart share their banks. */
const PADDING = 8;

/**
 * A workgroup's tile, for matrices of `size` x `size` and subgroups of `lanes`. A driver on the processor, whose subgroups are
 * small, takes minutes to compile 4 x 4 matrices a subgroup.
 */
export function matrixTile(
  { size, lanes, precision }: Pick<MatrixTile, "size" | "lanes" | "precision">,
): MatrixTile {
  const matrices = lanes < 16 ? 2 : 4;
  const side = SUBGROUPS * matrices * size;
  const [threadColumns, groupColumns] = [8, side / 8];
  const groupRows = SUBGROUPS ** 2 * lanes / groupColumns;
  const threadRows = side / groupRows;
  return {
    memory: "matrix",
    size,
    lanes,
    matrices,
    precision,
    threadRows,
    threadColumns,
    groupRows,
    groupColumns,
  };
}

/** Rows and columns of an operand in memory, as WGSL, and floats from row to row. */
export function operandShape(
  layout: GemmVariant["layout"],
  operand: "a" | "b",
): { rows: string; columns: string; stride: string } {
  const [m, k] = layout === "tn" ? ["size.m", "counted(size.k)"] : ["counted(size.m)", "size.k"];
  if (operand === "a") {
    return layout === "tn"
      ? { rows: k, columns: m, stride: "size.lda" }
      : { rows: m, columns: k, stride: "size.lda" };
  }
  return layout === "nt"
    ? { rows: "size.n", columns: k, stride: "size.ldb" }
    : { rows: k, columns: "size.n", stride: "size.ldb" };
}

/**
 * WGSL of the largest magnitudes of an operand's parts, `LARGEST_PARTS` of them. Bindings: 0 the row count, 1 the size, 2 the operand,
 * 3 what is found. Grid: a workgroup a part.
 */
export function largestSource(variant: GemmVariant, operand: "a" | "b"): string {
  const { rows, columns, stride } = operandShape(variant.layout, operand);
  const { weights, aligned, layout } = variant;
  const isStored = operand === "b" && weights !== "f32";
  return `${SIZE_HEADER}
@group(0) @binding(2) var<storage, read> x: array<${
    isStored ? readerElement(weights) : aligned ? "vec4f" : "f32"
  }>;
@group(0) @binding(3) var<storage, read_write> found: array<f32>;
var<workgroup> most: array<f32, ${LARGEST_THREADS}>;
${
    isStored
      ? matrixReader("x", weights, `${layout === "nt" ? "size.n" : "size.k"} * size.ldb`)
      : aligned
      ? "fn x4(i: u32) -> vec4f { return x[i >> 2u]; }"
      : "fn x4(i: u32) -> vec4f { return vec4f(x[i], x[i + 1u], x[i + 2u], x[i + 3u]); }"
  }

@compute @workgroup_size(${LARGEST_THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let columns = ${columns};
  let width = (columns + 3u) / 4u;
  let count = min(rows.count, 1u) * ${rows} * width;
  var largest = vec4f();
  for (var i = group.x * ${LARGEST_THREADS}u + local; i < count; i += ${LARGEST_PARTS * LARGEST_THREADS}u) {
    let column = i % width * 4u;
    let values = abs(x4(i / width * ${stride} + column));
    let past = column + vec4u(0u, 1u, 2u, 3u) >= vec4u(columns);
    largest = max(largest, select(values, vec4f(), past));
  }
  most[local] = max(max(largest.x, largest.y), max(largest.z, largest.w));
  workgroupBarrier();
  if (local != 0u) { return; }
  var all = 0.0;
  for (var i = 0u; i < ${LARGEST_THREADS}u; i += 1u) { all = max(all, most[i]); }
  found[group.x] = all;
}
`;
}

/** WGSL of what the product reads of the largest magnitudes, at that binding: those of A's parts, and then those of B's. */
const scaleSource = (binding: number) => `
@group(0) @binding(${binding}) var<storage, read> largest: array<vec4f>;
// The bits of the power of two that brings the largest magnitude to 2^14 .. 2^15; its inverse is a number too.
fn exponent_of(first: u32) -> u32 {
  var most = vec4f();
  for (var i = 0u; i < ${LARGEST_PARTS / 4}u; i += 1u) { most = max(most, largest[first + i]); }
  let bits = bitcast<u32>(max(max(most.x, most.y), max(most.z, most.w)));
  return clamp(268u - (bits >> 23u), 2u, 252u);
}
fn power_of_two(exponent: u32) -> f32 { return bitcast<f32>(exponent << 23u); }`;

/** The entry point, and what it needs beside what `gemm_source.ts` declares; `binding` is the first that is free. */
export function matrixMain({ layout, epilogue }: GemmVariant, tile: MatrixTile, binding: number): string {
  const { size, lanes, matrices, precision, threadRows, groupRows, groupColumns } = tile;
  const side = SUBGROUPS * matrices * size;
  const threads = SUBGROUPS ** 2 * lanes;
  // Deeper where a tile has one part alone.
  const depth = precision === "high" ? 16 : 32;
  const parts = precision === "high" ? ["high", "low"] : ["high"];
  // B's tile is as its rows lie in memory, and so is A's: matrices may be read along rows or columns.
  const [aAlong, bAlong] = [layout === "tn", layout !== "nt"];
  const pitch = (along: boolean) => (along ? side : depth) + PADDING;
  const [aPitch, bPitch] = [pitch(aAlong), pitch(bAlong)];
  const length = (along: boolean) => (along ? depth : side) * pitch(along);
  const slab = { rows: SUBGROUPS * size, pitch: side + 4 };
  const slabRows = slab.rows / groupRows;
  const grid = (line: (i: number, j: number) => string) =>
    range(matrices).flatMap((i) => range(matrices).map((j) => line(i, j))).join("\n");

  const left = (part: string, i: number) =>
    matrixLoad("left", `a_${part}`, aAlong ? "col_major" : "row_major", {
      across: `(subgroup / ${SUBGROUPS}u * ${matrices}u + ${i}u) * ${size}u`,
      pitch: aPitch,
      isAcrossInner: aAlong,
    });
  const right = (part: string, j: number) =>
    matrixLoad("right", `b_${part}`, bAlong ? "row_major" : "col_major", {
      across: `(subgroup % ${SUBGROUPS}u * ${matrices}u + ${j}u) * ${size}u`,
      pitch: bPitch,
      isAcrossInner: bAlong,
    });
  const matrixLoad = (
    hand: "left" | "right",
    from: string,
    order: string,
    at: { across: string; pitch: number; isAcrossInner: boolean },
  ) => {
    const place = at.isAcrossInner
      ? `step * ${at.pitch}u + ${at.across}`
      : `${at.across} * ${at.pitch}u + step`;
    return `subgroupMatrixLoad<subgroup_matrix_${hand}<f16, ${size}, ${size}>, ${order}>(&${from}, ${place}, ${at.pitch}u)`;
  };
  const products = precision === "high"
    ? [["low", "high"], ["high", "low"], ["high", "high"]]
    : [["high", "high"]];

  return `${scaleSource(binding)}
${parts.map((part) => `var<workgroup> a_${part}: array<f16, ${length(aAlong)}>;`).join("\n")}
${parts.map((part) => `var<workgroup> b_${part}: array<f16, ${length(bAlong)}>;`).join("\n")}
var<workgroup> sums: array<f32, ${slab.rows * slab.pitch}>;

@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32,
        @builtin(subgroup_id) subgroup: u32) {
  let M = ${layout === "tn" ? "size.m" : "counted(size.m)"};
  let N = size.n;
  let K = ${layout === "tn" ? "counted(size.k)" : "size.k"};
  let LDA = size.lda;
  let LDB = size.ldb;
  let m_first = group.y * ${side}u;
  let n_first = group.x * ${side}u;
  let a_exponent = exponent_of(0u);
  let b_exponent = exponent_of(${LARGEST_PARTS / 4}u);
  let a_scale = power_of_two(a_exponent);
  let b_scale = power_of_two(b_exponent);
${grid((i, j) => `  var sum${i}_${j}: subgroup_matrix_result<f32, ${size}, ${size}>;`)}
  for (var k_first = 0u; k_first < K; k_first += ${depth}u) {
    workgroupBarrier();
${
    copy("a", {
      along: aAlong,
      side,
      depth,
      threads,
      pitch: aPitch,
      parts,
      start: "min(m_first + line, M - 1u)",
      first: "m_first",
      limit: "M",
    })
  }
${
    copy("b", {
      along: bAlong,
      side,
      depth,
      threads,
      pitch: bPitch,
      parts,
      // The tile's first half holds first columns of pairs, its second half their partners.
      start: isPaired(epilogue)
        ? `(first_of_pair(n_first / 2u + line % ${side / 2}u) + line / ${side / 2}u * size.half)`
        : "min(n_first + line, N - 1u)",
      first: "n_first",
      limit: "N",
    })
  }
    workgroupBarrier();
    for (var step = 0u; step < ${depth}u; step += ${size}u) {
${lines(matrices, (i) => parts.map((part) => `      let a${i}_${part} = ${left(part, i)};`).join("\n"))}
${
    lines(matrices, (j) =>
      [
        ...parts.map((part) => `      let b${j}_${part} = ${right(part, j)};`),
        ...products.flatMap(([a, b]) =>
          range(matrices).map((i) =>
            `      sum${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}_${a}, b${j}_${b}, sum${i}_${j});`
          )
        ),
      ].join("\n"))
  }
    }
  }
  let a_inverse = power_of_two(254u - a_exponent);
  let b_inverse = power_of_two(254u - b_exponent);
  let row = index / ${groupColumns}u;
  let column = index % ${groupColumns}u * 4u;
${
    lines(matrices, (i) =>
      `  workgroupBarrier();
${
        lines(matrices, (j) =>
          `  subgroupMatrixStore<row_major>(&sums, subgroup / ${SUBGROUPS}u * ${size * slab.pitch}u + ` +
          `(subgroup % ${SUBGROUPS}u * ${matrices}u + ${j}u) * ${size}u, sum${i}_${j}, ${slab.pitch}u);`)
      }
  workgroupBarrier();
${
        lines(slabRows, (r) =>
          lines(2, (j) => {
            const at = `(row + ${r * groupRows}u) * ${slab.pitch}u + column + ${j * side / 2}u`;
            const four = range(4).map((l) => `sums[${at} + ${l}u]`).join(", ");
            return `  let c${i * slabRows + r}_${j} = vec4f(${four}) * a_inverse * b_inverse;`;
          }))
      }`)
  }
${
    stores(epilogue, threadRows, 2, (t, j) => {
      const [i, r] = [Math.floor(t / slabRows), t % slabRows];
      const inSlab = `(row + ${r * groupRows}u)`;
      return {
        m: `m_first + ${inSlab} / ${size}u * ${matrices * size}u + ${i * size}u + ${inSlab} % ${size}u`,
        n: `${isPaired(epilogue) ? "n_first / 2u" : "n_first"} + ${j * side / 2}u + column`,
      };
    })
  }
}
`;
}

/** Copies a tile of an operand, whose rows run along the tile's side or, where `along` is false, along the inner dimension. */
function copy(
  name: "a" | "b",
  { along, side, depth, threads, pitch, parts, start, first, limit }: {
    along: boolean;
    side: number;
    depth: number;
    threads: number;
    pitch: number;
    parts: readonly string[];
    start: string;
    first: string;
    limit: string;
  },
): string {
  const stride = name === "a" ? "LDA" : "LDB";
  const width = (along ? side : depth) / 4;
  // Beyond the edge the tile repeats what is there, and the products are never stored; beyond the inner dimension it is 0.
  const load = along
    ? `      let k = k_first + line;
      var v = ${name}4(min(k, K - 1u) * ${stride} + min(${first} + place, (${limit} - 1u) & 0xfffffffcu));
      v = select(v, vec4f(), k >= K) * ${name}_scale;`
    : `      let k = k_first + place;
      var v = ${name}4(${start} * ${stride} + min(k, K - 1u));
      v = select(v, vec4f(), vec4u(k, k + 1u, k + 2u, k + 3u) >= vec4u(K)) * ${name}_scale;`;
  const put = (part: string) =>
    range(4).map((l) => `      ${name}_${part}[to + ${l}u] = ${part}[${l}];`).join("\n");
  // By bits: some compilers take a float32 that was turned into a float16 and back for what it was, and nothing would be left.
  const split = parts.includes("low")
    ? `      let near = bitcast<vec4f>((bitcast<vec4u>(v) + 0x1000u) & vec4u(0xffffe000u));
      let high = vec4<f16>(near);
${put("high")}
      let low = vec4<f16>(v - near);
${put("low")}`
    : `      let high = vec4<f16>(v);
${put("high")}`;
  return `    for (var l = 0u; l < ${side * depth / 4 / threads}u; l += 1u) {
      let at = l * ${threads}u + index;
      let line = at / ${width}u;
      let place = at % ${width}u * 4u;
${load}
      let to = line * ${pitch}u + place;
${split}
    }`;
}
