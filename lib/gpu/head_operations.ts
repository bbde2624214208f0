/** Operations on the heads of [queries, keys, values] before attention. */
import headNormSource from "../../kernels/head_norm.wgsl" with { type: "text" };
import headNormBackwardSource from "../../kernels/head_norm_backward.wgsl" with { type: "text" };
import headNormWeightSource from "../../kernels/head_norm_weight_backward.wgsl" with { type: "text" };
import type { AttentionShape } from "../../kernels/attention.ts";
import type { Tensor } from "./memory.ts";
import { columnSums, rowBlocks, rowKernel } from "./operations.ts";
import { type Grid, type KernelCall, line, type RowSlot } from "./program.ts";

/** What the kernels know of the heads. */
const constantsOf = ({ heads, keyValueHeads, headDim }: AttentionShape) => ({
  HEADS: heads,
  KEYS: keyValueHeads,
  ALL: heads + 2 * keyValueHeads,
  WIDTH: headDim,
});

const eightHeads = (rows: RowSlot, { heads, keyValueHeads }: AttentionShape): Grid => (counts) =>
  line(Math.ceil(counts[rows.slot] * (heads + 2 * keyValueHeads) / 8));

/** y = RMSNorm of each query and key head of qkv * the row of weight[2, D] that is theirs, and 1/rms into rstd[T, heads + kvHeads]. */
export const headNorm = (
  rows: RowSlot,
  t: { x: Tensor; weight: Tensor; y: Tensor; rstd: Tensor },
  shape: AttentionShape,
  epsilon: number,
): KernelCall =>
  rowKernel(
    "head_norm",
    headNormSource,
    rows,
    [t.x, t.weight, t.y, t.rstd],
    shape.headDim,
    () => eightHeads(rows, shape),
    { ...constantsOf(shape), EPSILON_F: epsilon },
  );

/** dWeight (+)= the gradient of the weight, by way of `partial`. */
export const headNormWeightBackward = (
  rows: RowSlot,
  t: { x: Tensor; rstd: Tensor; dY: Tensor; dWeight: Tensor; partial: Tensor },
  shape: AttentionShape,
): KernelCall[] => [
  rowKernel(
    "head_norm_weight_backward",
    headNormWeightSource,
    rows,
    [t.x, t.rstd, t.dY, t.partial],
    shape.headDim,
    (columns) => rowBlocks(rows)(2 * columns),
    constantsOf(shape),
  ),
  columnSums(rows, t.partial, t.dWeight, 2 * shape.headDim),
];

/** dY becomes the gradient of the input. */
export const headNormBackward = (
  rows: RowSlot,
  t: { x: Tensor; weight: Tensor; rstd: Tensor; dY: Tensor },
  shape: AttentionShape,
): KernelCall =>
  rowKernel(
    "head_norm_backward",
    headNormBackwardSource,
    rows,
    [t.x, t.weight, t.rstd, t.dY],
    shape.headDim,
    () => eightHeads(rows, shape),
    constantsOf(shape),
  );
