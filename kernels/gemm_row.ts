/**
 * A matrix product of few rows, such as one token's: every element of B is read once for each row of A, so that reading B is all
 * that takes time. `lanes` threads side by side read on in the same rows of B, and add up at the end what each has found.
 */
import type { GemmVariant, RowTile } from "./gemm.ts";
import { isPaired, stores } from "./gemm_epilogue.ts";
import { lines, range } from "./emit.ts";

/** The entry point; `gemm_source.ts` declares what it reads and writes. */
export function rowMain(variant: GemmVariant, tile: RowTile): string {
  const { layout, epilogue, tail } = variant;
  const { threadColumns, groupColumns, lanes } = tile;
  if (layout !== "nt") throw new RangeError(`a row tile is for nt, not ${layout}`);
  const threads = lanes * groupColumns;
  const groups = threadColumns / 4;
  const pairs = threadColumns / 2;
  const rowOfB = (j: number) =>
    !isPaired(epilogue)
      ? `min(n + ${j}u, size.n - 1u) * size.ldb`
      : j < pairs
      ? `first_of_pair(p + ${j}u) * size.ldb`
      : `rb${j - pairs} + size.half * size.ldb`;
  const step = (load: "4" | "1") => {
    const product = (j: number) => load === "4" ? `dot(x, b4(rb${j} + k))` : `x * b1(rb${j} + k)`;
    return `
    let x = a${load}(m * size.lda + k);
${lines(groups, (j) => `    c0_${j} += vec4f(${range(4).map((l) => product(4 * j + l)).join(", ")});`)}`;
  };
  return `
var<workgroup> partial: array<vec4f, ${threads * groups}>;

@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let M = counted(size.m);
  let m = group.y;
  let lane = local % ${lanes}u;
  let n = (group.x * ${groupColumns}u + local / ${lanes}u) * ${threadColumns}u;
${isPaired(epilogue) ? "  let p = n / 2u;" : ""}
${lines(threadColumns, (j) => `  let rb${j} = ${rowOfB(j)};`)}
${lines(groups, (j) => `  var c0_${j} = vec4f();`)}
  for (var k = 4u * lane; k < (size.k & 0xfffffffcu); k += ${4 * lanes}u) {${step("4")}
  }
${tail ? `  for (var k = (size.k & 0xfffffffcu) + lane; k < size.k; k += ${lanes}u) {${step("1")}\n  }` : ""}
${lines(groups, (j) => `  partial[${threads * j}u + local] = c0_${j};`)}
  workgroupBarrier();
${
    range(Math.log2(lanes)).map((i) => {
      const half = lanes >> (i + 1);
      return `  if (lane < ${half}u) {
${
        lines(
          groups,
          (j) => `    partial[${threads * j}u + local] += partial[${threads * j + half}u + local];`,
        )
      }
  }
  workgroupBarrier();`;
    }).join("\n")
  }
  // A few threads are left, one for each group of columns.
  if (lane > 0u) { return; }
${lines(groups, (j) => `  c0_${j} = partial[${threads * j}u + local];`)}
${stores(epilogue, 1, groups, (_, j) => ({ m: "m", n: `${isPaired(epilogue) ? "p" : "n"} + ${4 * j}u` }))}
}
`;
}
