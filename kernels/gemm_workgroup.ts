/**
 * A matrix product whose workgroup copies tiles of A and B to workgroup memory, both with the inner dimension
 * outermost, so that a step of the product reads vec4s along rows and columns. A thread copies one block of 4 x 4 at
 * most, of A or of B.
 */
import { extents, type GemmVariant, type WorkgroupTile } from "./gemm.ts";
import { isPaired, stores } from "./gemm_epilogue.ts";
import { innerRange } from "./gemm_parts.ts";
import { lane, lines, range } from "./emit.ts";

/** Steps of the inner dimension that are written out, at most. */
const UNROLLED = 16;
/**
 * vec4s between the rows of a tile, beside what they hold: rows a multiple of 128 bytes apart share their banks of
 * memory.
 */
const PADDING = 1;

/** The entry point; `gemm.ts` declares what it reads and writes. */
export function workgroupMain({ layout, epilogue }: GemmVariant, tile: WorkgroupTile): string {
  const { threadRows: tm, threadColumns: tn, groupRows, groupColumns } = tile;
  const threads = groupRows * groupColumns;
  // vec4s of a tile's row: a thread's rows are groups of 4, `groupRows` groups apart, and its columns likewise.
  const width = { a: groupRows * tm / 4, b: groupColumns * tn / 4 };
  const pitch = { a: width.a + PADDING, b: width.b + PADDING };
  const depth = Math.min(tile.depth, 4 * threads / (width.a + width.b));
  if (depth % 4) throw new RangeError(`${threads} threads do not copy whole tiles`);
  const steps = Math.min(depth, UNROLLED);
  const accumulators = (line: (i: number, j: number) => string) =>
    range(tm).flatMap((i) => range(tn / 4).map((j) => line(i, j))).join("\n");
  const a = layout === "tn" ? along("m_first", "M", "LDA") : across("m_first", "M", "LDA");
  const b = isPaired(epilogue)
    ? pairsAcross(width.b)
    : layout === "nt"
    ? across("n_first", "N", "LDB")
    : along("n_first", "N", "LDB");
  return `
var<workgroup> a_tile: array<vec4f, ${depth * pitch.a}>;
var<workgroup> b_tile: array<vec4f, ${depth * pitch.b}>;

@compute @workgroup_size(${groupColumns}, ${groupRows})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u,
        @builtin(local_invocation_index) index: u32) {
  let M = ${extents(layout).M};
  let N = size.n;
${innerRange({ layout, epilogue }, depth)}
  let LDA = size.lda;
  let LDB = size.ldb;
  let m_first = group.y * ${groupRows * tm}u;
  let n_first = group.x * ${groupColumns * tn}u;
${place("a", a, width.a, 0, depth)}
${place("b", b, width.b, width.a * depth / 4, depth)}
${accumulators((i, j) => `  var c${i}_${j} = vec4f();`)}
  for (var k_first = k_begin; k_first < K; k_first += ${depth}u) {
    workgroupBarrier();
${copy("a", a, width.a, depth)}
${copy("b", b, width.b, depth)}
    workgroupBarrier();
${steps < depth ? `    for (var step = 0u; step < ${depth}u; step += ${steps}u) {` : "    let step = 0u;"}
    let a_at = step * ${pitch.a}u + local.y;
    let b_at = step * ${pitch.b}u + local.x;
${
    lines(steps, (k) =>
      `    {
${lines(tm / 4, (i) => `      let x${i} = a_tile[a_at + ${k * pitch.a + i * groupRows}u];`)}
${lines(tn / 4, (j) => `      let y${j} = b_tile[b_at + ${k * pitch.b + j * groupColumns}u];`)}
${accumulators((i, j) => `      c${i}_${j} += x${i >> 2}.${lane(i & 3)} * y${j};`)}
    }`)
  }
${steps < depth ? "    }" : ""}
  }
${
    stores(epilogue, tm, tn / 4, (i, j) => ({
      m: `m_first + ${(i >> 2) * groupRows * 4 + (i & 3)}u + local.y * 4u`,
      n: `${isPaired(epilogue) ? "n_first / 2u" : "n_first"} + ${j * groupColumns * 4}u + local.x * 4u`,
    }))
  }
}
`;
}

/**
 * How threads copy blocks of 4 x 4 of an operand, one each and others than the other operand's: a block is at `row`
 * of the inner dimension and at the tile's `column`, in groups of four.
 */
interface Blocks {
  /** Whether the operand's rows run along the inner dimension, so that a block is turned on the way. */
  turned: boolean;
  /** Where row `l` of the block begins in the operand or, where it is not turned, the block's first column. */
  start: (column: string, l: number) => string;
  stride: string;
}

/** Beyond the edge the tile repeats what is there, and the products are never stored. */
const across = (first: string, limit: string, stride: string): Blocks => ({
  turned: true,
  start: (column, l) => `min(${first} + ${column} * 4u + ${l}u, ${limit} - 1u) * ${stride}`,
  stride,
});
const along = (first: string, limit: string, stride: string): Blocks => ({
  turned: false,
  start: (column) => `min(${first} + ${column} * 4u, (${limit} - 1u) & 0xfffffffcu)`,
  stride,
});
/** The tile's first half holds first columns of pairs, its second half their partners. */
const pairsAcross = (width: number): Blocks => ({
  turned: true,
  start: (column, l) =>
    `(first_of_pair(n_first / 2u + ${column} % ${width / 2}u * 4u + ${l}u) + ${column} / ${
      width / 2
    }u * size.half) * LDB`,
  stride: "LDB",
});

/** What stays the same in all steps of the inner dimension: where a thread's block lies. */
const place = (
  name: "a" | "b",
  { turned, start }: Blocks,
  width: number,
  firstThread: number,
  depth: number,
): string =>
  `  let ${name}_block = index - ${firstThread}u;
${
    // Neighbouring threads read what is neighbouring in the operand's rows.
    turned
      ? `  let ${name}_column = ${name}_block / ${depth / 4}u;
  let ${name}_row = ${name}_block % ${depth / 4}u * 4u;`
      : `  let ${name}_column = ${name}_block % ${width}u;
  let ${name}_row = ${name}_block / ${width}u * 4u;`}
${lines(turned ? 4 : 1, (l) => `  let ${name}_start${l} = ${start(`${name}_column`, l)};`)}`;

/** Copies a block of an operand to its tile. Beyond the inner dimension the tile is 0. */
function copy(name: "a" | "b", { turned, stride }: Blocks, width: number, depth: number): string {
  const load = turned
    ? lines(
      4,
      (l) =>
        `      var v${l} = ${name}4(${name}_start${l} + min(k, K - 1u));
      v${l} = select(v${l}, vec4f(), vec4u(k, k + 1u, k + 2u, k + 3u) >= vec4u(K));`,
    )
    : lines(
      4,
      (l) =>
        `      var v${l} = ${name}4(min(k + ${l}u, K - 1u) * ${stride} + ${name}_start0);
      v${l} = select(v${l}, vec4f(), k + ${l}u >= K);`,
    );
  const value = (l: number) =>
    turned ? `vec4f(${range(4).map((i) => `v${i}.${lane(l)}`).join(", ")})` : `v${l}`;
  return `    if (${name}_block < ${width * depth / 4}u) {
      let k = k_first + ${name}_row;
${load}
${
    lines(4, (l) =>
      `      ${name}_tile[(${name}_row + ${l}u) * ${width + PADDING}u + ${name}_column] = ${value(l)};`)
  }
    }`;
}
