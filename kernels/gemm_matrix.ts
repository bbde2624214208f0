/**
 * A matrix product by subgroup matrices (tensor cores, Apple's simdgroup matrices): a workgroup copies tiles of A and B
 * to workgroup memory, and each of its subgroups multiplies some matrices of them at a time, with float32 sums.
 *
 * `highest` has matrices of float32, of which a product is one as any other. `high` and `medium` have float16. From its
 * largest to its smallest number that has 2^40, so each line of an operand (`gemm_largest.ts`) is multiplied by the
 * power of two that brings its largest magnitude to 2^14 .. 2^15, and sums are divided by both. `high` splits a number
 * into the nearest float16 and the float16 of what that leaves, 22 bits together, and adds up three of the four
 * products: the fourth is below 2^-22 of the first. `medium` takes the first alone. A line that has an infinity or a
 * NaN is NaN there, and all sums with it, which in float32 are one of both.
 *
 * WGSL: the extension `chromium_experimental_subgroup_matrix`, of Dawn. All threads must come by its operations.
 */
import {
  extents,
  gemmGroupTile,
  type GemmLayout,
  type GemmVariant,
  isScaled,
  type MatrixTile,
} from "./gemm.ts";
import { isPaired, stores } from "./gemm_epilogue.ts";
import { foundSource, SCALES } from "./gemm_largest.ts";
import { copy, declaration, matrixLoad, operandBytes, operandTile } from "./gemm_matrix_operand.ts";
import { innerRange } from "./gemm_parts.ts";
import { lines, range } from "./emit.ts";

/**
 * What a workgroup may have, the best first. By 4 x 4 matrices of 16 x 16, two a direction: 128 x 128 sums of which a
 * step of 32 float16s reads 32 KiB for 2^19 multiply-adds, 16 a byte; and a subgroup reads 8 matrices from workgroup
 * memory for 16 products, 16 multiply-adds a byte of it too, which by reckoning, not measured, keeps up with an H200's
 * 2048 a cycle at its 128 bytes a cycle. `high` has two parts of each operand, and three products of them: 4 x 2
 * matrices do as well (16 and 18 a byte), and fit. Apple's matrices of float32 are 8 x 8: 64 x 64 sums in 14 KiB.
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
  precision: MatrixTile["precision"],
): MatrixTile | undefined {
  const isSmall = lanes < SMALL_LANES;
  const depth = precision !== "medium" && !isSmall ? 16 : 32;
  return (isSmall ? SMALL : CUTS)
    .map((cut): MatrixTile => ({ memory: "matrix", precision, m, n, k, lanes, ...cut, depth }))
    .find((tile) =>
      tile.matrices[0] % stackOf(tile) === 0 && matrixBytes(tile) <= Math.min(workgroupBytes, MOST_BYTES)
    );
}

/**
 * Matrices of sums under each other that a subgroup stores at a time, beside as many of the tile's other half: each of
 * its threads has vec4s of both.
 */
const stackOf = ({ m, n, lanes }: MatrixTile): number => Math.max(1, 4 * lanes / (m * n));

/** Elements of what all subgroups store at a time. */
const sumsLength = (tile: MatrixTile) =>
  tile.subgroups[0] * tile.subgroups[1] * 2 * stackOf(tile) * tile.m * tile.n;

/** Bytes of workgroup memory in the layout that takes the most. */
export function matrixBytes(tile: MatrixTile): number {
  const { rows, columns } = gemmGroupTile(tile);
  const scales = isScaled(tile) ? rows + columns : 0;
  const bytesOf = (layout: GemmLayout) =>
    (["a", "b"] as const).reduce(
      (sum, operand) => sum + operandBytes(operandTile(layout, operand, tile, "f32")),
      4 * (sumsLength(tile) + scales),
    );
  return Math.max(...(["nt", "nn", "tn"] as const).map(bytesOf));
}

/**
 * The entry point, and what it needs beside what `gemm_source.ts` declares; `binding` is the first that is free, which
 * only what is scaled takes.
 */
