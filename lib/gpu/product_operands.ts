/** The matrices of a product, and what its kernels follow from of them. */
import type { GemmLayout, GemmSize } from "../../kernels/gemm.ts";
import type { Epilogue } from "../../kernels/gemm_epilogue.ts";
import type { ProductEpilogue } from "./epilogues.ts";
import { type Tensor, view } from "./memory.ts";
import { rowLength } from "./operations.ts";

/**
 * The matrices of a product; see `GemmLayout`. A `bias` is added to every row of it, and a `residual` of C's shape to
 * what is then scaled. B of `nt` and `nn` may be stored in less than 4 bytes an element, where its rows are multiples
 * of 4.
 */
export interface Operands {
  a: Tensor;
  b: Tensor;
  c: Tensor;
  bias?: Tensor;
  residual?: Tensor;
  /** Of another product of C's shape (`nt`, `nn`), which is added to that of A and B: what a layer's adapters give. */
  more?: { a: Tensor; b: Tensor };
}

/** What a product that has these does as it stores. */
export const epilogueOf = (
  { bias, residual }: Pick<Operands, "bias" | "residual">,
  fused?: ProductEpilogue,
): Epilogue => ({
  bias: bias !== undefined,
  kind: fused?.kind ?? (residual ? "residual" : "none"),
  activation: fused?.activation,
});

/** What an epilogue's kernel binds behind C. */
export const boundBy = (
  { bias, residual }: Pick<Operands, "bias" | "residual">,
  fused?: ProductEpilogue,
): Tensor[] => [
  ...(bias ? [bias] : []),
  ...(residual ? [residual] : []),
  ...(fused?.tensors ?? []),
];

/** The name of its kernel in profiles; `more` is the inner dimension of what is added. */
export const labelOf = (layout: GemmLayout, { m, n, k }: GemmSize, { bias, kind }: Epilogue, more = 0) =>
  `gemm_${layout} ${layout === "tn" ? m : "rows"}x${n}x${layout === "tn" ? "rows" : k}` +
  (more > 0 ? `+${more}` : "") +
  (bias ? " + bias" : "") +
  (kind === "none" || kind === "residual" ? "" : kind === "part" ? " in parts" : ` + ${kind}`);

/** Sizes of a product from its operands' shapes; rows of A and C may be longer than the product needs. */
export function sizeOf(layout: GemmLayout, { a, b, c }: Operands): Omit<GemmSize, "first" | "adds"> {
  const [lda, ldb, ldc] = [rowLength(a), rowLength(b), rowLength(c)];
  const n = layout === "nt" ? b.shape[0] : ldb;
  const k = layout === "nt" ? ldb : b.shape[0];
  return { m: c.shape[0], n, k, lda, ldb, ldc };
}

/** `tensor` from one of its elements on. */
export const from = (tensor: Tensor, element: number): Tensor =>
  element === 0 ? tensor : view(tensor, element * 4, tensor.bytes - element * 4, tensor.shape);
