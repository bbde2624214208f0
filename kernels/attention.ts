/**
 * Emits the WGSL of attention over a packed row of tokens: an online softmax forward (FlashAttention, arXiv 2205.14135),
 * and a backward that recomputes the scores from the stored log-sum-exp. No matrix of tokens by tokens exists.
 *
 * A query i sees key j where `span.x <= j < span.y` (its pair's shared prefix) or `span.z <= j <= i` (its own part).
 * A workgroup of 8 x 8 threads holds a tile of 32 queries by 32 keys, 4 x 4 a thread; the tiles that any of its rows can
 * see come from the host (`lib/batch.ts`), the exact mask from the spans.
 */
import { lane, lines, range } from "./emit.ts";
import { elementWidth, withPrelude } from "./prelude.ts";

/** Queries, and keys, of one tile. */
export const ATTENTION_TILE = 32;

export interface AttentionShape {
  heads: number;
  keyValueHeads: number;
  headDim: number;
}

/** Head-dimension columns that one of the 8 threads of a row owns: column `tx + 8 * c`. */
const columnsOf = (shape: AttentionShape) => Math.ceil(shape.headDim / elementWidth(shape.headDim) / 8);

function constants(shape: AttentionShape): Record<string, number> {
  const { heads, keyValueHeads, headDim } = shape;
  const columns = headDim / elementWidth(headDim);
  return {
    HEADS: heads,
    GROUP: heads / keyValueHeads,
    COLUMNS: columns,
    QKV_STRIDE: (heads + 2 * keyValueHeads) * columns,
    OUT_STRIDE: heads * columns,
    KEY_OFFSET: heads * columns,
    VALUE_OFFSET: (heads + keyValueHeads) * columns,
    SCALE_F: 1 / Math.sqrt(headDim),
  };
}

const HEADER = `
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> spans: array<vec4u>;
@group(0) @binding(2) var<storage, read> tiles: array<vec4u>;
@group(0) @binding(3) var<storage, read> qkv: array<E>;
fn visible(query: u32, key: u32, span: vec4u) -> bool {
  return (key >= span.x && key < span.y) || (key >= span.z && key <= query);
}
fn query_at(token: u32, head: u32) -> u32 { return token * QKV_STRIDE + head * COLUMNS; }
fn key_at(token: u32, head: u32) -> u32 { return token * QKV_STRIDE + KEY_OFFSET + head * COLUMNS; }
fn value_at(token: u32, head: u32) -> u32 { return token * QKV_STRIDE + VALUE_OFFSET + head * COLUMNS; }
fn out_at(token: u32, head: u32) -> u32 { return token * OUT_STRIDE + head * COLUMNS; }
`;

/** Scores of 4 rows by 4 columns; `s0` to `s3` hold a row each, a lane for every column. */
const scores = (name: string, row: string, column: string) =>
  lines(
    4,
    (i) =>
      `      ${name}${i} += vec4f(${range(4).map((j) => `product(${row}${i}, ${column}${j})`).join(", ")});`,
  );

/** Calls `body` for every key tile in the two intervals of `tiles[tile]`, without a barrier in divergent code. */
const forEachKeyTile = (body: string) => `
  let bounds = tiles[group.x];
  let first = bounds.y - bounds.x;
  for (var n = 0u; n < first + bounds.w - bounds.z; n += 1u) {
    let key_tile = select(bounds.z + n - first, bounds.x + n, n < first);
    let k_first = key_tile * 32u;
${body}
  }`;

/** Rows past the end of the batch read the last row; their results are not stored. */
const tokens = (name: string, first: string) =>
  lines(4, (i) => `    let ${name}${i} = min(${first} + ${i}u, last);`);

/** Transposes 4 rows into workgroup memory, so that the second product reads its 4 rows as one vec4 for each column. */
const transpose = (tile: string, name: string) =>
  lines(
    4,
    (j) =>
      `    ${tile}[(tx * 4u + ${j}u) * 8u + ty] = vec4f(${
        range(4).map((i) => `${name}${i}.${lane(j)}`).join(", ")
      });`,
  );

