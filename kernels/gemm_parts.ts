/**
 * A product whose inner dimension is split: workgroups of one place in C, one after the other in the grid's z, each sum
 * a part of it, and a second kernel adds up what they leave, in their order. A product of few tiles, but deep, would
 * keep few of a GPU's processors busy.
 */
import { extents, type GemmLayout, type GemmVariant, SIZE_HEADER } from "./gemm.ts";
import { type Epilogue, epilogueSource, stores } from "./gemm_epilogue.ts";

/**
 * Lines that say where a workgroup's part of the inner dimension begins and ends, `k_begin` and `K`, in whole steps of
 * `depth`. With few rows the last parts may be empty: their sums are 0. Not by way of `part`, which to WGSL is a
 * thread's own: all threads must come by the barriers of the loop.
 */
export function innerRange({ layout, epilogue }: Pick<GemmVariant, "layout" | "epilogue">, depth: number) {
  const { K } = extents(layout);
  if (epilogue.kind !== "part") return `  let k_begin = 0u;\n  let K = ${K};`;
  return `  part = group.z;
  let all = ${K};
  let deep = (all + size.parts * ${depth}u - 1u) / (size.parts * ${depth}u) * ${depth}u;
  let k_begin = min(group.z * deep, all);
  let K = min(k_begin + deep, all);`;
}

const THREADS = 64;

/** Workgroups of `partsSource` for C of that size. */
export const partsGroups = (rows: number, columns: number): number =>
  Math.ceil(rows * Math.ceil(columns / 4) / THREADS);

/**
 * WGSL that adds up the sums of all parts, [parts, M, N to a multiple of 4] with M the most rows that there are, and
 * stores them as the product itself would. Bindings: 0 the row count, 1 the size, 2 the sums, 3 C, and from 4 on the
 * bias and those of the epilogue. Grid: a line.
 */
export const partsSource = (layout: GemmLayout, epilogue: Epilogue, aligned: boolean): string =>
  `${SIZE_HEADER}
@group(0) @binding(2) var<storage, read> sums: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> c: array<${aligned ? "vec4f" : "f32"}>;
${epilogueSource(epilogue, aligned, 4)}

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let M = ${extents(layout).M};
  let width = (size.n + 3u) / 4u;
  let index = (group.y * groups.x + group.x) * ${THREADS}u + local;
  if (index >= M * width) { return; }
  let m = index / width;
  let n = index % width * 4u;
  var c0_0 = vec4f();
  for (var part = 0u; part < size.parts; part += 1u) { c0_0 += sums[part * size.m * width + index]; }
${stores(epilogue, 1, 1, () => ({ m: "m", n: "n" }))}
}
`;
