/** From an operation to its kernel: source, constants, bindings and launch size, one function an operation. */
import activationKernel from "../../kernels/activation.wgsl" with { type: "text" };
import activationBackwardKernel from "../../kernels/activation_backward.wgsl" with { type: "text" };
import addSource from "../../kernels/add.wgsl" with { type: "text" };
import addBiasBackwardSource from "../../kernels/add_bias_backward.wgsl" with { type: "text" };
import clearSource from "../../kernels/clear.wgsl" with { type: "text" };
import columnSumsSource from "../../kernels/column_sums.wgsl" with { type: "text" };
import copySource from "../../kernels/copy.wgsl" with { type: "text" };
import gatherSource from "../../kernels/gather_rows.wgsl" with { type: "text" };
import gatherBackwardSource from "../../kernels/gather_rows_backward.wgsl" with { type: "text" };
import gluKernel from "../../kernels/glu.wgsl" with { type: "text" };
import gluBackwardKernel from "../../kernels/glu_backward.wgsl" with { type: "text" };
import logProbabilitiesSource from "../../kernels/log_probabilities.wgsl" with { type: "text" };
import logitsBackwardSource from "../../kernels/logits_backward.wgsl" with { type: "text" };
import batchSumsSource from "../../kernels/batch_sums.wgsl" with { type: "text" };
import lossProbeSource from "../../kernels/loss_probe.wgsl" with { type: "text" };
import preferenceLossSource from "../../kernels/preference_loss.wgsl" with { type: "text" };
import squaredProbabilitiesSource from "../../kernels/squared_probabilities.wgsl" with { type: "text" };
import responseFiguresSource from "../../kernels/response_figures.wgsl" with { type: "text" };
import ropeSource from "../../kernels/rope.wgsl" with { type: "text" };
import { type Activation, activationSource } from "../../kernels/activation.ts";
import type { AttentionShape } from "../../kernels/attention.ts";
import { elementWidth, withPrelude } from "../../kernels/prelude.ts";
import type { Tensor } from "./memory.ts";
import { type Grid, type KernelCall, line, type RowSlot } from "./program.ts";

/** Floats in a row: the product of all dimensions but the first. */
export const rowLength = (tensor: Tensor) => tensor.shape.slice(1).reduce((product, n) => product * n, 1);

/** A thread for each of `perRow` elements of every row, 64 to a workgroup. */
export const flat = (rows: RowSlot, perRow: number): Grid => (counts) =>
  line(Math.ceil(counts[rows.slot] * perRow / 64));
/** A workgroup for each row. */
export const oneEach = (rows: RowSlot): Grid => (counts) => line(counts[rows.slot]);

/** A kernel that treats rows of `lengths` floats as elements of one width, `COLUMNS` of them in the first. */
export function rowKernel(
  label: string,
  source: string,
  rows: RowSlot,
  bindings: Tensor[],
  length: number,
  grid: (columns: number) => Grid,
  constants: Record<string, number> = {},
): KernelCall {
  const width = elementWidth(length);
  const columns = length / width;
  return {
    label,
    source: withPrelude(source, { COLUMNS: columns, ...constants }, width),
    bindings: [rows.tensor, ...bindings],
    grid: grid(columns),
  };
}

/** Sets a tensor to 0, unless `rows` accumulates. */
export const clear = (rows: RowSlot, tensor: Tensor): KernelCall => ({
  label: "clear",
  source: withPrelude(clearSource, { LENGTH: tensor.bytes / 16 }),
  bindings: [rows.tensor, tensor],
  grid: () => line(Math.ceil(tensor.bytes / 16 / 64)),
});

/** Rows whose columns are summed at a time: what `partial` has a row for. */
export const rowBlocks = (rows: RowSlot) => (columns: number): Grid => (counts) => [
  Math.ceil(columns / 64),
  Math.ceil(counts[rows.slot] / 32),
];

