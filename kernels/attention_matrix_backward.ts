/** Attention backward by subgroup matrices: see `attention_matrix.ts`. */
import { type AttentionLayout, attentionPrelude, type AttentionShape } from "./attention.ts";
import { eachVector, type MatrixCut, matrixHeader, matrixMain, operands } from "./attention_matrix.ts";
import {
  copyRows,
  leastScale,
  ofColumns,
  putWeights,
  rowProducts,
  unitProducts,
  WEIGHT_SCALE,
} from "./attention_matrix_products.ts";
import { forEachKeyTile } from "./attention_workgroup.ts";
import { lines, range } from "./emit.ts";

const HEADER = `
@group(0) @binding(3) var<storage, read> qkv: array<E>;
@group(0) @binding(4) var<storage, read> tiles: array<vec4u>;
@group(0) @binding(5) var<storage, read> scales: array<f32>;
@group(0) @binding(6) var<storage, read> d_out: array<E>;
@group(0) @binding(7) var<storage, read> lse: array<f32>;
@group(0) @binding(8) var<storage, read> delta: array<f32>;
@group(0) @binding(9) var<storage, read_write> d_x: array<E>;`;

/**
 * Statements that make of the thread's vec4s `s` and `g`, which are products of queries and keys and of `d_out` and
 * values, the probabilities `p` and the scores' gradients `ds`: see `attention_workgroup_backward.ts`.
 */
const gradients = (
  { softcap }: AttentionShape,
  { vectors }: MatrixCut,
  seen: (column: string) => string,
  statistics: (t: number) => [string, string],
) =>
  lines(vectors, (t) => {
    const [lse, delta] = statistics(t);
    const capped = softcap === undefined ? "" : `    let bend${t} = tanh_accurate4(s${t} * INNER_SCALE_F);\n`;
    const score = softcap === undefined ? `s${t} * SCALE_F` : `CAP_F * bend${t}`;
    const slope = softcap === undefined ? "" : ` * (1.0 - bend${t} * bend${t})`;
    return `    let seen${t} = vec4<bool>(${
      range(4).map((l) => seen(`first_column + ${4 * t + l}u`)).join(", ")
    });
${capped}    let p${t} = select(vec4f(), exp_accurate4(${score} - ${lse}), seen${t});
    let ds${t} = select(vec4f(), p${t} * (g${t} - ${delta}) * SCALE_F${slope}, seen${t});`;
  });

/**
 * Statements that put the scores' gradients with the scales of others' rows in them, and scaled by row. Rows of others
 * have scales of their own in workgroup memory, which are what is summed over: `least` is that of the largest.
 */
const putGradients = (cut: MatrixCut, scales: "scales_a" | "scales_b", least: string) =>
  `${
    lines(cut.vectors, (t) =>
      `    let w${t} = ds${t} * (${least} / ${ofColumns(scales, t)});
    let most${t} = max(max(abs(w${t}.x), abs(w${t}.y)), max(abs(w${t}.z), abs(w${t}.w)));`)
  }
    partial[row * ${cut.perRow}u + part] = ${
    range(cut.vectors).map((t) => `most${t}`).reduce((a, b) => `max(${a}, ${b})`)
  };
    workgroupBarrier();
    var most = 0.0;
    for (var i = 0u; i < ${cut.perRow}u; i += 1u) { most = max(most, partial[row * ${cut.perRow}u + i]); }
    let row_scale = scale_of(bitcast<u32>(most));
${putWeights(cut, (t) => `w${t} * row_scale`)}`;

/**
 * Gradient of the queries. Bindings: 0 rows, 1 key rows, 2 spans, 3 queries, keys and values of one tensor, 4 query
 * tiles, 5 scales [tokens, `scales`] of that tensor's heads and then of d_out's, 6 d_out, 7 lse, 8 delta (row sums of
 * out * d_out) [tokens, heads], 9 the gradient. Grid: query tiles x heads.
 */
export function matrixQueryGradientSource(
  shape: AttentionShape,
  layout: AttentionLayout,
  cut: MatrixCut,
  scales: number,
): string {
  const { isResident } = cut;
  const each = (line: (u: number, t: number) => string) => eachVector(cut, line);
  const own = operands("q_first", scales);
  const others = operands("k_first", scales);
  const queries = { ...own.queries, scale: own.scale("queries") };
  const dOut = { ...own.dOut, scale: own.scale("dOut") };
  const keys = { ...others.keys, scale: "scales_a[line]" };
  return attentionPrelude(
    shape,
    layout,
    `${HEADER}
${matrixHeader(cut, 2)}

${matrixMain(cut)}
  let head = group.y;
  let kv_head = head / GROUP;
  let last = rows.count - 1u;
  let q_first = group.x * 32u;
  let query = min(q_first + row, last);
  let own = own_row(q_first + row);
  let span = spans[query];
  let query_scale = ${own.scale("queries", "query")};
  let d_out_scale = ${own.scale("dOut", "query")};
  let own_lse = lse[query * HEADS + head];
  let own_delta = delta[query * HEADS + head];
${isResident ? copyRows(cut, "own", queries, 0) + "\n" + copyRows(cut, "second", dOut, 0) : ""}
${each((u, t) => `  var dq${u}_${t} = vec4f();`)}
${
      forEachKeyTile(`
    if (index < 32u) {
      let at = min(k_first + index, last);
      scales_a[index] = ${others.scale("keys", "at")};
      scales_b[index] = ${others.scale("values", "at")};
    }
${
        rowProducts(cut, {
          name: "s",
          own: "own",
          ownRows: queries,
          ownScale: "query_scale",
          others: keys,
          scales: "scales_a",
        })
      }
${
        rowProducts(cut, {
          name: "g",
          isFirst: false,
          own: "second",
          ownRows: dOut,
          ownScale: "d_out_scale",
          others: { ...others.values, scale: "scales_b[line]" },
          scales: "scales_b",
        })
      }
${
        gradients(
          shape,
          cut,
          (column) => `visible(own, k_first + ${column}, span)`,
          () => ["own_lse", "own_delta"],
        )
      }
${leastScale("least", "scales_a")}
${putGradients(cut, "scales_a", "least")}
${
        unitProducts(cut, {
          others: keys,
          scale: "row_scale",
          otherScale: "least",
          add: (u, t, value) => `    dq${u}_${t} += ${value};`,
        })
      }`)
    }
  if (q_first + row <= last) {
    let at = query * QUERY_STRIDE + QUERY_OFFSET + head * COLUMNS + first_column / 4u;
${
      each((u, t) =>
        `    if (${8 * u + t}u + first_column / 4u < COLUMNS) { d_x[at + ${8 * u + t}u] = dq${u}_${t}; }`
      )
    }
  }
}
`,
  );
}

