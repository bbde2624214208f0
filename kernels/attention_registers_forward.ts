/** Attention forward with a thread's queries in registers: see `RegisterTile`. */
import {
  type AttentionLayout,
  attentionPrelude,
  type AttentionShape,
  productScale,
  type RegisterTile,
  score,
} from "./attention.ts";
import {
  column,
  columnsOf,
  forEachKey,
  operand,
  queriesOfThread,
  queryPlace,
  readRows,
  REGISTER_WORKGROUP,
  zeros,
} from "./attention_registers.ts";
import { lines, range } from "./emit.ts";

/**
 * Bindings: 0 rows, 1 key rows, 2 spans, 3 queries, 4 keys and values, 5 out [tokens, heads, headDim], 6 lse [tokens,
 * heads]. Grid: threads for all tokens x heads / members.
 */
export function registersForwardSource(
  shape: AttentionShape,
  layout: AttentionLayout,
  tile: RegisterTile,
): string {
  const { tokens, members } = queriesOfThread(shape, tile);
  const { block } = tile;
  const rows = tokens * members;
  const columns = columnsOf(shape);
  const scale = productScale(shape);
  const token = (r: number) => Math.floor(r / members);
  const sum = (term: (c: number) => string) => range(block).map(term).join(" + ");
  return attentionPrelude(
    shape,
    layout,
    `
${operand("queries", 3, "QUERY_STRIDE", tile.memory)}
${operand("keys", 4, "KEY_STRIDE", tile.memory)}
@group(0) @binding(5) var<storage, read_write> out: array<E>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

@compute @workgroup_size(${REGISTER_WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
${queryPlace({ tokens, members })}
${
      readRows(rows, columns, {
        q: (r) =>
          `queries_at(token${token(r)}, QUERY_OFFSET + (head + ${r % members}u) * COLUMNS + d) * ${scale}`,
      })
    }
${zeros("o", rows, columns)}
${lines(rows, (r) => `  var max${r} = -3.0e38; var sum${r} = 0.0;`)}
${
      forEachKey(
        { tokens, members },
        block,
        `
${lines(rows, (r) => "    " + range(block).map((c) => `var s${r}_${c} = 0.0;`).join(" "))}
${
          lines(columns, (d) =>
            `    {
${lines(block, (c) => `      let k${c} = keys_at(key${c}, KEY_OFFSET + kv_head * COLUMNS + ${d}u);`)}
${
              lines(
                rows,
                (r) =>
                  "      " + range(block).map((c) => `s${r}_${c} += product(q${r}_${d}, k${c});`).join(" "),
              )
            }
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
          lines(rows, (r) =>
            `${
              lines(
                block,
                (c) =>
                  `    s${r}_${c} = select(-3.0e38, ${score(shape, `s${r}_${c}`)}, seen${token(r)}_${c});`,
              )
            }
    let new${r} = ${range(block).reduce((most, c) => `max(${most}, s${r}_${c})`, `max${r}`)};
    let factor${r} = exp_accurate(max${r} - new${r});
    max${r} = new${r};
    // A row that sees none of these keys, nor any before, must not turn exp(-inf + inf) into 1.
${
              lines(
                block,
                (c) =>
                  `    let p${r}_${c} = select(0.0, exp_accurate(s${r}_${c} - new${r}), seen${
                    token(r)
                  }_${c});`,
              )
            }
    sum${r} = sum${r} * factor${r} + ${sum((c) => `p${r}_${c}`)};`)
        }
${
          lines(columns, (d) =>
            `    {
${lines(block, (c) => `      let v${c} = keys_at(key${c}, VALUE_OFFSET + kv_head * COLUMNS + ${d}u);`)}
${lines(rows, (r) => `      o${r}_${d} = o${r}_${d} * factor${r} + ${sum((c) => `p${r}_${c} * v${c}`)};`)}
    }`)
        }`,
      )
    }
${
      lines(rows, (r) =>
        `  let stored${r} = first_token + ${token(r)}u <= last;
  if (stored${r}) { lse[token${token(r)} * HEADS + head + ${r % members}u] = max${r} + log(sum${r}); }`)
    }
  for (var d = 0u; d < COLUMNS; d += 1u) {
${
      lines(rows, (r) =>
        `    if (stored${r}) {
      out[token${token(r)} * OUT_STRIDE + (head + ${r % members}u) * COLUMNS + d] = ${
          column("o", r, 0, columns)
        } / sum${r};
    }`)
    }
  }
}
`,
  );
}
