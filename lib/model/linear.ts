/**
 * Linear layers, y = x W^T, whose matrix W is there in pieces of its rows where it is too large to be bound whole: a piece
 * gives some columns of y.
 */
import { type Tensor, view } from "../gpu/memory.ts";
import { gemm, type RowSlot } from "../gpu/operations.ts";
import type { KernelCall } from "../gpu/program.ts";
import type { DeviceClass } from "../gpu/tuning.ts";
import type { ParameterSpec } from "./llama.ts";
import type { Parameters } from "./parameters.ts";

/** What a product's kernel depends on beside its tensors. */
export interface LinearContext {
  parameters: Parameters;
  device: DeviceClass;
}

/** The rows of a matrix of activations from column `first` on; their stride stays. */
const columnsFrom = (tensor: Tensor, first: number): Tensor =>
  first === 0 ? tensor : view(tensor, first * 4, tensor.bytes - first * 4, tensor.shape);

/** y = x W^T, plus a residual of y's shape. */
export const linear = (
  { parameters, device }: LinearContext,
  rows: RowSlot,
  spec: ParameterSpec,
  { x, y, residual }: { x: Tensor; y: Tensor; residual?: Tensor },
): KernelCall[] =>
  parameters.pieces(spec).map(({ firstRow, weights }) => {
    const tensors = { a: x, b: weights, c: columnsFrom(y, firstRow) };
    if (!residual) return gemm("nt", rows, tensors, device);
    return gemm("nt", rows, { ...tensors, residual: columnsFrom(residual, firstRow) }, device, "residual");
  });

/** dX = dY W, summed over the pieces of W; `adding` counts the same rows as `rows` and accumulates. */
export const linearInputGradient = (
  { parameters, device }: LinearContext,
  { rows, adding }: { rows: RowSlot; adding: RowSlot },
  spec: ParameterSpec,
  { dY, dX }: { dY: Tensor; dX: Tensor },
): KernelCall[] =>
  parameters.pieces(spec).map(({ firstRow, weights }, i) => {
    const tensors = { a: columnsFrom(dY, firstRow), b: weights, c: dX };
    return i === 0 ? gemm("nn", rows, tensors, device) : gemm("nn", adding, tensors, device, "accumulate");
  });

/** dW (+)= dY^T x. */
export const linearWeightGradient = (
  { parameters, device }: LinearContext,
  rows: RowSlot,
  spec: ParameterSpec,
  { dY, x }: { dY: Tensor; x: Tensor },
): KernelCall[] =>
  parameters.pieces(spec).map(({ firstRow, gradients }) =>
    gemm("tn", rows, { a: columnsFrom(dY, firstRow), b: x, c: gradients }, device, "accumulate")
  );
