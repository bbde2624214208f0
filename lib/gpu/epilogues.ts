/** What can be fused into a product's stores: each with the kernel that does the same where it cannot be. */
import type { AttentionShape } from "../../kernels/attention.ts";
import type { Epilogue } from "../../kernels/gemm_epilogue.ts";
import type { Tensor } from "./memory.ts";
import { rope, type Rotation, rowLength, swiglu, swigluBackward } from "./operations.ts";
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
  /** Columns of a head. */
  head?: number;
  /** No product can do it. */
  isAlone?: boolean;
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

/**
 * The query and key heads of C = qkv are rotated. A product does it where pairs stand half of the rotated floats apart and a head
 * has a whole number of such floats, so that all of a row can be cut into pairs alike.
 */
export function ropeEpilogue(
  rows: RowSlot,
  t: { spans: Tensor; cosSin: Tensor; qkv: Tensor },
  shape: AttentionShape,
  rotation: Rotation,
): ProductEpilogue {
  const { dimensions, interleaved } = rotation;
  return {
    kind: "rope",
    tensors: [t.spans, t.cosSin],
    half: dimensions / 2,
    rotated: (shape.heads + shape.keyValueHeads) * shape.headDim,
    head: shape.headDim,
    isAlone: interleaved || shape.headDim % dimensions > 0,
    alone: rope(rows, { ...t, y: t.qkv }, shape, rotation),
  };
}
