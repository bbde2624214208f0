/** Attention backward by way of workgroup memory: see `attention_workgroup.ts`. */
import { attentionPrelude, type AttentionShape } from "./attention.ts";
import {
  columnsOf,
  forEachKeyTile,
  scores,
  tokens,
  transpose,
  WORKGROUP_HEADER,
} from "./attention_workgroup.ts";
import { lane, lines, range } from "./emit.ts";

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

const BACKWARD_HEADER = `${WORKGROUP_HEADER}
@group(0) @binding(4) var<storage, read> d_out: array<E>;
@group(0) @binding(5) var<storage, read> lse: array<f32>;
@group(0) @binding(6) var<storage, read> delta: array<f32>;
@group(0) @binding(7) var<storage, read_write> d_qkv: array<E>;
`;

/**
 * Gradient of the queries. Bindings: 0 rows, 1 spans, 2 query tiles, 3 qkv, 4 d_out, 5 lse, 6 delta (row sums of
 * out * d_out) [tokens, heads], 7 d_qkv, of which the query part is written. Grid: query tiles x heads.
 */
export function workgroupQueryGradientSource(shape: AttentionShape): string {
  const owned = columnsOf(shape);
  const each = (line: (i: number, c: number) => string) =>
    range(4).flatMap((i) => range(owned).map((c) => line(i, c))).join("\n");
  return attentionPrelude(
    shape,
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
  );
}

/**
 * Gradients of keys and values, summed over the query heads that share them, in a fixed order. Bindings as for the
 * queries, but 2 are the key tiles: x to y, the query tiles that see this one. Grid: key tiles x key-value heads.
 */
export function workgroupKeyGradientSource(shape: AttentionShape): string {
  const owned = columnsOf(shape);
  const each = (line: (i: number, c: number) => string) =>
    range(4).flatMap((i) => range(owned).map((c) => line(i, c))).join("\n");
  return attentionPrelude(
    shape,
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
  );
}
