/**
 * Attention forward of queries that see keys of different sequences, as in a step of generation: a workgroup for each
 * query and head, whose threads share its keys, where tiles of queries would read the keys of all of them for each.
 * For a GPU.
 */
import {
  type AttentionLayout,
  attentionPrelude,
  type AttentionShape,
  productScale,
  score,
} from "./attention.ts";
import { lines } from "./emit.ts";
import { elementWidth } from "./prelude.ts";

/** Threads of a workgroup, and keys that they look at together. */
const THREADS = 64;

/**
 * Bindings: 0 rows, 1 key rows, 2 spans, 3 queries, 4 keys and values, 5 out [tokens, heads, headDim], 6 lse [tokens,
 * heads]. Grid: tokens x heads.
 */
export function queryForwardSource(shape: AttentionShape, layout: AttentionLayout): string {
  const columns = shape.headDim / elementWidth(shape.headDim);
  // A thread owns columns, of every so many keys where there are fewer columns than threads.
  const owned = Math.ceil(columns / THREADS);
  const parts = Math.max(1, Math.floor(THREADS / columns));
  return attentionPrelude(
    shape,
    layout,
    `
@group(0) @binding(3) var<storage, read> queries: array<E>;
@group(0) @binding(4) var<storage, read> keys: array<E>;
@group(0) @binding(5) var<storage, read_write> out: array<E>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;
var<workgroup> own_query: array<E, ${columns}>;
var<workgroup> weights: array<f32, ${THREADS}>;
var<workgroup> partial: array<E, ${THREADS}>;

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let token = group.x;
  let head = group.y;
  let kv_head = head / GROUP;
  let span = spans[token];
  let first = span.y - span.x;
  let total = first + own_row(token) + 1u - span.z;
  let column = local % ${Math.min(columns, THREADS)}u;
  let part = local / ${Math.min(columns, THREADS)}u;
  for (var c = local; c < COLUMNS; c += ${THREADS}u) {
    own_query[c] = queries[token * QUERY_STRIDE + QUERY_OFFSET + head * COLUMNS + c];
  }
  var largest = -3.0e38;
  var sum = 0.0;
${lines(owned, (c) => `  var o${c} = E();`)}
  for (var begin = 0u; begin < total; begin += ${THREADS}u) {
    workgroupBarrier();
    let n = begin + local;
    var s = -3.0e38;
    if (n < total) {
      let row = select(span.z + n - first, span.x + n, n < first);
      let at = row * KEY_STRIDE + KEY_OFFSET + kv_head * COLUMNS;
      var p = 0.0;
      for (var d = 0u; d < COLUMNS; d += 1u) { p += product(own_query[d], keys[at + d]); }
      s = ${score(shape, `p * ${productScale(shape)}`)};
    }
    weights[local] = s;
    workgroupBarrier();
    var new_largest = largest;
    for (var i = 0u; i < ${THREADS}u; i += 1u) { new_largest = max(new_largest, weights[i]); }
    workgroupBarrier();
    weights[local] = select(0.0, exp_accurate(s - new_largest), n < total);
    workgroupBarrier();
    let factor = exp_accurate(largest - new_largest);
    largest = new_largest;
    var added = 0.0;
    for (var i = 0u; i < ${THREADS}u; i += 1u) { added += weights[i]; }
    sum = sum * factor + added;
${lines(owned, (c) => `    o${c} *= factor;`)}
    for (var i = part; i < min(${THREADS}u, total - begin); i += ${parts}u) {
      let m = begin + i;
      let row = select(span.z + m - first, span.x + m, m < first);
      let at = row * KEY_STRIDE + VALUE_OFFSET + kv_head * COLUMNS + column;
${
      lines(owned, (c) =>
        `      if (column + ${THREADS * c}u < COLUMNS) { o${c} += weights[i] * keys[at + ${THREADS * c}u]; }`)
    }
    }
  }
  partial[local] = o0;
  workgroupBarrier();
  let at = token * OUT_STRIDE + head * COLUMNS + column;
  if (part == 0u) {
${lines(parts - 1, (i) => `    o0 += partial[column + ${columns * (i + 1)}u];`)}
${
      lines(owned, (c) =>
        `    if (column + ${THREADS * c}u < COLUMNS) { out[at + ${THREADS * c}u] = o${c} / sum; }`)
    }
  }
  if (local == 0u) { lse[token * HEADS + head] = largest + log(sum); }
}
`,
  );
}