/**
 * Gradients of keys and values, of one query head each. Bindings as for the queries, but 4 are the key tiles: x to y,
 * the query tiles that see this one; 9 is the gradient of the tensor where every head has keys of its own, and else
 * [tokens, 2 heads, headDim]: each head's part of the keys', then of the values'. Grid: key tiles x heads.
 */
export function matrixKeyGradientSource(
  shape: AttentionShape,
  layout: AttentionLayout,
  cut: MatrixCut,
  scales: number,
): string {
  const { vectors, isResident } = cut;
  const each = (line: (u: number, t: number) => string) => eachVector(cut, line);
  const own = operands("k_first", scales);
  const others = operands("q_first", scales);
  const keys = { ...own.keys, scale: own.scale("keys") };
  const values = { ...own.values, scale: own.scale("values") };
  const queries = { ...others.queries, scale: "scales_a[line]" };
  const dOut = { ...others.dOut, scale: "scales_b[line]" };
  const isSplit = shape.heads > shape.keyValueHeads;
  const four = (tensor: string, t: number) =>
    `vec4f(${
      range(4).map((l) => `${tensor}[min(q_first + first_column + ${4 * t + l}u, last) * HEADS + head]`).join(
        ", ",
      )
    })`;
  return attentionPrelude(
    shape,
    layout,
    `${HEADER}
${matrixHeader(cut, 2)}

${matrixMain(cut)}
  let head = group.y;
  let kv_head = head / GROUP;
  let last = rows.count - 1u;
  let k_first = group.x * 32u;
  let key = min(k_first + row, last);
  let key_scale = ${own.scale("keys", "key")};
  let value_scale = ${own.scale("values", "key")};
${isResident ? copyRows(cut, "own", keys, 0) + "\n" + copyRows(cut, "second", values, 0) : ""}
${each((u, t) => `  var dk${u}_${t} = vec4f(); var dv${u}_${t} = vec4f();`)}
  let bounds = tiles[group.x];
  for (var n = bounds.x; n < bounds.y; n += 1u) {
    let q_first = n * 32u;
    let own = own_row(q_first);
    if (index < 32u) {
      let at = min(q_first + index, last);
      scales_a[index] = ${others.scale("queries", "at")};
      scales_b[index] = ${others.scale("dOut", "at")};
    }
${
      rowProducts(cut, {
        name: "s",
        own: "own",
        ownRows: keys,
        ownScale: "key_scale",
        others: queries,
        scales: "scales_a",
      })
    }
${
      rowProducts(cut, {
        name: "g",
        isFirst: false,
        own: "second",
        ownRows: values,
        ownScale: "value_scale",
        others: dOut,
        scales: "scales_b",
      })
    }
${lines(vectors, (t) => `    let lse${t} = ${four("lse", t)}; let delta${t} = ${four("delta", t)};`)}
${
      gradients(
        shape,
        cut,
        (column) =>
          `(visible(own + ${column}, k_first + row, spans[min(q_first + ${column}, last)]) && q_first + ${column} <= last)`,
        (t) => [`lse${t}`, `delta${t}`],
      )
    }
${leastScale("d_out_least", "scales_b")}
${putWeights(cut, (t) => `p${t} * (d_out_least / ${ofColumns("scales_b", t)}) * ${WEIGHT_SCALE}`)}
${
      unitProducts(cut, {
        others: dOut,
        areThere: true,
        scale: WEIGHT_SCALE,
        otherScale: "d_out_least",
        add: (u, t, value) => `    dv${u}_${t} += ${value};`,
      })
    }
${leastScale("query_least", "scales_a")}
${putGradients(cut, "scales_a", "query_least")}
${
      unitProducts(cut, {
        others: queries,
        scale: "row_scale",
        otherScale: "query_least",
        add: (u, t, value) => `    dk${u}_${t} += ${value};`,
      })
    }
  }
  if (k_first + row <= last) {
    let column = first_column / 4u;
    let at_key = ${
      isSplit ? "(key * 2u * HEADS + head) * COLUMNS" : "key * KEY_STRIDE + KEY_OFFSET + kv_head * COLUMNS"
    };
    let at_value = at_key + ${isSplit ? "HEADS * COLUMNS" : "VALUE_OFFSET - KEY_OFFSET"};
${
      each((u, t) =>
        `    if (column + ${8 * u + t}u < COLUMNS) { d_x[at_key + column + ${
          8 * u + t
        }u] = dk${u}_${t}; d_x[at_value + column + ${8 * u + t}u] = dv${u}_${t}; }`
      )
    }
  }
}
`,
  );
}
