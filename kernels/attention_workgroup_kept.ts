/**
 * The key gradient of `attention_workgroup_backward.ts` as two plain products, of what the query gradient has kept: the
 * probabilities P and the scores' gradients dS of every pair of tiles, so that the backward pass has five products and
 * not seven. Kept are those of a run of heads at a time; the two kernels take turns, run by run.
 *
 * 8 bytes are written and read for each pair of query and key, where 4 x headDim operations and an exponential are
 * saved. A token sees no key behind its own row, so that tiles of pairs are half of a square.
 */
import { ATTENTION_TILE, type AttentionLayout, type AttentionShape, sizesPrelude } from "./attention.ts";
import { columnsOf, ownColumn } from "./attention_workgroup.ts";
import { lane, lines, range } from "./emit.ts";

/** Heads that are kept at a time: whole groups that share keys, and as many in each run. */
export interface KeptRun {
  heads: number;
}

/** Vec4s of a pair of tiles: of P, four keys of a query each, and as many of dS. */
const HALF = ATTENTION_TILE * ATTENTION_TILE / 4;

/** Pairs of tiles of so many tokens. */
const pairsOf = (tokens: number) => {
  const tiles = Math.ceil(tokens / ATTENTION_TILE);
  return tiles * (tiles + 1) / 2;
};

/** Bytes of a run. */
export const keptBytes = ({ heads }: KeptRun, tokens: number): number => 32 * HALF * heads * pairsOf(tokens);

/** The largest run of `shape`'s heads whose pairs fit in `bytes`. */
export function keptRun(
  { heads, keyValueHeads }: AttentionShape,
  tokens: number,
  bytes: number,
): KeptRun | undefined {
  const group = heads / keyValueHeads;
  return range(keyValueHeads + 1).reverse()
    .filter((n) => n > 0 && keyValueHeads % n === 0)
    .map((n) => ({ heads: n * group }))
    .find((run) => keptBytes(run, tokens) <= bytes);
}

/**
 * A dispatch of a run cannot say which one it is but by how large it is: of z workgroups in a row the last one works,
 * and the others before it end at once.
 */
export const RUN_OF_GRID = "  if (group.z + 1u < groups.z) { return; }\n  let run = group.z;";

/** WGSL of where a pair of tiles is kept: the first of its vec4s, of P, and how far from it those of dS are. */
export const keptBlock = ({ heads }: KeptRun): string => `
const KEPT_HALF: u32 = ${HALF}u;
fn kept_at(head_of_run: u32, query_tile: u32, key_tile: u32) -> u32 {
  return ((query_tile * (query_tile + 1u) / 2u + key_tile) * ${heads}u + head_of_run) * ${2 * HALF}u;
}`;

/**
 * Gradients of keys and values of a run. Bindings: 0 rows, 1 what is kept, 2 queries, 3 d_out, 4 query tiles, 5 key
 * tiles, 6 the gradient. Grid: key tiles x key-value heads of the run x 1 + the run's number.
 */
export function keptKeyGradientSource(shape: AttentionShape, layout: AttentionLayout, run: KeptRun): string {
  const owned = columnsOf(shape);
  const each = (line: (i: number, c: number) => string) =>
    range(4).flatMap((i) => range(owned).map((c) => line(i, c))).join("\n");
  return sizesPrelude(
    shape,
    layout,
    `
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> kept: array<vec4f>;
@group(0) @binding(2) var<storage, read> queries: array<E>;
@group(0) @binding(3) var<storage, read> d_out: array<E>;
@group(0) @binding(4) var<storage, read> query_tiles: array<vec4u>;
@group(0) @binding(5) var<storage, read> key_tiles: array<vec4u>;
@group(0) @binding(6) var<storage, read_write> d_x: array<E>;
${keptBlock(run)}

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_id) local: vec3u) {
${RUN_OF_GRID}
  let tx = local.x;
  let ty = local.y;
  let kv_head = run * (${run.heads}u / GROUP) + group.y;
  let last = rows.count - 1u;
  let k_first = group.x * 32u + ty * 4u;
${each((i, c) => `  var dk${i}_${c} = E(); var dv${i}_${c} = E();`)}
  let bounds = key_tiles[group.x];
  for (var n = 0u; n < (bounds.y - bounds.x) * GROUP; n += 1u) {
    let q_tile = bounds.x + n / GROUP;
    let seen = query_tiles[q_tile];
    // Of the query tiles from the first to the last that see this one some may not: nothing is kept of them.
    if (group.x - seen.x >= seen.y - seen.x && group.x - seen.z >= seen.w - seen.z) { continue; }
    let member = n % GROUP;
    let head = kv_head * GROUP + member;
    let at = kept_at(group.y * GROUP + member, q_tile, group.x) + ty;
    for (var j = 0u; j < 32u; j += 1u) {
      let token = min(q_tile * 32u + j, last);
      let p = kept[at + j * 8u];
      let ds = kept[at + j * 8u + KEPT_HALF];
      let qa = token * QUERY_STRIDE + QUERY_OFFSET + head * COLUMNS;
      let oa = token * OUT_STRIDE + head * COLUMNS;
${
      lines(owned, (c) => {
        const column = ownColumn(shape, c);
        return `      let q${c} = queries[qa + ${column}]; let do${c} = d_out[oa + ${column}];`;
      })
    }
${each((i, c) => `      dk${i}_${c} += ds.${lane(i)} * q${c}; dv${i}_${c} += p.${lane(i)} * do${c};`)}
    }
  }
${
      lines(4, (i) =>
        `  if (k_first + ${i}u <= last) {
    let ka = (k_first + ${i}u) * KEY_STRIDE + kv_head * COLUMNS + tx;
${
          lines(owned, (c) =>
            `    if (tx + ${8 * c}u < COLUMNS) {
      d_x[ka + KEY_OFFSET + ${8 * c}u] = dk${i}_${c}; d_x[ka + VALUE_OFFSET + ${8 * c}u] = dv${i}_${c};
    }`)
        }
  }`)
    }
}
`,
  );
}
