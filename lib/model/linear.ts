/**
 * Linear layers, y = x W^T, whose matrix W is there in pieces of its rows where it is too large to be bound whole: a piece
 * gives some columns of y.
 */
import type { ProductEpilogue } from "../gpu/epilogues.ts";
import { type Tensor, view } from "../gpu/memory.ts";
import type { Products } from "../gpu/products.ts";
import type { KernelCall, RowSlot } from "../gpu/program.ts";
import type { ParameterSpec } from "./llama.ts";
import type { Parameter, Parameters } from "./parameters.ts";

/** Where matrices are, and how they are multiplied. */
export interface LinearContext {
  parameters: Parameters;
  products: Products;
}

/** The rows of a matrix of activations from column `first` on; their stride stays. */
const columnsFrom = (tensor: Tensor, first: number): Tensor =>
  first === 0 ? tensor : view(tensor, first * 4, tensor.bytes - first * 4, tensor.shape);

/** The calls of each piece of W, where `fused` is an epilogue that the product can take: only that of a whole W. Else it follows. */
function ofPieces(
  parameters: Parameters,
  spec: ParameterSpec,
  epilogue: ProductEpilogue | undefined,
  calls: (piece: Parameter, index: number, fused?: ProductEpilogue) => KernelCall[],
): KernelCall[] {
  const pieces = parameters.pieces(spec);
  const fused = pieces.length === 1 ? epilogue : undefined;
  return [
    ...pieces.flatMap((piece, i) => calls(piece, i, fused)),
    ...(epilogue && !fused ? [epilogue.alone] : []),
  ];
}

/** y = x W^T, plus a residual of y's shape, or with an epilogue. */
export const linear = (
  { parameters, products }: LinearContext,
  rows: RowSlot,
  spec: ParameterSpec,
  { x, y, residual }: { x: Tensor; y: Tensor; residual?: Tensor },
  epilogue?: ProductEpilogue,
): KernelCall[] =>
  ofPieces(parameters, spec, epilogue, ({ firstRow, weights }, _, fused) =>
    products.calls("nt", rows, {
      a: x,
      b: weights,
      c: columnsFrom(y, firstRow),
      residual: residual && columnsFrom(residual, firstRow),
    }, { epilogue: fused }));

/** dX = dY W, summed over the pieces of W, with an epilogue; `adding` counts the same rows as `rows` and accumulates. */
export const linearInputGradient = (
  { parameters, products }: LinearContext,
  { rows, adding }: { rows: RowSlot; adding: RowSlot },
  spec: ParameterSpec,
  { dY, dX }: { dY: Tensor; dX: Tensor },
  epilogue?: ProductEpilogue,
): KernelCall[] =>
  ofPieces(parameters, spec, epilogue, ({ firstRow, weights }, i, fused) =>
    products.calls(
      "nn",
      i === 0 ? rows : adding,
      { a: columnsFrom(dY, firstRow), b: weights, c: dX },
      { accumulates: i > 0, epilogue: fused },
    ));

/** dW (+)= dY^T x. */
export const linearWeightGradient = (
  { parameters, products }: LinearContext,
  rows: RowSlot,
  spec: ParameterSpec,
  { dY, x }: { dY: Tensor; x: Tensor },
): KernelCall[] =>
  parameters.pieces(spec).flatMap(({ firstRow, gradients }) =>
    products.calls("tn", rows, { a: columnsFrom(dY, firstRow), b: x, c: gradients }, {
      accumulates: true,
    })
  );
