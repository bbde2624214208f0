/**
 * A matrix product whose threads read B straight from storage, and pass A round. A workgroup is one line of threads
 * along C's columns, so all of a subgroup want the same part of A, whatever its size and whichever of the threads it
 * has: each lane loads a share of it once, and the others get it by broadcast. There is no barrier and no workgroup
 * memory.
 *
 * Subgroup operations may stand only where all threads come by: past the edge a thread reads what is there, and
 * stores nothing.
 */
import { extents, type GemmVariant, type SubgroupTile } from "./gemm.ts";
import { isPaired, stores } from "./gemm_epilogue.ts";
import { lane, lines, range } from "./emit.ts";

/** Most of the inner dimension that is taken at a time: where a subgroup has lanes for more, several load the same. */
const DEPTH = 16;

/** The entry point; `gemm.ts` declares what it reads and writes. */
export function subgroupMain({ layout, epilogue, tail }: GemmVariant, tile: SubgroupTile): string {
  const { threadRows: tm, threadColumns: tn, groupRows, groupColumns, lanes } = tile;
  if (groupRows !== 1 || lanes & (lanes - 1) || tm & (tm - 1) || groupColumns % lanes) {
    throw new RangeError(`no tile for subgroups: ${JSON.stringify(tile)}`);
  }
  // A step is what loads of a vec4f along A's rows cover: 4 of the inner dimension for each row (`nt`, `nn`), or 1 of
  // it for every 4 rows of C (`tn`).
  const [loads, size] = layout === "tn" ? [tm / 4, 1] : [tm, 4];
  // Where a step is one product for each sum, two are joined: each sum is read and written half as often.
  const joined = layout === "tn" ? 2 : 1;
  const depth = Math.max(joined, Math.min(DEPTH / size, Math.floor(lanes / loads)));
  /** Loads of a lane for one step; below 1 where the lanes of a subgroup load several steps. */
  const share = loads / lanes;
  const product = { nt: productNT, nn: productNN, tn: productTN }[layout];

  /** Where a lane's loads of the first step begin. */
  const starts = lines(Math.ceil(share), (r) => {
    const load = share > 1 ? `(${r * lanes}u + lane)` : `lane % ${loads}u`;
    return layout === "tn"
      ? `  let ra${r} = min(m + ${load} * 4u, (M - 1u) & 0xfffffffcu);`
      : `  let ra${r} = min(m + ${load}, M - 1u) * LDA;`;
  });
  /** Where a thread's columns begin in B. */
  const columnStarts = isPaired(epilogue)
    ? lines(
      tn,
      (j) =>
        j < tn / 2
          ? `  let rb${j} = first_of_pair(n + ${columnOf(j, tile)}u) * LDB;`
          : `  let rb${j} = rb${j - tn / 2} + size.half * LDB;`,
    )
    : layout === "nt"
    ? lines(tn, (j) => `  let rb${j} = min(n + ${columnOf(j, tile)}u, N - 1u) * LDB;`)
    : lines(tn / 4, (j) => `  let cb${j} = min(n + ${columnOf(4 * j, tile)}u, (N - 1u) & 0xfffffffcu);`);
  const read = (width: number, r: number, k: string) =>
    layout === "tn" ? `a4((${k}) * LDA + ra${r})` : `a${width}(ra${r} + ${k})`;
  const shared = (load: number) => `subgroupBroadcast(share${Math.floor(load / lanes)}, ${load % lanes}u)`;

  /** A loop over steps, `count` at a time, of `width` floats a load: lanes load their shares, and each goes round. */
  const loop = (to: string, count: number, width = 4) => {
    const together = Math.min(count, joined);
    const shares = lines(Math.ceil(share * count), (r) => {
      const ahead = share >= 1 ? `${Math.floor(r / share) * size}u` : count > 1 ? "ka" : "0u";
      return `    let share${r} = ${read(width, r % Math.ceil(share), `k + ${ahead}`)};`;
    });
    const products = lines(count / together, (step) =>
      `    {
      let kb = k + ${step * together * size}u;
${
        product(
          tm,
          tn,
          layout === "tn" ? together : width,
          (load) => shared(step * together * loads + load),
        )
      }
    }`);
    return `  for (; k < ${to}; k += ${layout === "tn" ? count : count * width}u) {
${shares}
${products}
  }`;
  };

  return `
@compute @workgroup_size(${groupColumns})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32,
        @builtin(subgroup_invocation_id) invocation: u32) {
  let M = ${extents(layout).M};
  let N = size.n;
  let K = ${extents(layout).K};
  let LDA = size.lda;
  let LDB = size.ldb;
  let m = group.y * ${tm}u;
  // The first column or, where a thread computes pairs of them, pair.
  let n = group.x * ${groupColumns * tn / (isPaired(epilogue) ? 2 : 1)}u + index * 4u;
  // A subgroup of more than ${lanes} lanes has as many that load the same.
  let lane = invocation % ${lanes}u;
${share < 1 ? `  let ka = lane / ${loads}u % ${depth}u * ${size}u;` : ""}
${starts}
${columnStarts}
${lines(tm, (i) => lines(tn / 4, (j) => `  var c${i}_${j} = vec4f();`))}
  var k = 0u;
${depth > 1 ? loop(`K / ${depth * size}u * ${depth * size}u`, depth) : ""}
${loop(layout === "tn" ? "K" : "(K & 0xfffffffcu)", 1)}
${tail ? loop("K", 1, 1) : ""}
${stores(epilogue, tm, tn / 4, (i, j) => ({ m: `m + ${i}u`, n: `n + ${columnOf(4 * j, tile)}u` }))}
}
`;
}

