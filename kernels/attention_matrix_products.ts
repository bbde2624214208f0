/** Products of attention by subgroup matrices, by way of workgroup memory: see `attention_matrix.ts`. */
import { type MatrixCut, partsOf, pitchOf, SIDE, SUMS_PITCH, WEIGHTS_PITCH } from "./attention_matrix.ts";
import { lines, range } from "./emit.ts";
import { putParts } from "./gemm_matrix_operand.ts";

/** An operand in workgroup memory: its arrays' name. */
export type OperandName = "own" | "second" | "others";

/** Where an operand's rows are in memory, as WGSL of `line`, 0 to 31: the index of its first vec4, and its scale. */
export interface Rows {
  tensor: string;
  at: string;
  scale: string;
}

/** Copies columns of 32 rows to workgroup memory, from chunk `chunk` of them on. */
export function copyRows(cut: MatrixCut, name: OperandName, rows: Rows, chunk: string | number): string {
  const width = cut.depth / 4;
  return `    for (var i = index; i < ${SIDE * width}u; i += ${cut.threads}u) {
      let line = i / ${width}u;
      let d = ${typeof chunk === "number" ? `${chunk}u` : chunk} * ${width}u + i % ${width}u;
      let loaded = ${rows.tensor}[${rows.at} + min(d, COLUMNS - 1u)];
      let v = select(loaded, vec4f(), d >= COLUMNS) * ${rows.scale};
      let to = line * ${pitchOf(cut)}u + i % ${width}u * 4u;
${putParts(partsOf(cut), name, "to")}
    }`;
}

/** Statements that write the thread's `weight0` and so on, scaled, for `unitProducts`. */
export const putWeights = (cut: MatrixCut, weight: (t: number) => string): string =>
  lines(cut.vectors, (t) =>
    `    {
      let v = ${weight(t)};
      let to = row * ${WEIGHTS_PITCH}u + first_column + ${4 * t}u;
${putParts(partsOf(cut), "weights", "to")}
    }`);

/** Loads of a step, and what they add to two matrices of sums. */
function step(
  cut: MatrixCut,
  left: { name: string; at: string; pitch: number },
  right: { order: "row_major" | "col_major"; at: (j: number) => string },
): string {
  const { m, n, k } = cut;
  const parts = partsOf(cut);
  const products = ([["low", "high"], ["high", "low"], ["high", "high"]] as const)
    .filter((pair) => pair.every((part) => parts.includes(part)));
  return [
    ...parts.map((part) =>
      `let a_${part} = subgroupMatrixLoad<subgroup_matrix_left<f16, ${k}, ${m}>, row_major>(&${left.name}_${part}, ${left.at}, ${left.pitch}u);`
    ),
    ...range(2).flatMap((j) => [
      ...parts.map((part) =>
        `let b${j}_${part} = subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, ${right.order}>(&others_${part}, ${
          right.at(j)
        }, ${pitchOf(cut)}u);`
      ),
      ...products.map(([a, b]) => `sum${j} = subgroupMatrixMultiplyAccumulate(a_${a}, b${j}_${b}, sum${j});`),
    ]),
  ].map((line) => `        ${line}`).join("\n");
}

const zeroSums = ({ m, n }: MatrixCut) =>
  lines(2, (j) => `      var sum${j} = subgroup_matrix_result<f32, ${n}, ${m}>();`);
const storeSums = ({ n }: MatrixCut) =>
  lines(
    2,
    (j) =>
      `      subgroupMatrixStore<row_major>(&sums, top * ${SUMS_PITCH}u + side + ${
        j * n
      }u, sum${j}, ${SUMS_PITCH}u);`,
  );

/** Vec4 `t` of the thread's sums, as they were before they were scaled. */
const unscaledSums = (t: number, scale: string, others: string) => {
  const at = `row * ${SUMS_PITCH}u + first_column + ${4 * t}u`;
  return `unscaled(vec4f(${range(4).map((l) => `sums[${at} + ${l}u]`).join(", ")}), ${scale}, ${others})`;
};

