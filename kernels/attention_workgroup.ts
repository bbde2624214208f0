/**
 * What the attention kernels share whose workgroups keep tiles in workgroup memory, which suits a GPU. A workgroup of
 * 8 x 8 threads holds a tile of 32 queries by 32 keys, 4 x 4 a thread; the tiles that any of its rows can see come
 * from the host (`lib/batch/pack.ts`), the exact mask from the spans.
 */
import type { AttentionShape } from "./attention.ts";
import { lane, lines, range } from "./emit.ts";
import { elementWidth } from "./prelude.ts";

/** Head-dimension columns that one of the 8 threads of a row owns: column `tx + 8 * c`. */
export const columnsOf = (shape: AttentionShape) =>
  Math.ceil(shape.headDim / elementWidth(shape.headDim) / 8);

/** Where in a head the thread reads its column `c`: past the head's end the last one, of which nothing is stored. */
export const ownColumn = ({ headDim }: AttentionShape, c: number): string =>
  8 * (c + 1) * elementWidth(headDim) <= headDim ? `tx + ${8 * c}u` : `min(tx + ${8 * c}u, COLUMNS - 1u)`;

export const WORKGROUP_HEADER = `
@group(0) @binding(3) var<storage, read> queries: array<E>;
@group(0) @binding(4) var<storage, read> keys: array<E>;
@group(0) @binding(5) var<storage, read> tiles: array<vec4u>;
fn query_at(token: u32, head: u32) -> u32 { return token * QUERY_STRIDE + QUERY_OFFSET + head * COLUMNS; }
fn key_at(row: u32, head: u32) -> u32 { return row * KEY_STRIDE + KEY_OFFSET + head * COLUMNS; }
fn value_at(row: u32, head: u32) -> u32 { return row * KEY_STRIDE + VALUE_OFFSET + head * COLUMNS; }
fn out_at(token: u32, head: u32) -> u32 { return token * OUT_STRIDE + head * COLUMNS; }
`;

/** Scores of 4 rows by 4 columns; `s0` to `s3` hold a row each, a lane for every column. */
export const scores = (name: string, row: string, column: string) =>
  lines(
    4,
    (i) =>
      `      ${name}${i} += vec4f(${range(4).map((j) => `product(${row}${i}, ${column}${j})`).join(", ")});`,
  );

/** Calls `body` for every key tile in the two intervals of `tiles[tile]`, without a barrier in divergent code. */
export const forEachKeyTile = (body: string) => `
  let bounds = tiles[group.x];
  let first = bounds.y - bounds.x;
  for (var n = 0u; n < first + bounds.w - bounds.z; n += 1u) {
    let key_tile = select(bounds.z + n - first, bounds.x + n, n < first);
    let k_first = key_tile * 32u;
${body}
  }`;

/** Rows past the end read the last row; their results are not stored. */
export const tokens = (name: string, first: string, last: "last" | "last_key") =>
  lines(4, (i) => `    let ${name}${i} = min(${first} + ${i}u, ${last});`);

/** Transposes 4 rows into workgroup memory, so that the second product reads its 4 rows as one vec4 for each column. */
export const transpose = (tile: string, name: string) =>
  lines(
    4,
    (j) =>
      `    ${tile}[(tx * 4u + ${j}u) * 8u + ty] = vec4f(${
        range(4).map((i) => `${name}${i}.${lane(j)}`).join(", ")
      });`,
  );
