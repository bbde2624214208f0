/** Attention backward by way of workgroup memory: see `attention_workgroup.ts`. */
import { type AttentionLayout, attentionPrelude, type AttentionShape } from "./attention.ts";
import {
  columnsOf,
  forEachKeyTile,
  ownColumn,
  scores,
  tokens,
  transpose,
  WORKGROUP_HEADER,
} from "./attention_workgroup.ts";
import { keptBlock, type KeptRun, RUN_OF_GRID } from "./attention_workgroup_kept.ts";
import { lane, lines, range } from "./emit.ts";

/**
 * Probabilities and score gradients of 4 x 4, into `s` and `g`: p = exp(s - lse), ds = p (dp - delta) * scale, with a
 * cap times 1 - tanh^2, 0 where a key is not seen. Rows are queries in the query kernel and keys in the key kernel;
 * `visibleAt` tells of row i and column j, `statistics` names the log-sum-exp and delta of row i.
 */
const gradients = (
  { softcap }: AttentionShape,
  visibleAt: (i: number, j: number) => string,
  statistics: (i: number) => [string, string],
) =>
  lines(4, (i) => {
    const [lse, delta] = statistics(i);
    return `    let seen${i} = vec4<bool>(${range(4).map((j) => visibleAt(i, j)).join(", ")});
${
      softcap === undefined
        ? `    s${i} = select(vec4f(), exp_accurate4(s${i} * SCALE_F - ${lse}), seen${i});
    g${i} = select(vec4f(), s${i} * (g${i} - ${delta}) * SCALE_F, seen${i});`
        : `    let bend${i} = tanh_accurate4(s${i} * INNER_SCALE_F);
    s${i} = select(vec4f(), exp_accurate4(CAP_F * bend${i} - ${lse}), seen${i});
    g${i} = select(vec4f(), s${i} * (g${i} - ${delta}) * SCALE_F * (1.0 - bend${i} * bend${i}), seen${i});`
    }`;
  });

const BACKWARD_HEADER = `${WORKGROUP_HEADER}
@group(0) @binding(6) var<storage, read> d_out: array<E>;
@group(0) @binding(7) var<storage, read> lse: array<f32>;
@group(0) @binding(8) var<storage, read> delta: array<f32>;
@group(0) @binding(9) var<storage, read_write> d_x: array<E>;
`;

/** Queries, keys and values are of one tensor, whose binding what is kept takes: 8 buffers, as every device binds. */
const keepingHeader = (run: KeptRun) =>
  BACKWARD_HEADER
    .replace("<storage, read> keys: array<E>", "<storage, read_write> kept: array<vec4f>") + keptBlock(run);

/**
 * Gradient of the queries. Bindings: 0 rows, 1 key rows, 2 spans, 3 queries, 4 keys and values, 5 query tiles, 6
 * d_out, 7 lse, 8 delta (row sums of out * d_out) [tokens, heads], 9 the gradient. Grid: query tiles x heads.
 *
 * With a `run` of heads, for `attention_workgroup_kept.ts`: 3 has keys and values too, and 4 is what is kept. Grid:
 * query tiles x heads of the run x 1 + the run's number.
 */
export function workgroupQueryGradientSource(
  shape: AttentionShape,
  layout: AttentionLayout,
  run?: KeptRun,
): string {
  const owned = columnsOf(shape);
  const keys = run ? "queries" : "keys";
  const each = (line: (i: number, c: number) => string) =>
    range(4).flatMap((i) => range(owned).map((c) => line(i, c))).join("\n");
  return attentionPrelude(
    shape,
    layout,
    `${run ? keepingHeader(run) : BACKWARD_HEADER}
var<workgroup> score_gradients: array<vec4f, 256>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u${
      run ? ",\n        @builtin(num_workgroups) groups: vec3u" : ""
    }) {
${run ? RUN_OF_GRID : ""}
  let tx = local.x;
  let ty = local.y;
  let head = ${run ? `run * ${run.heads}u + ` : ""}group.y;
  let kv_head = head / GROUP;
  let last = rows.count - 1u;
  let last_key = key_rows.count - 1u;
  let q_first = group.x * 32u + ty * 4u;
  let own = own_row(q_first);
${tokens("qt", "q_first", "last")}
${
      lines(4, (i) =>
        `  let span${i} = spans[qt${i}]; let qa${i} = query_at(qt${i}, head); let oa${i} = out_at(qt${i}, head);
  let lse${i} = lse[qt${i} * HEADS + head]; let delta${i} = delta[qt${i} * HEADS + head];`)
    }
${each((i, c) => `  var dq${i}_${c} = E();`)}
${
      forEachKeyTile(`
${tokens("kt", "k_first + tx * 4u", "last_key")}
${lines(4, (j) => `    let ka${j} = key_at(kt${j}, kv_head); let va${j} = value_at(kt${j}, kv_head);`)}
${lines(4, (i) => `    var s${i} = vec4f(); var g${i} = vec4f();`)}
    for (var d = 0u; d < COLUMNS; d += 1u) {
${lines(4, (j) => `      let k${j} = ${keys}[ka${j} + d]; let v${j} = ${keys}[va${j} + d];`)}
${lines(4, (i) => `      let q${i} = queries[qa${i} + d]; let do${i} = d_out[oa${i} + d];`)}
${scores("s", "q", "k")}
${scores("g", "do", "v")}
    }
${
        gradients(
          shape,
          (i, j) => {
            const seen = `visible(own + ${i}u, k_first + tx * 4u + ${j}u, span${i})`;
            return run ? `(${seen} && q_first + ${i}u <= last)` : seen;
          },
          (i) => [`lse${i}`, `delta${i}`],
        )
      }
${
        run
          ? `    let kept_here = kept_at(group.y, group.x, key_tile) + ty * 32u + tx;
${
            lines(
              4,
              (i) =>
                `    kept[kept_here + ${8 * i}u] = s${i}; kept[kept_here + ${8 * i}u + KEPT_HALF] = g${i};`,
            )
          }`
          : ""
      }
    workgroupBarrier();
${transpose("score_gradients", "g")}
    workgroupBarrier();
    for (var j = 0u; j < 32u; j += 1u) {
      let ds = score_gradients[j * 8u + ty];
      let ka = key_at(min(k_first + j, last_key), kv_head);
${lines(owned, (c) => `      let k${c} = ${keys}[ka + ${ownColumn(shape, c)}];`)}
${each((i, c) => `      dq${i}_${c} += ds.${lane(i)} * k${c};`)}
    }`)
    }
${
      lines(4, (i) =>
        `  if (q_first + ${i}u <= last) {
    let qa = query_at(q_first + ${i}u, head) + tx;
${lines(owned, (c) => `    if (tx + ${8 * c}u < COLUMNS) { d_x[qa + ${8 * c}u] = dq${i}_${c}; }`)}
  }`)
    }
}
`,
  );
}

