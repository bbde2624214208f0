/**
 * Norms of rows, or of the query and key columns of [queries, keys, values]: forward, gradients of input, weight and
 * bias.
 */
import normSource from "../../kernels/norm.wgsl" with { type: "text" };
import backwardSource from "../../kernels/norm_backward.wgsl" with { type: "text" };
import partsSource from "../../kernels/norm_parts.wgsl" with { type: "text" };
import weightSource from "../../kernels/norm_weight_backward.wgsl" with { type: "text" };
import type { AttentionShape } from "../../kernels/attention.ts";
import { elementWidth, withPrelude } from "../../kernels/prelude.ts";
import type { Tensor } from "./memory.ts";
import { columnSums, rowBlocks, rowLength } from "./operations.ts";
import { type Grid, type KernelCall, line, type RowSlot } from "./program.ts";

/** How a norm computes: as transformers' RMSNorm or LayerNorm of the same kind, in float32. */
export interface Norm {
  kind: "rms" | "layer";
  epsilon: number;
  /** The factor is 1 + weight, as in Gemma and Nemotron. */
  onePlus?: boolean;
  /** It follows the weight, or the weights of all heads, in one tensor. */
  bias?: boolean;
  /** Where given, of the query and key columns of [queries, keys, values], not of the whole row. */
  heads?: HeadWeights;
}

/**
 * What is normed of queries and keys: each head, with one weight for those of queries and one for those of keys
 * ("shared"), or a weight a head ("each"); or all columns of queries and all of keys, as two norms ("whole").
 */
export interface HeadWeights extends AttentionShape {
  weights: "shared" | "each" | "whole";
}

/** Floats of a row's statistics. */
export const statisticsWidth = ({ kind, heads }: Norm): number =>
  (kind === "layer" ? 2 : 1) *
  (!heads ? 1 : heads.weights === "whole" ? 2 : heads.heads + heads.keyValueHeads);

/** How the kernels cut rows of `length` floats; see `kernels/norm_parts.wgsl`. */
function partsOf({ heads }: Norm, length: number) {
  if (!heads) return { queries: 1, query: length, keys: 0, key: length, weights: length };
  const { headDim, keyValueHeads, weights } = heads;
  const [all, one] = [heads.heads * headDim, keyValueHeads * headDim];
  if (weights === "whole") return { queries: 1, query: all, keys: 1, key: one, weights: all + one };
  return {
    queries: heads.heads,
    query: headDim,
    keys: keyValueHeads,
    key: headDim,
    weights: weights === "each" ? all + one : 2 * headDim,
  };
}

/** A norm's kernels over rows of `length` floats: their sources with what they have in common, and their grids. */
function kernelsOf(norm: Norm, rows: RowSlot, length: number) {
  const { queries, query, keys, key, weights } = partsOf(norm, length);
  const lanes = elementWidth(query, key);
  const constants = {
    HEADS: queries,
    KEYS: keys,
    QUERY: query / lanes,
    KEY: key / lanes,
    WEIGHTS: weights / lanes,
    LANES: lanes,
    EACH: norm.heads?.weights === "each" ? 1 : 0,
    LAYER: norm.kind === "layer" ? 1 : 0,
    BIAS: norm.bias ? 1 : 0,
    EPSILON_F: norm.epsilon,
  };
  const name = norm.heads ? "head_norm" : norm.kind === "rms" ? "rms_norm" : "layer_norm";
  return {
    weights: weights * (norm.bias ? 2 : 1),
    eightParts: ((counts) => line(Math.ceil(counts[rows.slot] * (queries + 2 * keys) / 8))) as Grid,
    blocks: rowBlocks(rows)(weights / lanes),
    call: (suffix: string, source: string, bindings: Tensor[], grid: Grid): KernelCall => ({
      label: name + suffix,
      source: withPrelude(`${partsSource}${source}`, constants, lanes),
      bindings: [rows.tensor, ...bindings],
      grid,
    }),
  };
}

const factor = ({ onePlus }: Norm) =>
  `fn factor(i: u32) -> E { return ${onePlus ? "E(1.0) + weight[i]" : "weight[i]"}; }\n`;

const STATISTICS_OF = `fn statistics_of(row: u32, part: u32) -> Statistics {
  let at = (row * NORMED + part) * (1u + LAYER);
  return Statistics(statistics[at], statistics[at + LAYER]);
}
`;

/** y = the norm of x's rows, plus a residual where given; what the backward pass needs of each goes to `statistics`. */
export function norm(
  rows: RowSlot,
  how: Norm,
  t: { x: Tensor; weight: Tensor; y: Tensor; statistics: Tensor; residual?: Tensor },
): KernelCall {
  const { call, eightParts } = kernelsOf(how, rows, rowLength(t.x));
  const stored = t.residual
    ? `@group(0) @binding(5) var<storage, read> residual: array<E>;
fn stored(e: E, i: u32) -> E { return residual[i] + e; }\n`
    : "fn stored(e: E, i: u32) -> E { return e; }\n";
  const bindings = [t.x, t.weight, t.y, t.statistics, ...(t.residual ? [t.residual] : [])];
  return call("", `${factor(how)}${stored}${normSource}`, bindings, eightParts);
}

/** dX (+)= the gradient of the input, in the place of dY where dX is the same tensor. */
export function normBackward(
  rows: RowSlot,
  how: Norm,
  t: { x: Tensor; weight: Tensor; statistics: Tensor; dY: Tensor; dX: Tensor },
  adds = false,
): KernelCall {
  const { call, eightParts } = kernelsOf(how, rows, rowLength(t.x));
  const isInPlace = t.dX === t.dY;
  const put = isInPlace
    ? `@group(0) @binding(4) var<storage, read_write> d_y: array<E>;
fn put(i: u32, e: E) { d_y[i] = e; }
fn pass_on(i: u32) {}\n`
    : `@group(0) @binding(4) var<storage, read> d_y: array<E>;
@group(0) @binding(5) var<storage, read_write> d_x: array<E>;
fn put(i: u32, e: E) { d_x[i] ${adds ? "+=" : "="} e; }
fn pass_on(i: u32) { put(i, d_y[i]); }\n`;
  return call(
    "_backward",
    `${factor(how)}${STATISTICS_OF}${put}${backwardSource}`,
    [t.x, t.weight, t.statistics, t.dY, ...(isInPlace ? [] : [t.dX])],
    eightParts,
  );
}

/** dWeight (+)= the gradient of weight and bias, by way of `partial`. */
export function normWeightBackward(
  rows: RowSlot,
  how: Norm,
  t: { x: Tensor; statistics: Tensor; dY: Tensor; dWeight: Tensor; partial: Tensor },
): KernelCall[] {
  const { call, blocks, weights } = kernelsOf(how, rows, rowLength(t.x));
  return [
    call("_weight_backward", `${STATISTICS_OF}${weightSource}`, [t.x, t.statistics, t.dY, t.partial], blocks),
    columnSums(rows, t.partial, t.dWeight, weights),
  ];
}
