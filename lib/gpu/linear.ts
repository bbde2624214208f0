/**
 * Linear layers, y = x W^T, whose matrix W is there in pieces of its rows where it is too large to be bound whole: a
 * piece gives some columns of y.
 */
import type { ProductEpilogue } from "./epilogues.ts";
import { rowsOf, type Tensor, view } from "./memory.ts";
import type { Products } from "./products.ts";
import type { KernelCall, RowSlot } from "./program.ts";

/** Rows of a matrix. */
export interface MatrixPiece {
  firstRow: number;
  weights: Tensor;
}

/** The rows of a matrix of activations from column `first` on; their stride stays. */
const columnsFrom = (tensor: Tensor, first: number): Tensor =>
  first === 0 ? tensor : view(tensor, first * 4, tensor.bytes - first * 4, tensor.shape);

/**
 * The calls of each piece of W, where `fused` is an epilogue that the product can take: only that of a whole W. Else
 * it follows.
 */
function ofPieces(
  pieces: readonly MatrixPiece[],
  epilogue: ProductEpilogue | undefined,
  calls: (piece: MatrixPiece, index: number, fused?: ProductEpilogue) => KernelCall[],
): KernelCall[] {
  const fused = pieces.length === 1 ? epilogue : undefined;
  return [
    ...pieces.flatMap((piece, i) => calls(piece, i, fused)),
    ...(epilogue && !fused ? [epilogue.alone] : []),
  ];
}

/**
 * y = scale (x W^T + bias), plus a residual of y's shape, or with an epilogue, or added to what is there. Within scale
 * there may be `more`, a product with another matrix of W's rows.
 */
export const linear = (
  products: Products,
  rows: RowSlot,
  pieces: readonly MatrixPiece[],
  { x, y, bias, residual, more }: {
    x: Tensor;
    y: Tensor;
    bias?: Tensor;
    residual?: Tensor;
    more?: { x: Tensor; weights: Tensor };
  },
  { adds = false, scale, epilogue }: { adds?: boolean; scale?: number; epilogue?: ProductEpilogue } = {},
): KernelCall[] =>
  ofPieces(pieces, epilogue, ({ firstRow, weights }, _, fused) =>
    products.calls("nt", rows, {
      a: x,
      b: weights,
      c: columnsFrom(y, firstRow),
      bias: bias && columnsFrom(bias, firstRow),
      residual: residual && columnsFrom(residual, firstRow),
      more: more && {
        a: more.x,
        b: pieces.length === 1 ? more.weights : rowsOf(more.weights, firstRow, weights.shape[0]),
      },
    }, { adds: adds ? "always" : "never", scale, epilogue: fused }));

/**
 * dX = scale dY W, summed over the pieces of W, with an epilogue, or added to what is there. Within scale there may be
 * `more`, a product with another matrix of W's columns.
 */
export const linearInputGradient = (
  products: Products,
  rows: RowSlot,
  pieces: readonly MatrixPiece[],
  { dY, dX, more }: { dY: Tensor; dX: Tensor; more?: { dY: Tensor; weights: Tensor } },
  { adds = false, scale, epilogue }: { adds?: boolean; scale?: number; epilogue?: ProductEpilogue } = {},
): KernelCall[] =>
  ofPieces(
    pieces,
    epilogue,
    ({ firstRow, weights }, i, fused) =>
      products.calls("nn", rows, {
        a: columnsFrom(dY, firstRow),
        b: weights,
        c: dX,
        more: more && i === 0 ? { a: more.dY, b: more.weights } : undefined,
      }, {
        adds: adds || i > 0 ? "always" : "never",
        scale,
        epilogue: fused,
      }),
  );

/** dW (+)= scale dY^T x; where it `adds` to what is there, whatever pass of a step it is. */
export const linearWeightGradient = (
  products: Products,
  rows: RowSlot,
  pieces: readonly { firstRow: number; gradients: Tensor }[],
  { dY, x }: { dY: Tensor; x: Tensor },
  { adds = false, scale }: { adds?: boolean; scale?: number } = {},
): KernelCall[] =>
  pieces.flatMap(({ firstRow, gradients }) =>
    products.calls("tn", rows, { a: columnsFrom(dY, firstRow), b: x, c: gradients }, {
      adds: adds ? "always" : "accumulating",
      scale,
    })
  );
