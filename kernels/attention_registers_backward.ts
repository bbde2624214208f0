/** Attention backward with a thread's queries, or its keys and values, in registers: see `RegisterTile`. */
import { ATTENTION_TILE, attentionPrelude, type AttentionShape, type RegisterTile } from "./attention.ts";
import {
  column,
  columnsOf,
  forEachKey,
  keysOfThread,
  operand,
  queriesOfThread,
  queryPlace,
  readRows,
  REGISTER_WORKGROUP,
  zeros,
} from "./attention_registers.ts";
import { lines, range } from "./emit.ts";

/**
 * Gradient of the queries, and delta, the row sums of out * d_out: with p = exp(s - lse),
 * d_q = sum of p (d_out v - delta) k / sqrt(headDim). Bindings: 0 rows, 1 spans, 2 qkv, 3 out, 4 lse, 5 d_out,
 * 6 delta [tokens, heads], 7 d_qkv, of which the query part is written. Grid: threads for all tokens x heads / members.
 */
export function registersQueryGradientSource(shape: AttentionShape, tile: RegisterTile): string {
  const { tokens, members } = queriesOfThread(shape, tile);
  const { block } = tile;
  const rows = tokens * members;
  const columns = columnsOf(shape);
  const token = (r: number) => Math.floor(r / members);
  const outAt = (r: number) => `token${token(r)} * OUT_STRIDE + (head + ${r % members}u) * COLUMNS + d`;
  const statistic = (r: number) => `token${token(r)} * HEADS + head + ${r % members}u`;
  return attentionPrelude(
    shape,
    `
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> spans: array<vec4u>;
${operand("qkv", 2, "QKV_STRIDE", tile.memory)}
@group(0) @binding(3) var<storage, read> out: array<E>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> d_out: array<E>;
@group(0) @binding(6) var<storage, read_write> delta: array<f32>;
@group(0) @binding(7) var<storage, read_write> d_qkv: array<E>;

@compute @workgroup_size(${REGISTER_WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
${queryPlace({ tokens, members })}
${lines(rows, (r) => `  let lse${r} = lse[${statistic(r)}]; var delta${r} = 0.0;`)}
${
      readRows(rows, columns, {
        q: (r) => `qkv_at(token${token(r)}, (head + ${r % members}u) * COLUMNS + d) * SCALE_F`,
        g: (r) => `d_out[${outAt(r)}]`,
      }, (r) => `    delta${r} += product(g${r}_${columns - 1}, out[${outAt(r)}]);`)
    }
${zeros("dq", rows, columns)}
${
      forEachKey(
        { tokens, members },
        block,
        `
${lines(rows, (r) => lines(block, (c) => `    var s${r}_${c} = 0.0; var dp${r}_${c} = 0.0;`))}
${
          lines(columns, (d) =>
            `${
              lines(block, (c) =>
                `    let k${c}_${d} = qkv_at(key${c}, KEY_OFFSET + kv_head * COLUMNS + ${d}u);
    let v${c}_${d} = qkv_at(key${c}, VALUE_OFFSET + kv_head * COLUMNS + ${d}u);`)
            }
${
              lines(
                rows,
                (r) =>
                  lines(
                    block,
                    (c) =>
                      `    s${r}_${c} += product(q${r}_${d}, k${c}_${d}); dp${r}_${c} += product(g${r}_${d}, v${c}_${d});`,
                  ),
              )
            }`)
        }
${
          lines(
            tokens,
            (t) =>
              lines(
                block,
                (c) => `    let seen${t}_${c} = inside${c} && visible(token${t}, key${c}, span${t});`,
              ),
          )
        }
${
          lines(
            rows,
            (r) =>
              lines(
                block,
                (c) =>
                  `    let ds${r}_${c} = select(0.0, exp_accurate(s${r}_${c} - lse${r}) * (dp${r}_${c} - delta${r}), seen${
                    token(r)
                  }_${c});`,
              ),
          )
        }
${
          lines(
            columns,
            (d) =>
              lines(
                rows,
                (r) =>
                  `    dq${r}_${d} += ${range(block).map((c) => `ds${r}_${c} * k${c}_${d}`).join(" + ")};`,
              ),
          )
        }`,
      )
    }
${
      lines(rows, (r) =>
        `  let stored${r} = first_token + ${token(r)}u <= last;
  if (stored${r}) { delta[${statistic(r)}] = delta${r}; }`)
    }
  for (var d = 0u; d < COLUMNS; d += 1u) {
${
      lines(rows, (r) =>
        `    if (stored${r}) {
      d_qkv[token${token(r)} * QKV_STRIDE + (head + ${r % members}u) * COLUMNS + d] = SCALE_F * ${
          column("dq", r, 0, columns)
        };
    }`)
    }
  }
}
`,
  );
}