/** Four of an array's numbers, of the thread's columns. */
export const ofColumns = (array: string, t: number): string =>
  `vec4f(${range(4).map((l) => `${array}[first_column + ${4 * t + l}u]`).join(", ")})`;

/**
 * Products of own rows with others over all columns, into vec4s `name0` and so on of the thread's row; the others are
 * copied, and own rows where they do not stay. `scales` is the array of the others' scales. Where it
 * ends nobody reads any more what was copied.
 */
export function rowProducts(
  cut: MatrixCut,
  { name, isFirst = true, own, ownRows, ownScale, others, scales }: {
    name: string;
    /** Of a pass, before which scales were written. */
    isFirst?: boolean;
    own: "own" | "second";
    ownRows: Rows;
    ownScale: string;
    others: Rows;
    scales: "scales_a" | "scales_b";
  },
): string {
  const { depth, units, isResident, k, n } = cut;
  const place = isResident ? own : "own";
  const copies = (chunk: string) =>
    `${isResident ? "" : copyRows(cut, place, ownRows, chunk)}
${copyRows(cut, "others", others, chunk)}
    workgroupBarrier();`;
  const products = `      for (var step = 0u; step < ${depth}u; step += ${k}u) {
${
    step(cut, { name: place, at: `top * ${pitchOf(cut)}u + step`, pitch: pitchOf(cut) }, {
      order: "col_major",
      at: (j) => `(side + ${j * n}u) * ${pitchOf(cut)}u + step`,
    })
  }
      }`;
  const chunks = units * SIDE / depth;
  return `${isFirst || chunks > 1 ? "    workgroupBarrier();" : ""}
    {
${zeroSums(cut)}
${
    chunks === 1
      ? `${copies("0u")}\n${products}`
      : `    for (var chunk = 0u; chunk < ${chunks}u; chunk += 1u) {
${copies("chunk")}
${products}
    workgroupBarrier();
    }`
  }
${storeSums(cut)}
    }
    workgroupBarrier();
${
    lines(
      cut.vectors,
      (t) => `    let ${name}${t} = ${unscaledSums(t, ownScale, ofColumns(scales, t))};`,
    )
  }`;
}

/**
 * Products of the thread's weights, as `putWeights` left them, with 32 rows of others: `add(u, t, value)` is the
 * statement that takes vec4 t of unit u. The others are copied, but where they still lie there: nobody may read what was
 * there before, as nobody does behind the barrier that follows a product.
 */
export function unitProducts(
  cut: MatrixCut,
  { others, areThere = false, scale, otherScale, add }: {
    others: Rows;
    areThere?: boolean;
    scale: string;
    otherScale: string;
    add: (unit: number, t: number, value: string) => string;
  },
): string {
  const { depth, units, k, n, vectors } = cut;
  return lines(units, (u) => {
    const isFirstOfChunk = u * SIDE % depth === 0;
    const copies = isFirstOfChunk && !(areThere && u === 0 && depth === units * SIDE);
    return `${copies ? copyRows(cut, "others", others, u * SIDE / depth) : ""}
    workgroupBarrier();
    {
${zeroSums(cut)}
      for (var step = 0u; step < ${SIDE}u; step += ${k}u) {
${
      step(cut, { name: "weights", at: `top * ${WEIGHTS_PITCH}u + step`, pitch: WEIGHTS_PITCH }, {
        order: "row_major",
        at: (j) => `step * ${pitchOf(cut)}u + ${u * SIDE % depth}u + side + ${j * n}u`,
      })
    }
      }
${storeSums(cut)}
    }
    workgroupBarrier();
${lines(vectors, (t) => add(u, t, unscaledSums(t, scale, `vec4f(${otherScale})`)))}`;
  });
}

/** Weights are at most 1: what is multiplied with them for float16. */
export const WEIGHT_SCALE = "16384.0";

/** A line that finds the scale of a tile's largest row. */
export const leastScale = (name: string, scales: "scales_a" | "scales_b"): string =>
  `    var ${name} = ${scales}[0];
    for (var i = 1u; i < ${SIDE}u; i += 1u) { ${name} = min(${name}, ${scales}[i]); }`;