/**
 * Gradients of keys and values, summed over the query heads that share them, in a fixed order. Bindings as for the
 * queries, but 5 are the key tiles: x to y, the query tiles that see this one. Grid: key tiles x key-value heads.
 */
export function workgroupKeyGradientSource(shape: AttentionShape, layout: AttentionLayout): string {
  const owned = columnsOf(shape);
  const each = (line: (i: number, c: number) => string) =>
    range(4).flatMap((i) => range(owned).map((c) => line(i, c))).join("\n");
  return attentionPrelude(
    shape,
    layout,
    `${BACKWARD_HEADER}
var<workgroup> weights: array<vec4f, 256>;
var<workgroup> score_gradients: array<vec4f, 256>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tx = local.x;
  let ty = local.y;
  let kv_head = group.y;
  let last = rows.count - 1u;
  let last_key = key_rows.count - 1u;
  let k_first = group.x * 32u + ty * 4u;
${tokens("kt", "k_first", "last_key")}
${lines(4, (i) => `  let ka${i} = key_at(kt${i}, kv_head); let va${i} = value_at(kt${i}, kv_head);`)}
${each((i, c) => `  var dk${i}_${c} = E(); var dv${i}_${c} = E();`)}
  let bounds = tiles[group.x];
  for (var n = 0u; n < (bounds.y - bounds.x) * GROUP; n += 1u) {
    let head = kv_head * GROUP + n % GROUP;
    let q_tile = (bounds.x + n / GROUP) * 32u;
    let q_first = q_tile + tx * 4u;
    let own = own_row(q_first);
${tokens("qt", "q_first", "last")}
${
      lines(4, (j) =>
        `    let span${j} = spans[qt${j}]; let qa${j} = query_at(qt${j}, head); let oa${j} = out_at(qt${j}, head);
    let lse${j} = lse[qt${j} * HEADS + head]; let delta${j} = delta[qt${j} * HEADS + head];`)
    }
    let lses = vec4f(lse0, lse1, lse2, lse3);
    let deltas = vec4f(delta0, delta1, delta2, delta3);
${lines(4, (i) => `    var s${i} = vec4f(); var g${i} = vec4f();`)}
    for (var d = 0u; d < COLUMNS; d += 1u) {
${lines(4, (j) => `      let q${j} = queries[qa${j} + d]; let do${j} = d_out[oa${j} + d];`)}
${lines(4, (i) => `      let k${i} = keys[ka${i} + d]; let v${i} = keys[va${i} + d];`)}
${scores("s", "k", "q")}
${scores("g", "v", "do")}
    }
${
      gradients(
        shape,
        (i, j) => `(visible(own + ${j}u, k_first + ${i}u, span${j}) && q_first + ${j}u <= last)`,
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
      let qa = query_at(token, head);
      let oa = out_at(token, head);
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
        `  if (k_first + ${i}u <= last_key) {
    let ka = key_at(k_first + ${i}u, kv_head) + tx;
    let va = value_at(k_first + ${i}u, kv_head) + tx;
${
          lines(owned, (c) =>
            `    if (tx + ${8 * c}u < COLUMNS) { d_x[ka + ${8 * c}u] = dk${i}_${c}; d_x[va + ${
              8 * c
            }u] = dv${i}_${c}; }`)
        }
  }`)
    }
}
`,
  );
}