/** Bindings: 0 rows, 1 spans, 2 query tiles, 3 qkv, 4 out [tokens, heads, headDim], 5 lse [tokens, heads]. Grid: query tiles x heads. */
export function attentionForwardSource(shape: AttentionShape): string {
  const owned = columnsOf(shape);
  const each = (line: (i: number, c: number) => string) =>
    range(4).flatMap((i) => range(owned).map((c) => line(i, c))).join("\n");
  return withPrelude(
    `${HEADER}
@group(0) @binding(4) var<storage, read_write> out: array<E>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
var<workgroup> weights: array<vec4f, 256>;
var<workgroup> partial: array<vec4f, 64>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tx = local.x;
  let ty = local.y;
  let head = group.y;
  let kv_head = head / GROUP;
  let last = rows.count - 1u;
  let q_first = group.x * 32u + ty * 4u;
${tokens("qt", "q_first")}
${lines(4, (i) => `  let span${i} = spans[qt${i}]; let qa${i} = query_at(qt${i}, head);`)}
${each((i, c) => `  var o${i}_${c} = E();`)}
  // Of the thread's 4 rows; the sum is over its own columns alone until the end.
  var row_max = vec4f(-3.0e38);
  var row_sum = vec4f();
${
      forEachKeyTile(`
${tokens("kt", "k_first + tx * 4u")}
${lines(4, (j) => `    let ka${j} = key_at(kt${j}, kv_head);`)}
${lines(4, (i) => `    var s${i} = vec4f();`)}
    for (var d = 0u; d < COLUMNS; d += 1u) {
${lines(4, (j) => `      let k${j} = qkv[ka${j} + d];`)}
${lines(4, (i) => `      let q${i} = qkv[qa${i} + d];`)}
${scores("s", "q", "k")}
    }
${
        lines(4, (i) =>
          `    s${i} = select(vec4f(-3.0e38), s${i} * SCALE_F, vec4<bool>(${
            range(4).map((j) => `visible(q_first + ${i}u, k_first + tx * 4u + ${j}u, span${i})`).join(", ")
          }));`)
      }
    workgroupBarrier();
    partial[tx * 8u + ty] = vec4f(${
        range(4).map((i) =>
          `max(max(s${i}.x, s${i}.y), max(s${i}.z, s${i}.w))`
        ).join(", ")
      });
    workgroupBarrier();
    var new_max = row_max;
${lines(8, (t) => `    new_max = max(new_max, partial[${8 * t}u + ty]);`)}
    let factor = exp_accurate4(row_max - new_max);
    row_max = new_max;
    // A row that sees nothing of this tile, nor of any before, must not turn exp(-inf + inf) into 1.
${
        lines(
          4,
          (i) =>
            `    s${i} = select(vec4f(), exp_accurate4(s${i} - new_max.${lane(i)}), s${i} > vec4f(-2.0e38));`,
        )
      }
    row_sum = row_sum * factor + vec4f(${
        range(4).map((i) => `(s${i}.x + s${i}.y) + (s${i}.z + s${i}.w)`).join(", ")
      });
${transpose("weights", "s")}
${each((i, c) => `    o${i}_${c} *= factor.${lane(i)};`)}
    workgroupBarrier();
    for (var j = 0u; j < 32u; j += 1u) {
      let p = weights[j * 8u + ty];
      let va = value_at(min(k_first + j, last), kv_head) + tx;
${lines(owned, (c) => `      let v${c} = qkv[va + ${8 * c}u];`)}
${each((i, c) => `      o${i}_${c} += p.${lane(i)} * v${c};`)}
    }`)
    }
  workgroupBarrier();
  partial[tx * 8u + ty] = row_sum;
  workgroupBarrier();
  var sums = partial[ty];
${lines(7, (t) => `  sums += partial[${8 * (t + 1)}u + ty];`)}
${
      lines(4, (i) =>
        `  if (q_first + ${i}u <= last) {
    let sum = sums.${lane(i)};
    let oa = out_at(q_first + ${i}u, head) + tx;
${lines(owned, (c) => `    if (tx + ${8 * c}u < COLUMNS) { out[oa + ${8 * c}u] = o${i}_${c} / sum; }`)}
    if (tx == 0u) { lse[(q_first + ${i}u) * HEADS + head] = row_max.${lane(i)} + log(sum); }
  }`)
    }
}
`,
    constants(shape),
    elementWidth(shape.headDim),
  );
}

