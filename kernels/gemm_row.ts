/**
 * A matrix product of few rows, such as one token's: every element of B is read once for all rows of a thread, and
 * reading B is all that takes time. `lanes` threads side by side read on in the same rows of B, and add up at the end
 * what each has found.
 */
import type { GemmVariant, RowTile } from "./gemm.ts";
import { isPaired, stores } from "./gemm_epilogue.ts";
import { lines, range } from "./emit.ts";

/** The entry point; `gemm_source.ts` declares what it reads and writes. */
export function rowMain(variant: GemmVariant, tile: RowTile): string {
  const { layout, epilogue, tail } = variant;
  const { threadRows, threadColumns, groupColumns, lanes } = tile;
  if (layout !== "nt") throw new RangeError(`a row tile is for nt, not ${layout}`);
  const threads = lanes * groupColumns;
  const groups = threadColumns / 4;
  const pairs = threadColumns / 2;
  const each = (line: (i: number, j: number) => string) =>
    range(threadRows).flatMap((i) => range(groups).map((j) => line(i, j))).join("\n");
  const rowOfB = (j: number) =>
    !isPaired(epilogue)
      ? `min(n + ${j}u, size.n - 1u) * size.ldb`
      : j < pairs
      ? `first_of_pair(p + ${j}u) * size.ldb`
      : `rb${j - pairs} + size.half * size.ldb`;
  const step = (load: "4" | "1") => {
    const product = (i: number, j: number) => load === "4" ? `dot(x${i}, w${j})` : `x${i} * w${j}`;
    return `
${lines(threadColumns, (j) => `    let w${j} = b${load}(rb${j} + k);`)}
${lines(threadRows, (i) => `    let x${i} = a${load}(ra${i} + k);`)}
${each((i, j) => `    c${i}_${j} += vec4f(${range(4).map((l) => product(i, 4 * j + l)).join(", ")});`)}`;
  };
  const place = (i: number, j: number) => `${threads * (groups * i + j)}u`;
  return `
var<workgroup> partial: array<vec4f, ${threads * groups * threadRows}>;

@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let M = counted(size.m);
  let m = group.y * ${threadRows}u;
  let lane = local % ${lanes}u;
  let n = (group.x * ${groupColumns}u + local / ${lanes}u) * ${threadColumns}u;
${isPaired(epilogue) ? "  let p = n / 2u;" : ""}
${lines(threadColumns, (j) => `  let rb${j} = ${rowOfB(j)};`)}
${lines(threadRows, (i) => `  let ra${i} = min(m + ${i}u, M - 1u) * size.lda;`)}
${each((i, j) => `  var c${i}_${j} = vec4f();`)}
  for (var k = 4u * lane; k < (size.k & 0xfffffffcu); k += ${4 * lanes}u) {${step("4")}
  }
${tail ? `  for (var k = (size.k & 0xfffffffcu) + lane; k < size.k; k += ${lanes}u) {${step("1")}\n  }` : ""}
${each((i, j) => `  partial[${place(i, j)} + local] = c${i}_${j};`)}
  workgroupBarrier();
  for (var half = ${lanes / 2}u; half > 0u; half /= 2u) {
    if (lane < half) {
${each((i, j) => `      c${i}_${j} += partial[${place(i, j)} + half + local];`)}
    }
    workgroupBarrier();
    if (lane < half) {
${each((i, j) => `      partial[${place(i, j)} + local] = c${i}_${j};`)}
    }
    workgroupBarrier();
  }
  // A few threads are left, one for each group of columns.
  if (lane > 0u) { return; }
${
    stores(epilogue, threadRows, groups, (i, j) => ({
      m: `m + ${i}u`,
      n: `${isPaired(epilogue) ? "p" : "n"} + ${4 * j}u`,
    }))
  }
}
`;
}
