/** Attention forward by subgroup matrices: see `attention_matrix.ts`. */
import {
  type AttentionLayout,
  attentionPrelude,
  type AttentionShape,
  productScale,
  score,
} from "./attention.ts";
import { eachVector, type MatrixCut, matrixHeader, matrixMain, operands } from "./attention_matrix.ts";
import {
  copyRows,
  leastScale,
  putWeights,
  rowProducts,
  unitProducts,
  WEIGHT_SCALE,
} from "./attention_matrix_products.ts";
import { forEachKeyTile } from "./attention_workgroup.ts";
import { lines, range } from "./emit.ts";

/**
 * Bindings: 0 rows, 1 key rows, 2 spans, 3 queries, keys and values of one tensor, 4 query tiles, 5 scales [tokens,
 * `scales`] of that tensor's heads, 6 out [tokens, heads, headDim], 7 lse [tokens, heads]. Grid: query tiles x heads.
 */
export function matrixForwardSource(
  shape: AttentionShape,
  layout: AttentionLayout,
  cut: MatrixCut,
  scales: number,
): string {
  const { vectors, perRow, isResident } = cut;
  const each = (line: (u: number, t: number) => string) => eachVector(cut, line);
  const own = operands("q_first", scales);
  const others = operands("k_first", scales);
  const queries = { ...own.queries, scale: own.scale("queries") };
  const keys = { ...others.keys, scale: "scales_a[line]" };
  const values = { ...others.values, scale: "value_scale" };
  return attentionPrelude(
    shape,
    layout,
    `
@group(0) @binding(3) var<storage, read> qkv: array<E>;
@group(0) @binding(4) var<storage, read> tiles: array<vec4u>;
@group(0) @binding(5) var<storage, read> scales: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<E>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;
${matrixHeader(cut, 1)}

${matrixMain(cut)}
  let head = group.y;
  let kv_head = head / GROUP;
  let last = rows.count - 1u;
  let q_first = group.x * 32u;
  let query = min(q_first + row, last);
  let own = own_row(q_first + row);
  let span = spans[query];
  let query_scale = ${own.scale("queries", "query")};
${isResident ? copyRows(cut, "own", queries, 0) : ""}
${each((u, t) => `  var o${u}_${t} = vec4f();`)}
  var row_max = -3.0e38;
  // Of the thread's own columns.
  var row_sum = 0.0;
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
        lines(vectors, (t) =>
          `    let seen${t} = vec4<bool>(${
            range(4).map((l) => `visible(own, k_first + first_column + ${4 * t + l}u, span)`).join(", ")
          });
    let score${t} = select(vec4f(-3.0e38), ${
            score(shape, `s${t} * ${productScale(shape)}`, "4")
          }, seen${t});`)
      }
${
        lines(vectors, (t) =>
          `    let most${t} = max(max(score${t}.x, score${t}.y), max(score${t}.z, score${t}.w));`)
      }
    partial[row * ${perRow}u + part] = ${
        range(vectors).map((t) =>
          `most${t}`
        ).reduce((a, b) => `max(${a}, ${b})`)
      };
    workgroupBarrier();
    var new_max = row_max;
    for (var i = 0u; i < ${perRow}u; i += 1u) { new_max = max(new_max, partial[row * ${perRow}u + i]); }
    let factor = exp_accurate(row_max - new_max);
    row_max = new_max;
    // A row that sees nothing of this tile, nor of any before, must not turn exp(-inf + inf) into 1.
${
        lines(
          vectors,
          (t) => `    let p${t} = select(vec4f(), exp_accurate4(score${t} - new_max), seen${t});`,
        )
      }
    row_sum = row_sum * factor + ${
        range(vectors).map((t) => `((p${t}.x + p${t}.y) + (p${t}.z + p${t}.w))`).join(" + ")
      };
${putWeights(cut, (t) => `p${t} * ${WEIGHT_SCALE}`)}
${leastScale("value_scale", "scales_b")}
${
        unitProducts(cut, {
          others: values,
          scale: WEIGHT_SCALE,
          otherScale: "value_scale",
          add: (u, t, value) => `    o${u}_${t} = o${u}_${t} * factor + ${value};`,
        })
      }`)
    }
  partial[row * ${perRow}u + part] = row_sum;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < ${perRow}u; i += 1u) { sum += partial[row * ${perRow}u + i]; }
  if (q_first + row <= last) {
    let at = query * OUT_STRIDE + head * COLUMNS;
${
      each((u, t) =>
        `    if (${8 * u + t}u + first_column / 4u < COLUMNS) { out[at + ${
          8 * u + t
        }u + first_column / 4u] = o${u}_${t} / sum; }`
      )
    }
    if (part == 0u) { lse[query * HEADS + head] = row_max + log(sum); }
  }
}
`,
  );
}