/** sums[length] (+)= the blocks' sums in `partial`. */
export const columnSums = (rows: RowSlot, partial: Tensor, sums: Tensor, length: number): KernelCall =>
  rowKernel(
    "column_sums",
    columnSumsSource,
    rows,
    [partial, sums],
    length,
    (columns) => (counts) => counts[rows.slot] ? [Math.ceil(columns / 64), 1] : [0, 0],
  );

/** dBias (+)= the sums of dY's columns times `scale`, by way of `partial`. */
export const addBiasBackward = (
  rows: RowSlot,
  t: { dY: Tensor; dBias: Tensor; partial: Tensor },
  scale = 1,
): KernelCall[] => [
  rowKernel(
    "add_bias_backward",
    addBiasBackwardSource,
    rows,
    [t.dY, t.partial],
    rowLength(t.dY),
    rowBlocks(rows),
    { SCALE_F: scale },
  ),
  columnSums(rows, t.partial, t.dBias, rowLength(t.dY)),
];

/** What a rotation's kernels know of it: how many floats of each head turn, and whether pairs stand side by side. */
export interface Rotation {
  readonly dimensions: number;
  readonly interleaved: boolean;
}

/**
 * y = qkv with the query and key heads rotated, by the rows of cosSin[positions, dimensions] that the spans name;
 * `backward` turns back. In place where y is qkv.
 */
export function rope(
  rows: RowSlot,
  t: { spans: Tensor; cosSin: Tensor; qkv: Tensor; y: Tensor },
  shape: AttentionShape,
  { dimensions, interleaved }: Rotation,
  backward = false,
): KernelCall {
  const length = rowLength(t.qkv);
  const width = interleaved ? 1 : elementWidth(dimensions / 2, shape.headDim, length);
  const heads = shape.heads + shape.keyValueHeads;
  const [half, stride] = [dimensions / 2 / width, length / width];
  const isInPlace = t.qkv === t.y;
  const rest = isInPlace ? 0 : stride - heads * 2 * half;
  const source = isInPlace
    ? "fn source(i: u32) -> E { return y[i]; }"
    : "@group(0) @binding(4) var<storage, read> qkv: array<E>;\nfn source(i: u32) -> E { return qkv[i]; }";
  return {
    label: backward ? "rope_backward" : "rope",
    source: withPrelude(`${source}\n${ropeSource}`, {
      HEADS: heads,
      HEAD: shape.headDim / width,
      HALF: half,
      STEP: interleaved ? 2 : 1,
      APART: interleaved ? 1 : half,
      STRIDE: stride,
      REST: rest,
      BACKWARD: backward ? 1 : 0,
    }, width),
    bindings: [rows.tensor, t.spans, t.cosSin, t.y, ...(isInPlace ? [] : [t.qkv])],
    grid: flat(rows, heads * half + rest),
  };
}

/** A kernel over the elements of the last of `tensors`. */
const activationCall =
  (label: string, source: string) =>
  (rows: RowSlot, activation: Activation, ...tensors: [Tensor, Tensor]): KernelCall =>
    rowKernel(
      label,
      activationSource(activation) + source,
      rows,
      tensors,
      rowLength(tensors[1]),
      (columns) => flat(rows, columns),
    );

/** y[rows, I] = act(gate) * up of gateUp[rows, 2 I], given before y. */
export const glu = activationCall("glu", gluKernel);

/** In place: gateUp becomes its gradient, dY becomes y. */
export const gluBackward = activationCall("glu_backward", gluBackwardKernel);

/** y[rows, I] = act(x), given before y. */
export const activate = activationCall("activation", activationKernel);

/** In place: x becomes its gradient, dY becomes y. */
export const activateBackward = activationCall("activation_backward", activationBackwardKernel);

/** z[rows, H] = x + y. */
export const add = (rows: RowSlot, x: Tensor, y: Tensor, z: Tensor) =>
  rowKernel("add", addSource, rows, [x, y, z], rowLength(z), (columns) => flat(rows, columns));

/** y[rows, H] = x. */
export const copy = (rows: RowSlot, x: Tensor, y: Tensor): KernelCall =>
  rowKernel("copy", copySource, rows, [x, y], rowLength(y), (columns) => flat(rows, columns));

