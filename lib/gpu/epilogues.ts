/** What can be fused into a product's stores: each with the kernel that does the same where it cannot be. */
import type { AttentionShape } from "../../kernels/attention.ts";
import type { Epilogue } from "../../kernels/gemm_epilogue.ts";
import type { Tensor } from "./memory.ts";
import { rope, rowLength, swiglu, swigluBackward } from "./operations.ts";
import type { KernelCall, RowSlot } from "./program.ts";

/** What is done to a product's sums as they are stored. */
export interface ProductEpilogue {
  kind: Exclude<Epilogue, "none" | "residual">;
  /** What it binds after C. */
  tensors: Tensor[];
  /** How far apart the columns are that it needs together. */
  half: number;
  /** The columns of C that it changes are the first ones; all, where this is missing. */
  rotated?: number;
  /** The same by a kernel of its own, after the product. */
  alone: KernelCall;
}

/** Beside C = gateUp[rows, 2 I], activated[rows, I] = silu(gate) * up. */
export function swigluEpilogue(rows: RowSlot, gateUp: Tensor, activated: Tensor): ProductEpilogue {
  const half = rowLength(activated);
  return {
    kind: "swiglu",
    tensors: [activated],
    half,
    alone: swiglu(rows, gateUp, activated),
  };
}

/** Of the product d_activated[rows, I]: gateUp[rows, 2 I] becomes its gradient, and C the activated values. */
export function swigluBackwardEpilogue(rows: RowSlot, gateUp: Tensor, dActivated: Tensor): ProductEpilogue {
  const half = rowLength(dActivated);
  return {
    kind: "swiglu_backward",
    tensors: [gateUp],
    half,
    alone: swigluBackward(rows, gateUp, dActivated),
  };
}

/** The query and key heads of C = qkv are rotated. */
export function ropeEpilogue(
  rows: RowSlot,
  spans: Tensor,
  cosSin: Tensor,
  qkv: Tensor,
  shape: AttentionShape,
): ProductEpilogue {
  return {
    kind: "rope",
    tensors: [spans, cosSin],
    half: shape.headDim / 2,
    rotated: (shape.heads + shape.keyValueHeads) * shape.headDim,
    alone: rope(rows, spans, cosSin, qkv, shape),
  };
}
