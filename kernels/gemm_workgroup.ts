/**
 * A matrix product whose workgroup copies tiles of A and B to workgroup memory, `DEPTH` of the inner dimension at a time,
 * both with the inner dimension outermost, so that a step of the product reads vec4s along rows and columns.
 */
import type { GemmTile, GemmVariant } from "./gemm.ts";
import { lane, lines, range } from "./emit.ts";

/** Inner dimension of a tile. */
const DEPTH = 8;

/** The entry point; `gemm.ts` declares what it reads and writes. */
export function workgroupMain({ layout }: GemmVariant, tile: GemmTile): string {
  const { threadRows: tm, threadColumns: tn, groupRows, groupColumns } = tile;
  const threads = groupRows * groupColumns;
  // vec4s of a tile's row: a thread's rows are groups of 4, `groupRows` groups apart, and its columns likewise.
  const width = { a: groupRows * tm / 4, b: groupColumns * tn / 4 };
  const accumulators = (line: (i: number, j: number) => string) =>
    range(tm).flatMap((i) => range(tn / 4).map((j) => line(i, j))).join("\n");
  return `
var<workgroup> a_tile: array<vec4f, ${DEPTH * width.a}>;
var<workgroup> b_tile: array<vec4f, ${DEPTH * width.b}>;

@compute @workgroup_size(${groupColumns}, ${groupRows})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u,
        @builtin(local_invocation_index) index: u32) {
  let M = ${layout === "tn" ? "size.m" : "counted(size.m)"};
  let N = size.n;
  let K = ${layout === "tn" ? "counted(size.k)" : "size.k"};
  let LDA = size.lda;
  let LDB = size.ldb;
  let m_first = group.y * ${groupRows * tm}u;
  let n_first = group.x * ${groupColumns * tn}u;
${accumulators((i, j) => `  var c${i}_${j} = vec4f();`)}
  for (var k_first = 0u; k_first < K; k_first += ${DEPTH}u) {
    workgroupBarrier();
${copy("a", layout === "tn" ? "along" : "across", width.a, threads, "m_first", "M", "LDA")}
${copy("b", layout === "nt" ? "across" : "along", width.b, threads, "n_first", "N", "LDB")}
    workgroupBarrier();
${
    lines(DEPTH, (k) =>
      `    {
${lines(tm / 4, (i) => `      let x${i} = a_tile[${k * width.a + i * groupRows}u + local.y];`)}
${lines(tn / 4, (j) => `      let y${j} = b_tile[${k * width.b + j * groupColumns}u + local.x];`)}
${accumulators((i, j) => `      c${i}_${j} += x${i >> 2}.${lane(i & 3)} * y${j};`)}
    }`)
  }
  }
${
    accumulators((i, j) =>
      `  store(M, m_first + ${(i >> 2) * groupRows * 4 + (i & 3)}u + local.y * 4u, ` +
      `n_first + ${j * groupColumns * 4}u + local.x * 4u, c${i}_${j});`
    )
  }
}
`;
}

/**
 * Copies blocks of 4 x 4 of an operand to its tile: `across` where its rows run along the inner dimension, and a block is
 * turned on the way; `along` where they run along the tile's rows. Beyond the inner dimension the tile is 0; beyond the
 * edge it repeats what is there, and the products are never stored.
 */
function copy(
  name: "a" | "b",
  direction: "across" | "along",
  width: number,
  threads: number,
  first: string,
  limit: string,
  stride: string,
): string {
  const blocks = width * DEPTH / 4;
  const load = direction === "across"
    ? lines(
      4,
      (l) =>
        `      var v${l} = ${name}4(min(${first} + column * 4u + ${l}u, ${limit} - 1u) * ${stride} + min(k, K - 1u));
      v${l} = select(v${l}, vec4f(), vec4u(k, k + 1u, k + 2u, k + 3u) >= vec4u(K));`,
    )
    : lines(
      4,
      (l) =>
        `      var v${l} = ${name}4(min(k + ${l}u, K - 1u) * ${stride} + min(${first} + column * 4u, (${limit} - 1u) & 0xfffffffcu));
      v${l} = select(v${l}, vec4f(), k + ${l}u >= K);`,
    );
  const value = (l: number) =>
    direction === "across" ? `vec4f(${range(4).map((i) => `v${i}.${lane(l)}`).join(", ")})` : `v${l}`;
  return `    for (var block = index; block < ${blocks}u; block += ${threads}u) {
      let column = block % ${width}u;
      let row = block / ${width}u * 4u;
      let k = k_first + row;
${load}
${lines(4, (l) => `      ${name}_tile[(row + ${l}u) * ${width}u + column] = ${value(l)};`)}
    }`;
}