/** y[labels, H] = x[labelRows[labels], H]; `slot` counts the labels. */
export const gatherRows = (slot: RowSlot, labelRows: Tensor, x: Tensor, y: Tensor) =>
  rowKernel(
    "gather_rows",
    gatherSource,
    slot,
    [labelRows, x, y],
    rowLength(x),
    (columns) => flat(slot, columns),
  );

/** dX[tokens, H] = the rows of dY[labels, H] that each token's row was gathered into, summed. */
export const gatherRowsBackward = (rows: RowSlot, labelsOfRow: Tensor, dY: Tensor, dX: Tensor) =>
  rowKernel(
    "gather_rows_backward",
    gatherBackwardSource,
    rows,
    [labelsOfRow, dY, dX],
    rowLength(dX),
    (columns) => flat(rows, columns),
  );

/** What is done to logits: logits * scale, then cap * tanh(logits / cap). */
export interface LogitOptions {
  logitScale?: number;
  logitSoftcap?: number;
}

/** WGSL of `score`, what becomes of four logits, and of `slope`, its derivative. */
export function scoreFunctions({ logitScale, logitSoftcap }: LogitOptions): string {
  const scaled = logitScale === undefined ? "v" : `v * f32(${logitScale})`;
  if (logitSoftcap === undefined) {
    return `fn score(v: vec4f) -> vec4f { return ${scaled}; }
fn slope(v: vec4f) -> vec4f { return vec4f(${logitScale ?? 1}); }`;
  }
  const cap = `f32(${logitSoftcap})`;
  return `fn capped(v: vec4f) -> vec4f { return tanh_accurate4(${scaled} / ${cap}); }
fn score(v: vec4f) -> vec4f { return capped(v) * ${cap}; }
fn slope(v: vec4f) -> vec4f { let t = capped(v); return (vec4f(1.0) - t * t) * f32(${logitScale ?? 1}); }`;
}

/** lse[labels], the log-probability of each target and figures[labels, 4], of logits[labels, padded vocabulary]. */
export const logProbabilities = (
  rows: RowSlot,
  t: { logits: Tensor; targets: Tensor; lse: Tensor; logps: Tensor; figures: Tensor },
  vocabulary: number,
  options: LogitOptions = {},
): KernelCall => ({
  label: "log_probabilities",
  source: withPrelude(`${scoreFunctions(options)}\n${logProbabilitiesSource}`, {
    STRIDE: rowLength(t.logits) / 4,
    VOCABULARY: vocabulary,
  }),
  bindings: [rows.tensor, t.logits, t.targets, t.lse, t.logps, t.figures],
  grid: oneEach(rows),
});

/**
 * In place: logits become weights[labels] * (onehot - softmax), times the slope of what is done to them; of `columns`
 * alone, which begin at a multiple of 4.
 */
export const logitsBackward = (
  rows: RowSlot,
  t: { logits: Tensor; targets: Tensor; lse: Tensor; weights: Tensor },
  vocabulary: number,
  options: LogitOptions = {},
  columns: { first: number; count: number } = { first: 0, count: vocabulary },
): KernelCall => {
  // The last of them with what follows: padding.
  const isLast = columns.first + columns.count === vocabulary;
  const width = isLast ? rowLength(t.logits) - columns.first : columns.count;
  return {
    label: "logits_backward",
    source: withPrelude(`${scoreFunctions(options)}\n${logitsBackwardSource}`, {
      STRIDE: rowLength(t.logits) / 4,
      FIRST: columns.first / 4,
      COLUMNS: width / 4,
      VOCABULARY: vocabulary,
    }),
    bindings: [rows.tensor, t.logits, t.targets, t.lse, t.weights],
    grid: flat(rows, width / 4),
  };
};

/** No token has the largest number. */
const NO_TOKEN = 0xffffffff;

