/**
 * A matrix product whose threads read B straight from storage, and pass A round. A workgroup is one line of threads along
 * C's columns, so all of a subgroup want the same part of A, whatever its size and whichever of the threads it has: each
 * lane loads a share of it once, and the others get it by broadcast. There is no barrier and no workgroup memory.
 *
 * Subgroup operations may stand only where all threads come by: past the edge a thread reads what is there, and stores nothing.
 */
import type { GemmVariant, SubgroupTile } from "./gemm.ts";
import { lane, lines, range } from "./emit.ts";

/** Most of the inner dimension that is taken at a time: where a subgroup has room for more, lanes load the same. */
const DEPTH = 16;

/** The entry point; `gemm.ts` declares what it reads and writes. */
export function subgroupMain({ layout, tail }: GemmVariant, tile: SubgroupTile): string {
  const { threadRows: tm, threadColumns: tn, groupRows, groupColumns, lanes } = tile;
  if (groupRows !== 1 || lanes & (lanes - 1) || tm & (tm - 1) || groupColumns % lanes) {
    throw new RangeError(`no subgroup tile: ${JSON.stringify(tile)}`);
  }
  // A load is a vec4f along A's rows: 4 steps of the inner dimension (`nt`, `nn`), or 4 rows of C (`tn`).
  const loads = layout === "tn" ? tm / 4 : tm;
  const stride = layout === "tn" ? 1 : 4;
  const depth = Math.max(1, Math.min(DEPTH / stride, Math.floor(lanes / loads)));
  const shares = Math.max(1, loads / lanes);
  const step = layout === "nt" ? stepNT : layout === "nn" ? stepNN : stepTN;

  /** Where this lane's shares begin, and how far into the inner dimension they are. */
  const starts = range(shares).map((r) => {
    const load = shares > 1 ? `${r * lanes}u + lane` : `lane % ${loads}u`;
    return layout === "tn"
      ? `  let ra${r} = min(m + (${load}) * 4u, (M - 1u) & 0xfffffffcu);`
      : `  let ra${r} = min(m + ${load}, M - 1u) * LDA;`;
  });
  const load = (r: number, read: string, k: string) =>
    layout === "tn" ? `a${read}((${k}) * LDA + ra${r})` : `a${read}(ra${r} + ${k})`;

  /** Steps of the inner dimension from `k` on: each lane loads its share, and every share goes round. */
  const steps = (depth: number, read: "4" | "1") =>
    [
      ...range(shares).map((r) => `    let share${r} = ${load(r, read, depth > 1 ? "k + ka" : "k")};`),
      ...range(depth).map((d) =>
        `    {
      let kb = k + ${d * stride}u;
${
          step(
            tm,
            tn,
            read,
            (i) => {
              const at = d * loads + i;
              return `subgroupBroadcast(share${Math.floor(at / lanes)}, ${at % lanes}u)`;
            },
          )
        }
    }`
      ),
    ].join("\n");
  const loop = (depth: number, from: string, to: string, read: "4" | "1" = "4") =>
    `  for (${from}; k < ${to}; k += ${read === "4" ? depth * stride : 1}u) {\n${steps(depth, read)}\n  }`;

  return `
@compute @workgroup_size(${groupColumns})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32,
        @builtin(subgroup_invocation_id) invocation: u32) {
  let M = ${layout === "tn" ? "size.m" : "counted(size.m)"};
  let N = size.n;
  let K = ${layout === "tn" ? "counted(size.k)" : "size.k"};
  let LDA = size.lda;
  let LDB = size.ldb;
  let m = group.y * ${tm}u;
  let n = group.x * ${groupColumns * tn}u + index * 4u;
  // A subgroup of more than ${lanes} lanes has as many that load the same.
  let lane = invocation % ${lanes}u;
${depth > 1 ? `  let ka = lane / ${loads}u % ${depth}u * ${stride}u;` : ""}
${starts.join("\n")}
${
    layout === "nt"
      ? lines(tn, (j) => `  let rb${j} = min(n + ${columnOf(j, tile)}u, N - 1u) * LDB;`)
      : lines(tn / 4, (j) => `  let cb${j} = min(n + ${columnOf(4 * j, tile)}u, (N - 1u) & 0xfffffffcu);`)
  }
${lines(tm, (i) => lines(tn / 4, (j) => `  var c${i}_${j} = vec4f();`))}
  var k = 0u;
${depth > 1 ? loop(depth, "", `K / ${depth * stride}u * ${depth * stride}u`) : ""}
${loop(1, "", layout === "tn" ? "K" : "(K & 0xfffffffcu)")}
${tail ? loop(1, "", "K", "1") : ""}
${lines(tm, (i) => lines(tn / 4, (j) => `  store(M, m + ${i}u, n + ${columnOf(4 * j, tile)}u, c${i}_${j});`))}
}
`;
}

/** Column `j` of a thread, from its first: groups of 4, so that neighbouring threads read and write neighbouring groups. */
const columnOf = (j: number, { groupColumns }: SubgroupTile) => (j >> 2) * groupColumns * 4 + (j & 3);

/** One step from `kb` on; `shared(i)` is load `i` of A. Its reads are single floats in a tail. */
type Step = (tm: number, tn: number, read: "4" | "1", shared: (i: number) => string) => string;

const stepNT: Step = (tm, tn, read, shared) =>
  [
    ...range(tn).map((j) => `      let y${j} = b${read}(rb${j} + kb);`),
    ...range(tm).flatMap((i) => [
      `      let x${i} = ${shared(i)};`,
      ...range(tn / 4).map((j) => {
        const terms = range(4).map((l) =>
          read === "4" ? `dot(x${i}, y${4 * j + l})` : `x${i} * y${4 * j + l}`
        );
        return `      c${i}_${j} += vec4f(${terms.join(", ")});`;
      }),
    ]),
  ].join("\n");

const stepNN: Step = (tm, tn, read, shared) => {
  const depth = read === "4" ? 4 : 1;
  const x = (i: number, l: number) => read === "4" ? `x${i}.${lane(l)}` : `x${i}`;
  return [
    ...range(depth).flatMap((l) =>
      range(tn / 4).map((j) => `      let y${l}_${j} = b4((kb + ${l}u) * LDB + cb${j});`)
    ),
    ...range(tm).flatMap((i) => [
      `      let x${i} = ${shared(i)};`,
      ...range(tn / 4).map((j) =>
        `      c${i}_${j} += ${range(depth).map((l) => `${x(i, l)} * y${l}_${j}`).join(" + ")};`
      ),
    ]),
  ].join("\n");
};

const stepTN: Step = (tm, tn, _, shared) =>
  [
    ...range(tn / 4).map((j) => `      let y${j} = b4(kb * LDB + cb${j});`),
    ...range(tm / 4).flatMap((i) => [
      `      let x${i} = ${shared(i)};`,
      ...range(4).flatMap((l) =>
        range(tn / 4).map((j) => `      c${4 * i + l}_${j} += x${i}.${lane(l)} * y${j};`)
      ),
    ]),
  ].join("\n");
