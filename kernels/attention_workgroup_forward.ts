/** Attention forward by way of workgroup memory: see `attention_workgroup.ts`. */
import {
  type AttentionLayout,
  attentionPrelude,
  type AttentionShape,
  productScale,
  score,
} from "./attention.ts";
import {
  columnsOf,
  forEachKeyTile,
  ownColumn,
  scores,
  tokens,
  transpose,
  WORKGROUP_HEADER,
} from "./attention_workgroup.ts";
import { lane, lines, range } from "./emit.ts";

/**
 * Bindings: 0 rows, 1 key rows, 2 spans, 3 queries, 4 keys and values, 5 query tiles, 6 out [tokens, heads, headDim],
 * 7 lse [tokens, heads]. Grid: query tiles x heads.
 */
export function workgroupForwardSource(shape: AttentionShape, layout: AttentionLayout): string {
  const owned = columnsOf(shape);
  const each = (line: (i: number, c: number) => string) =>
    range(4).flatMap((i) => range(owned).map((c) => line(i, c))).join("\n");
  return attentionPrelude(
    shape,
    layout,
    `${WORKGROUP_HEADER}
@group(0) @binding(6) var<storage, read_write> out: array<E>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;
var<workgroup> weights: array<vec4f, 256>;
var<workgroup> partial: array<vec4f, 64>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tx = local.x;
  let ty = local.y;
  let head = group.y;
  let kv_head = head / GROUP;
  let last = rows.count - 1u;
  let last_key = key_rows.count - 1u;
  let q_first = group.x * 32u + ty * 4u;
  let own = own_row(q_first);
${tokens("qt", "q_first", "last")}
${lines(4, (i) => `  let span${i} = spans[qt${i}]; let qa${i} = query_at(qt${i}, head);`)}
${each((i, c) => `  var o${i}_${c} = E();`)}
  // Of the thread's 4 rows; the sum is over its own columns alone until the end.
  var row_max = vec4f(-3.0e38);
  var row_sum = vec4f();
${
      forEachKeyTile(`
${tokens("kt", "k_first + tx * 4u", "last_key")}
${lines(4, (j) => `    let ka${j} = key_at(kt${j}, kv_head);`)}
${lines(4, (i) => `    var s${i} = vec4f();`)}
    for (var d = 0u; d < COLUMNS; d += 1u) {
${lines(4, (j) => `      let k${j} = keys[ka${j} + d];`)}
${lines(4, (i) => `      let q${i} = queries[qa${i} + d];`)}
${scores("s", "q", "k")}
    }
${
        lines(4, (i) =>
          `    let seen${i} = vec4<bool>(${
            range(4).map((j) => `visible(own + ${i}u, k_first + tx * 4u + ${j}u, span${i})`).join(", ")
          });
    s${i} = select(vec4f(-3.0e38), ${score(shape, `s${i} * ${productScale(shape)}`, "4")}, seen${i});`)
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
    // A row that sees nothing of this tile, nor of any before, must not turn exp(-inf + inf) into 1, and a NaN stays one.
${lines(4, (i) => `    s${i} = select(vec4f(), exp_accurate4(s${i} - new_max.${lane(i)}), seen${i});`)}
    row_sum = row_sum * factor + vec4f(${
        range(4).map((i) => `(s${i}.x + s${i}.y) + (s${i}.z + s${i}.w)`).join(", ")
      });
${transpose("weights", "s")}
${each((i, c) => `    o${i}_${c} *= factor.${lane(i)};`)}
    workgroupBarrier();
    for (var j = 0u; j < 32u; j += 1u) {
      let p = weights[j * 8u + ty];
      let va = value_at(min(k_first + j, last_key), kv_head);
${lines(owned, (c) => `      let v${c} = keys[va + ${ownColumn(shape, c)}];`)}
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
  );
}