export function matrixMain(
  { layout, epilogue, weights }: GemmVariant,
  tile: MatrixTile,
  binding: number,
): string {
  const { m, n, k, lanes, subgroups: [, across], matrices: [down, right], depth } = tile;
  const { rows, columns } = gemmGroupTile(tile);
  const threads = tile.subgroups[0] * across * lanes;
  const stack = stackOf(tile);
  if (depth % k || right % 2 || down % stack || stack * m * n % (4 * lanes) || lanes % (n / 4)) {
    throw new RangeError(`no tile for subgroup matrices: ${JSON.stringify(tile)}`);
  }
  const scaled = isScaled(tile);
  const a = operandTile(layout, "a", tile, weights);
  const b = operandTile(layout, "b", tile, weights);
  const products = ([["low", "high"], ["high", "low"], ["high", "high"], ["whole", "whole"]] as const)
    .filter(([left, right]) => a.parts.includes(left) && b.parts.includes(right));
  const first = {
    row: (subgroup: string, i: number) => `(${subgroup} / ${across}u * ${down}u + ${i}u) * ${m}u`,
    // A subgroup has matrices of both halves of the tile: of pairs, first columns and their partners.
    column: (subgroup: string, j: number) =>
      `(${subgroup} % ${across}u * ${right / 2}u + ${j % (right / 2)}u) * ${n}u`,
  };
  const half = (j: number) => j < right / 2 ? "" : ` + ${columns / 2}u`;
  const aLine = "min(m_first + line, M - 1u)";
  const bLine = isPaired(epilogue)
    ? `(first_of_pair(n_first / 2u + line % ${columns / 2}u) + line / ${columns / 2}u * size.half)`
    : "min(n_first + line, N - 1u)";
  const scale = (operand: "a" | "b", count: number, line: string) =>
    `  for (var line = index; line < ${count}u; line += ${threads}u) {
    ${operand}_scales[line] = scale_of(${operand}_largest(${line}));
  }`;

  return `${
    scaled
      ? [foundSource(layout, "a", binding), foundSource(layout, "b", binding + 1), SCALES].join("\n")
      : ""
  }
${declaration(a)}
${declaration(b)}
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
${scaled ? [scale("a", rows, aLine), scale("b", columns, bLine), "  workgroupBarrier();"].join("\n") : ""}
${grid(tile, (i, j) => `  var sum${i}_${j}: subgroup_matrix_result<f32, ${n}, ${m}>;`)}
  for (var k_first = k_begin; k_first < K; k_first += ${depth}u) {
${copy(a, { threads, depth, line: aLine, first: "m_first", last: "M - 1u" })}
${copy(b, { threads, depth, line: bLine, first: "n_first", last: "N - 1u" })}
    workgroupBarrier();
    for (var step = 0u; step < ${depth}u; step += ${k}u) {
${
    lines(
      down,
      (i) =>
        a.parts.map((part) =>
          `      let a${i}_${part} = ${matrixLoad(a, part, first.row("subgroup", i), tile)};`
        )
          .join("\n"),
    )
  }
${
    lines(right, (j) =>
      [
        ...b.parts.map((part) =>
          `      let b${j}_${part} = ${matrixLoad(b, part, first.column("subgroup", j) + half(j), tile)};`
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
  // Some matrices of each subgroup at a time are stored in workgroup memory, where threads have rows of them.
  let owner = index / ${lanes}u;
  let row = index % ${lanes}u / ${n / 4}u;
  let column = index % ${n / 4}u * 4u;
${
    range(down / stack).flatMap((i) =>
      range(right / 2).map((j) => {
        const rowOf = (t: number) => `${first.row("owner", i * stack)} + row + ${t * lanes / (n / 4)}u`;
        const columnOf = `${first.column("owner", j)} + column`;
        const four = (name: string, at: string) =>
          `vec4f(${range(4).map((l) => `${name}[${at} + ${l}u]`).join(", ")})`;
        const vectors = stack * m * n / 4 / lanes;
        const reads = range(vectors).flatMap((t) =>
          range(2).map((g) => {
            const at = `(owner * 2u + ${g}u) * ${stack * m * n}u + (row + ${
              t * lanes / (n / 4)
            }u) * ${n}u + column`;
            const sums = four("sums", at);
            if (!scaled) return `    let c${t}_${g} = ${sums};`;
            const scales = four("b_scales", columnOf + half(g * right / 2));
            return `    let c${t}_${g} = unscaled(${sums}, a_scales[${rowOf(t)}], ${scales});`;
          })
        );
        const store = (g: number) =>
          lines(stack, (s) =>
            `  subgroupMatrixStore<row_major>(&sums, ((subgroup * 2u + ${g}u) * ${stack}u + ${s}u) * ${
              m * n
            }u, sum${i * stack + s}_${j + g * right / 2}, ${n}u);`);
        return `${i + j > 0 ? "  workgroupBarrier();\n" : ""}${store(0)}
${store(1)}
  workgroupBarrier();
  {
${reads.join("\n")}
${
          stores(epilogue, vectors, 2, (t, g) => ({
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