/**
 * Column `j` of a thread, from its first: groups of 4, so that neighbouring threads read and write neighbouring
 * groups.
 */
const columnOf = (j: number, { groupColumns }: SubgroupTile) => (j >> 2) * groupColumns * 4 + (j & 3);

/**
 * The product over `depth` of the inner dimension from `kb` on. `shared(i)` is the value of load `i` of A: a vec4f,
 * or a single float where A's rows run along the inner dimension and `depth` is 1.
 */
type Product = (tm: number, tn: number, depth: number, shared: (i: number) => string) => string;

const productNT: Product = (tm, tn, depth, shared) =>
  [
    ...range(tn).map((j) => `      let y${j} = b${depth}(rb${j} + kb);`),
    ...range(tm).flatMap((i) => [
      `      let x${i} = ${shared(i)};`,
      ...range(tn / 4).map((j) => {
        const terms = range(4).map((l) =>
          depth === 4 ? `dot(x${i}, y${4 * j + l})` : `x${i} * y${4 * j + l}`
        );
        return `      c${i}_${j} += vec4f(${terms.join(", ")});`;
      }),
    ]),
  ].join("\n");

const productNN: Product = (tm, tn, depth, shared) => {
  const x = (i: number, l: number) => depth === 4 ? `x${i}.${lane(l)}` : `x${i}`;
  return [
    ...loadsAlong(depth, tn),
    ...range(tm).flatMap((i) => [
      `      let x${i} = ${shared(i)};`,
      ...range(tn / 4).map((j) =>
        `      c${i}_${j} += ${range(depth).map((l) => `${x(i, l)} * y${l}_${j}`).join(" + ")};`
      ),
    ]),
  ].join("\n");
};

const productTN: Product = (tm, tn, depth, shared) =>
  [
    ...loadsAlong(depth, tn),
    ...range(tm / 4).flatMap((i) => [
      ...range(depth).map((l) => `      let x${l}_${i} = ${shared(l * tm / 4 + i)};`),
      ...range(4).flatMap((r) =>
        range(tn / 4).map((j) =>
          `      c${4 * i + r}_${j} += ${
            range(depth).map((l) => `x${l}_${i}.${lane(r)} * y${l}_${j}`).join(" + ")
          };`
        )
      ),
    ]),
  ].join("\n");

/** Loads of B where its rows run along C's columns. */
const loadsAlong = (depth: number, tn: number) =>
  range(depth).flatMap((l) =>
    range(tn / 4).map((j) => `      let y${l}_${j} = b4((kb + ${l}u) * LDB + cb${j});`)
  );