/**
 * Gradients of keys and values, summed over the query heads that share them, in a fixed order: d_v = sum of p d_out,
 * d_k = sum of p (d_out v - delta) q / sqrt(headDim). Bindings: 0 rows, 1 spans, 2 key tiles, of which z is one past the
 * last query that sees any of their keys, 3 qkv, 4 d_out, 5 lse, 6 delta, 7 d_qkv, of which the other parts are written.
 * Grid: threads for all tokens x key-value heads.
 */
export function registersKeyGradientSource(shape: AttentionShape, tile: RegisterTile): string {
  const { block } = tile;
  const rows = keysOfThread(shape, tile);
  const columns = columnsOf(shape);
  const sum = (term: (c: number) => string) => range(block).map(term).join(" + ");
  return attentionPrelude(
    shape,
    `
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> spans: array<vec4u>;
@group(0) @binding(2) var<storage, read> tiles: array<vec4u>;
${operand("qkv", 3, "QKV_STRIDE", tile.memory)}
${operand("d_out", 4, "OUT_STRIDE", tile.memory)}
@group(0) @binding(5) var<storage, read> lse: array<f32>;
@group(0) @binding(6) var<storage, read> delta: array<f32>;
@group(0) @binding(7) var<storage, read_write> d_qkv: array<E>;

@compute @workgroup_size(${REGISTER_WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let last = rows.count - 1u;
  let kv_head = id.y;
  let first_key = id.x * ${rows}u;
  if (first_key > last) { return; }
${lines(rows, (r) => `  let key${r} = min(first_key + ${r}u, last);`)}
${
      readRows(rows, columns, {
        k: (r) => `qkv_at(key${r}, KEY_OFFSET + kv_head * COLUMNS + d) * SCALE_F`,
        v: (r) => `qkv_at(key${r}, VALUE_OFFSET + kv_head * COLUMNS + d)`,
      })
    }
${zeros("dk", rows, columns)}
${zeros("dv", rows, columns)}
  // Queries times the heads of the group. No query before a key sees it.
  let queries_end = max(tiles[first_key / ${ATTENTION_TILE}u].z, tiles[key${
      rows - 1
    } / ${ATTENTION_TILE}u].z);
  let total = (queries_end - first_key) * GROUP;
  for (var n = 0u; n < total; n += ${block}u) {
${
      lines(block, (c) =>
        `    let n${c} = min(n + ${c}u, total - 1u);
    let token${c} = first_key + n${c} / GROUP;
    let head${c} = kv_head * GROUP + n${c} % GROUP;
    let span${c} = spans[token${c}];
    let lse${c} = lse[token${c} * HEADS + head${c}];
    let delta${c} = delta[token${c} * HEADS + head${c}];`)
    }
${lines(rows, (r) => lines(block, (c) => `    var s${r}_${c} = 0.0; var dp${r}_${c} = 0.0;`))}
${
      lines(columns, (d) =>
        lines(block, (c) =>
          `    let q${c}_${d} = qkv_at(token${c}, head${c} * COLUMNS + ${d}u);
    let g${c}_${d} = d_out_at(token${c}, head${c} * COLUMNS + ${d}u);
${
            lines(rows, (r) =>
              `    s${r}_${c} += product(q${c}_${d}, k${r}_${d}); dp${r}_${c} += product(g${c}_${d}, v${r}_${d});`)
          }`))
    }
${
      lines(rows, (r) =>
        lines(block, (c) =>
          `    let seen${r}_${c} = n + ${c}u < total && visible(token${c}, key${r}, span${c});
    let p${r}_${c} = select(0.0, exp_accurate(s${r}_${c} - lse${c}), seen${r}_${c});
    let ds${r}_${c} = p${r}_${c} * (dp${r}_${c} - delta${c});`))
    }
${
      lines(columns, (d) =>
        lines(rows, (r) =>
          `    dk${r}_${d} += ${
            sum((c) =>
              `ds${r}_${c} * q${c}_${d}`
            )
          }; dv${r}_${d} += ${sum((c) => `p${r}_${c} * g${c}_${d}`)};`))
    }
  }
  for (var d = 0u; d < COLUMNS; d += 1u) {
${
      lines(rows, (r) =>
        `    if (first_key + ${r}u <= last) {
      let at = key${r} * QKV_STRIDE + kv_head * COLUMNS + d;
      d_qkv[at + KEY_OFFSET] = SCALE_F * ${column("dk", r, 0, columns)};
      d_qkv[at + VALUE_OFFSET] = ${column("dv", r, 0, columns)};
    }`)
    }
  }
}
`,
  );
}