/**
 * Probabilities and score gradients of 4 x 4, into `s` and `g`: p = exp(s - lse), ds = p (dp - delta) / sqrt(headDim), 0
 * where a key is not seen. Rows are queries in the query kernel and keys in the key kernel; `visibleAt` tells of row i and
 * column j, `statistics` names the log-sum-exp and delta of row i.
 */
const gradients = (
  visibleAt: (i: number, j: number) => string,
  statistics: (i: number) => [string, string],
) =>
  lines(4, (i) => {
    const [lse, delta] = statistics(i);
    return `    let seen${i} = vec4<bool>(${range(4).map((j) => visibleAt(i, j)).join(", ")});
    s${i} = select(vec4f(), exp_accurate4(s${i} * SCALE_F - ${lse}), seen${i});
    g${i} = select(vec4f(), s${i} * (g${i} - ${delta}) * SCALE_F, seen${i});`;
  });

const BACKWARD_HEADER = `${HEADER}
@group(0) @binding(4) var<storage, read> d_out: array<E>;
@group(0) @binding(5) var<storage, read> lse: array<f32>;
@group(0) @binding(6) var<storage, read> delta: array<f32>;
@group(0) @binding(7) var<storage, read_write> d_qkv: array<E>;
`;

/**
 * Gradient of the queries. Bindings: 0 rows, 1 spans, 2 query tiles, 3 qkv, 4 d_out, 5 lse, 6 delta (row sums of
 * out * d_out) [tokens, heads], 7 d_qkv, of which the query part is written. Grid: query tiles x heads.
 */
export function attentionQueryGradientSource(shape: AttentionShape): string {
  const owned = columnsOf(shape);
  const each = (line: (i: number, c: number) => string) =>
    range(4).flatMap((i) => range(owned).map((c) => line(i, c))).join("\n");
  return withPrelude(
    `${BACKWARD_HEADER}
var<workgroup> score_gradients: array<vec4f, 256>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tx = local.x;
  let ty = local.y;
  let head = group.y;
  let kv_head = head / GROUP;
  let last = rows.count - 1u;
  let q_first = group.x * 32u + ty * 4u;
${tokens("qt", "q_first")}
${
      lines(4, (i) =>
        `  let span${i} = spans[qt${i}]; let qa${i} = query_at(qt${i}, head); let oa${i} = out_at(qt${i}, head);
  let lse${i} = lse[qt${i} * HEADS + head]; let delta${i} = delta[qt${i} * HEADS + head];`)
    }
${each((i, c) => `  var dq${i}_${c} = E();`)}
${
      forEachKeyTile(`
${tokens("kt", "k_first + tx * 4u")}
${lines(4, (j) => `    let ka${j} = key_at(kt${j}, kv_head); let va${j} = value_at(kt${j}, kv_head);`)}
${lines(4, (i) => `    var s${i} = vec4f(); var g${i} = vec4f();`)}
    for (var d = 0u; d < COLUMNS; d += 1u) {
${lines(4, (j) => `      let k${j} = qkv[ka${j} + d]; let v${j} = qkv[va${j} + d];`)}
${lines(4, (i) => `      let q${i} = qkv[qa${i} + d]; let do${i} = d_out[oa${i} + d];`)}
${scores("s", "q", "k")}
${scores("g", "do", "v")}
    }
${
        gradients(
          (i, j) => `visible(q_first + ${i}u, k_first + tx * 4u + ${j}u, span${i})`,
          (i) => [`lse${i}`, `delta${i}`],
        )
      }
    workgroupBarrier();
${transpose("score_gradients", "g")}
    workgroupBarrier();
    for (var j = 0u; j < 32u; j += 1u) {
      let ds = score_gradients[j * 8u + ty];
      let ka = key_at(min(k_first + j, last), kv_head) + tx;
${lines(owned, (c) => `      let k${c} = qkv[ka + ${8 * c}u];`)}
${each((i, c) => `      dq${i}_${c} += ds.${lane(i)} * k${c};`)}
    }`)
    }
${
      lines(4, (i) =>
        `  if (q_first + ${i}u <= last) {
    let qa = query_at(q_first + ${i}u, head) + tx;
${lines(owned, (c) => `    if (tx + ${8 * c}u < COLUMNS) { d_qkv[qa + ${8 * c}u] = dq${i}_${c}; }`)}
  }`)
    }
}
`,
    constants(shape),
    elementWidth(shape.headDim),
  );
}

