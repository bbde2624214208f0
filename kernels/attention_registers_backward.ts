/** Attention backward with a thread's queries, or its keys and values, in registers: see `RegisterTile`. */
import {
  ATTENTION_TILE,
  type AttentionLayout,
  attentionPrelude,
  type AttentionShape,
  productScale,
  type RegisterTile,
} from "./attention.ts";
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
 * Statements that make `weight` (if it is wanted), the probability p = exp(s - lse) of a product of query and key,
 * and `gradient`, that of the score before its cap: p (dp - delta), and with a cap times 1 - tanh^2. Both are 0 where
 * not `seen`.
 */
function gradients(
  { softcap }: AttentionShape,
  names: {
    product: string;
    lse: string;
    dp: string;
    delta: string;
    seen: string;
    gradient: string;
    weight?: string;
  },
): string {
  const { product, lse, dp, delta, seen, gradient, weight } = names;
  const bend = `bend_${gradient}`;
  const before = softcap === undefined ? "" : `    let ${bend} = tanh_accurate(${product});\n`;
  const p = `exp_accurate(${softcap === undefined ? product : `CAP_F * ${bend}`} - ${lse})`;
  const slope = softcap === undefined ? "" : ` * (1.0 - ${bend} * ${bend})`;
  return weight
    ? `${before}    let ${weight} = select(0.0, ${p}, ${seen});
    let ${gradient} = ${weight} * (${dp} - ${delta})${slope};`
    : `${before}    let ${gradient} = select(0.0, ${p} * (${dp} - ${delta})${slope}, ${seen});`;
}

/**
 * Gradient of the queries, and delta, the row sums of out * d_out: with p = exp(s - lse), d_q = sum of p (d_out v -
 * delta) k * scale. Bindings: 0 rows, 1 key rows, 2 spans, 3 queries, 4 keys and values, 5 out, 6 lse, 7 d_out, 8
 * delta [tokens, heads], 9 d_queries. Grid: threads for all tokens x heads / members.
 */
export function registersQueryGradientSource(
  shape: AttentionShape,
  layout: AttentionLayout,
  tile: RegisterTile,
): string {
  const { tokens, members } = queriesOfThread(shape, tile);
  const { block } = tile;
  const rows = tokens * members;
  const columns = columnsOf(shape);
  const token = (r: number) => Math.floor(r / members);
  const outAt = (r: number) => `token${token(r)} * OUT_STRIDE + (head + ${r % members}u) * COLUMNS + d`;
  const statistic = (r: number) => `token${token(r)} * HEADS + head + ${r % members}u`;
  return attentionPrelude(
    shape,
    layout,
    `
${operand("queries", 3, "QUERY_STRIDE", tile.memory)}
${operand("keys", 4, "KEY_STRIDE", tile.memory)}
@group(0) @binding(5) var<storage, read> out: array<E>;
@group(0) @binding(6) var<storage, read> lse: array<f32>;
@group(0) @binding(7) var<storage, read> d_out: array<E>;
@group(0) @binding(8) var<storage, read_write> delta: array<f32>;
@group(0) @binding(9) var<storage, read_write> d_queries: array<E>;

@compute @workgroup_size(${REGISTER_WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
${queryPlace({ tokens, members })}
${lines(rows, (r) => `  let lse${r} = lse[${statistic(r)}]; var delta${r} = 0.0;`)}
${
      readRows(rows, columns, {
        q: (r) =>
          `queries_at(token${token(r)}, QUERY_OFFSET + (head + ${r % members}u) * COLUMNS + d) * ${
            productScale(shape)
          }`,
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
                `    let k${c}_${d} = keys_at(key${c}, KEY_OFFSET + kv_head * COLUMNS + ${d}u);
    let v${c}_${d} = keys_at(key${c}, VALUE_OFFSET + kv_head * COLUMNS + ${d}u);`)
            }
${
              lines(
                rows,
                (r) =>
                  lines(
                    block,
                    (c) =>
                      `    s${r}_${c} += product(q${r}_${d}, k${c}_${d});
    dp${r}_${c} += product(g${r}_${d}, v${c}_${d});`,
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
                (c) => `    let seen${t}_${c} = inside${c} && visible(own${t}, key${c}, span${t});`,
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
                  gradients(shape, {
                    product: `s${r}_${c}`,
                    lse: `lse${r}`,
                    dp: `dp${r}_${c}`,
                    delta: `delta${r}`,
                    seen: `seen${token(r)}_${c}`,
                    gradient: `ds${r}_${c}`,
                  }),
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
      d_queries[token${token(r)} * QUERY_STRIDE + QUERY_OFFSET + (head + ${
          r % members
        }u) * COLUMNS + d] = SCALE_F * ${column("dq", r, 0, columns)};
    }`)
    }
  }
}
`,
  );
}

/**
 * Gradients of keys and values, summed over the query heads that share them, in a fixed order: d_v = sum of p d_out,
 * d_k = sum of p (d_out v - delta) q * scale. Bindings: 0 rows, 1 key rows, 2 spans, 3 queries, 4 keys and values, 5
 * key tiles, of which z is one past the last query that sees any of their keys, 6 d_out, 7 lse, 8 delta, 9 d_keys,
 * and values'. Grid: threads for all keys x key-value heads.
 */
export function registersKeyGradientSource(
  shape: AttentionShape,
  layout: AttentionLayout,
  tile: RegisterTile,
): string {
  const { block } = tile;
  const rows = keysOfThread(shape, tile);
  const columns = columnsOf(shape);
  const sum = (term: (c: number) => string) => range(block).map(term).join(" + ");
  return attentionPrelude(
    shape,
    layout,
    `