/** squares[labels]: the logarithm of the sum of the squares of each label's probabilities. */
export const squaredProbabilities = (
  rows: RowSlot,
  t: { logits: Tensor; lse: Tensor; squares: Tensor },
  vocabulary: number,
  options: LogitOptions = {},
): KernelCall => ({
  label: "squared_probabilities",
  source: withPrelude(`${scoreFunctions(options)}\n${squaredProbabilitiesSource}`, {
    STRIDE: rowLength(t.logits) / 4,
    VOCABULARY: vocabulary,
  }),
  bindings: [rows.tensor, t.logits, t.lse, t.squares],
  grid: oneEach(rows),
});

/**
 * What a loss's WGSL sees: the structures, and of losses that are there which pair is looked at, and what KTO leaves
 * for the log.
 */
const LOSS_TYPES = `
struct Response { sum: f32, labels: f32, reference: f32 }
struct Loss { value: f32, d_chosen: f32, d_rejected: f32 }
var<private> own_pair: u32;
var<private> desirable: bool;
var<private> kl: f32;
`;

/** What losses that look at all pairs of a batch see of one: the sums of chosen and rejected, and the reference's. */
const BATCH_SUMS = `
@group(0) @binding(8) var<storage, read> sums: array<vec2f>;
fn batch_sums(pair: u32) -> vec4f { return vec4f(sums[pair], references[pair].xy); }
`;

/**
 * Loss of each pair and dL/d(log-probability) of each label, by the WGSL of `loss`, which `wgslOf` gave.
 *
 * @param t `sums` [pairs, 2] is what a loss that looks at all pairs is given; `squares` what one with weights by the
 * policy is.
 */
export function preferenceLoss(
  rows: RowSlot,
  t: {
    labelsOfPair: Tensor;
    references: Tensor;
    logps: Tensor;
    targets: Tensor;
    squares?: Tensor;
    weights: Tensor;
    results: Tensor;
    sums?: Tensor;
  },
  loss: string,
  eosTokenId = NO_TOKEN,
): KernelCall[] {
  const { labelsOfPair, references, logps, targets, squares = logps, weights, results, sums } = t;
  const call: KernelCall = {
    label: "preference_loss",
    source: withPrelude(LOSS_TYPES + (sums ? BATCH_SUMS : "") + loss + preferenceLossSource, {
      END: eosTokenId,
    }),
    bindings: [
      ...[rows.tensor, labelsOfPair, references, logps, targets, squares, weights, results],
      ...sums ? [sums] : [],
    ],
    grid: oneEach(rows),
  };
  if (!sums) return [call];
  const all: KernelCall = {
    label: "batch_sums",
    source: withPrelude(
      [...loss.split("\n").filter((line) => line.includes("LD_ALPHA")), batchSumsSource].join("\n"),
      {},
    ),
    bindings: [rows.tensor, labelsOfPair, logps, sums],
    grid: oneEach(rows),
  };
  return [all, call];
}

/**
 * figures[labels, 4] of each pair's two responses, summed: responses[2 pairs, 4]; `eosTokenId` is the label that ends
 * one.
 */
export const responseFigures = (
  rows: RowSlot,
  t: { labelsOfPair: Tensor; targets: Tensor; figures: Tensor; responses: Tensor },
  eosTokenId?: number,
): KernelCall => ({
  label: "response_figures",
  source: withPrelude(responseFiguresSource, { END: eosTokenId ?? NO_TOKEN }),
  bindings: [rows.tensor, t.labelsOfPair, t.targets, t.figures, t.responses],
  grid: (counts) => line(2 * counts[rows.slot]),
});

/** Value and derivatives, [n, 4], of a loss at given sums, [n, 8], by the WGSL of `loss`. */
export const lossProbe = (rows: RowSlot, t: { sums: Tensor; found: Tensor }, loss: string): KernelCall => ({
  label: "loss_probe",
  source: withPrelude(LOSS_TYPES + loss + lossProbeSource, {}),
  bindings: [rows.tensor, t.sums, t.found],
  grid: flat(rows, 1),
});