/**
 * Gradients of keys and values, summed over the query heads that share them, in a fixed order. Bindings as for the
 * queries, but 2 are the key tiles: x to y, the query tiles that see this one. Grid: key tiles x key-value heads.
 */
export function attentionKeyGradientSource(shape: AttentionShape): string {
  const owned = columnsOf(shape);
  const each = (line: (i: number, c: number) => string) =>
    range(4).flatMap((i) => range(owned).map((c) => line(i, c))).join("\n");
  return withPrelude(
    `${BACKWARD_HEADER}
var<workgroup> weights: array<vec4f, 256>;
var<workgroup> score_gradients: array<vec4f, 256>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tx = local.x;
  let ty = local.y;
  let kv_head = group.y;
  let last = rows.count - 1u;
  let k_first = group.x * 32u + ty * 4u;
${tokens("kt", "k_first")}
${lines(4, (i) => `  let ka${i} = key_at(kt${i}, kv_head); let va${i} = value_at(kt${i}, kv_head);`)}
${each((i, c) => `  var dk${i}_${c} = E(); var dv${i}_${c} = E();`)}
  let bounds = tiles[group.x];
  for (var n = 0u; n < (bounds.y - bounds.x) * GROUP; n += 1u) {
    let head = kv_head * GROUP + n % GROUP;
    let q_tile = (bounds.x + n / GROUP) * 32u;
    let q_first = q_tile + tx * 4u;
${tokens("qt", "q_first")}
${
      lines(4, (j) =>
        `    let span${j} = spans[qt${j}]; let qa${j} = query_at(qt${j}, head); let oa${j} = out_at(qt${j}, head);
    let lse${j} = lse[qt${j} * HEADS + head]; let delta${j} = delta[qt${j} * HEADS + head];`)
    }
    let lses = vec4f(lse0, lse1, lse2, lse3);
    let deltas = vec4f(delta0, delta1, delta2, delta3);
${lines(4, (i) => `    var s${i} = vec4f(); var g${i} = vec4f();`)}
    for (var d = 0u; d < COLUMNS; d += 1u) {
${lines(4, (j) => `      let q${j} = qkv[qa${j} + d]; let do${j} = d_out[oa${j} + d];`)}
${lines(4, (i) => `      let k${i} = qkv[ka${i} + d]; let v${i} = qkv[va${i} + d];`)}
${scores("s", "k", "q")}
${scores("g", "v", "do")}
    }
${
      gradients(
        (i, j) => `(visible(q_first + ${j}u, k_first + ${i}u, span${j}) && q_first + ${j}u <= last)`,
        () => ["lses", "deltas"],
      )
    }
    workgroupBarrier();
${transpose("weights", "s")}
${transpose("score_gradients", "g")}
    workgroupBarrier();
    for (var j = 0u; j < 32u; j += 1u) {
      let token = min(q_tile + j, last);
      let p = weights[j * 8u + ty];
      let ds = score_gradients[j * 8u + ty];
      let qa = query_at(token, head) + tx;
      let oa = out_at(token, head) + tx;
${lines(owned, (c) => `      let q${c} = qkv[qa + ${8 * c}u]; let do${c} = d_out[oa + ${8 * c}u];`)}
${each((i, c) => `      dk${i}_${c} += ds.${lane(i)} * q${c}; dv${i}_${c} += p.${lane(i)} * do${c};`)}
    }
  }
${
      lines(4, (i) =>
        `  if (k_first + ${i}u <= last) {
    let ka = key_at(k_first + ${i}u, kv_head) + tx;
    let va = value_at(k_first + ${i}u, kv_head) + tx;
${
          lines(owned, (c) =>
            `    if (tx + ${8 * c}u < COLUMNS) { d_qkv[ka + ${8 * c}u] = dk${i}_${c}; d_qkv[va + ${
              8 * c
            }u] = dv${i}_${c}; }`)
        }
  }`)
    }
}
`,
    constants(shape),
    elementWidth(shape.headDim),
  );
}