${operand("queries", 3, "QUERY_STRIDE", tile.memory)}
${operand("keys", 4, "KEY_STRIDE", tile.memory)}
@group(0) @binding(5) var<storage, read> tiles: array<vec4u>;
${operand("d_out", 6, "OUT_STRIDE", tile.memory)}
@group(0) @binding(7) var<storage, read> lse: array<f32>;
@group(0) @binding(8) var<storage, read> delta: array<f32>;
@group(0) @binding(9) var<storage, read_write> d_keys: array<E>;

@compute @workgroup_size(${REGISTER_WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let last = key_rows.count - 1u;
  let kv_head = id.y;
  let first_key = id.x * ${rows}u;
  if (first_key > last) { return; }
${lines(rows, (r) => `  let key${r} = min(first_key + ${r}u, last);`)}
${
      readRows(rows, columns, {
        k: (r) => `keys_at(key${r}, KEY_OFFSET + kv_head * COLUMNS + d) * ${productScale(shape)}`,
        v: (r) => `keys_at(key${r}, VALUE_OFFSET + kv_head * COLUMNS + d)`,
      })
    }
${zeros("dk", rows, columns)}
${zeros("dv", rows, columns)}
  // Queries times the heads of the group. No query whose row is before a key's sees it.
  let first_query = max(first_key, own_row(0u)) - own_row(0u);
  let queries_end = max(tiles[first_key / ${ATTENTION_TILE}u].z, tiles[key${
      rows - 1
    } / ${ATTENTION_TILE}u].z);
  let total = (max(queries_end, first_query) - first_query) * GROUP;
  for (var n = 0u; n < total; n += ${block}u) {
${
      lines(block, (c) =>
        `    let n${c} = min(n + ${c}u, total - 1u);
    let token${c} = first_query + n${c} / GROUP;
    let own${c} = own_row(token${c});
    let head${c} = kv_head * GROUP + n${c} % GROUP;
    let span${c} = spans[token${c}];
    let lse${c} = lse[token${c} * HEADS + head${c}];
    let delta${c} = delta[token${c} * HEADS + head${c}];`)
    }
${lines(rows, (r) => lines(block, (c) => `    var s${r}_${c} = 0.0; var dp${r}_${c} = 0.0;`))}
${
      lines(columns, (d) =>
        lines(block, (c) =>
          `    let q${c}_${d} = queries_at(token${c}, QUERY_OFFSET + head${c} * COLUMNS + ${d}u);
    let g${c}_${d} = d_out_at(token${c}, head${c} * COLUMNS + ${d}u);
${
            lines(rows, (r) =>
              `    s${r}_${c} += product(q${c}_${d}, k${r}_${d}); dp${r}_${c} += product(g${c}_${d}, v${r}_${d});`)
          }`))
    }
${
      lines(rows, (r) =>
        lines(block, (c) =>
          `    let seen${r}_${c} = n + ${c}u < total && visible(own${c}, key${r}, span${c});
${
            gradients(shape, {
              product: `s${r}_${c}`,
              lse: `lse${c}`,
              dp: `dp${r}_${c}`,
              delta: `delta${c}`,
              seen: `seen${r}_${c}`,
              gradient: `ds${r}_${c}`,
              weight: `p${r}_${c}`,
            })
          }`))
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
      let at = key${r} * KEY_STRIDE + kv_head * COLUMNS + d;
      d_keys[at + KEY_OFFSET] = SCALE_F * ${column("dk", r, 0, columns)};
      d_keys[at + VALUE_OFFSET] = ${column("dv", r, 0, columns)};
    }`)
    }
  }
}
`,
  );
}
