/** What can be fused into a product's stores: each with the kernel that does the same where it cannot be. */
import type { Activation } from "../../kernels/activation.ts";
import type { AttentionShape } from "../../kernels/attention.ts";
import type { Epilogue, EpilogueKind } from "../../kernels/gemm_epilogue.ts";
import type { Tensor } from "./memory.ts";
import {
  activate,
  activateBackward,
  glu,
  gluBackward,
  rope,
  type Rotation,
  rowLength,
} from "./operations.ts";
import type { KernelCall, RowSlot } from "./program.ts";

/** What is done to a product's sums as they are stored. */
export interface ProductEpilogue extends Pick<Epilogue, "activation"> {
  kind: Exclude<EpilogueKind, "none" | "residual">;
  /** What it binds after C and the bias. */
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

const ofActivation = (
  kind: ProductEpilogue["kind"],
  activation: Activation,
  beside: Tensor,
  half: number,
  alone: KernelCall,
): ProductEpilogue => ({ kind, activation, tensors: [beside], half, alone });

/** Beside C = gateUp[rows, 2 I], activated[rows, I] = act(gate) * up. */
export const gluEpilogue = (rows: RowSlot, act: Activation, gateUp: Tensor, activated: Tensor) =>
  ofActivation("glu", act, activated, rowLength(activated), glu(rows, act, gateUp, activated));

/** Of the product d_activated[rows, I]: gateUp[rows, 2 I] becomes its gradient, and C the activated values. */
export const gluBackwardEpilogue = (rows: RowSlot, act: Activation, gateUp: Tensor, dActivated: Tensor) =>
  ofActivation(
    "glu_backward",
    act,
    gateUp,
    rowLength(dActivated),
    gluBackward(rows, act, gateUp, dActivated),
  );

/** Beside C = x[rows, I], activated[rows, I] = act(x). */
export const activationEpilogue = (rows: RowSlot, act: Activation, x: Tensor, activated: Tensor) =>
  ofActivation("activation", act, activated, rowLength(activated), activate(rows, act, x, activated));

/** Of the product d_activated[rows, I]: x[rows, I] becomes its gradient, and C the activated values. */
export const activationBackwardEpilogue = (rows: RowSlot, act: Activation, x: Tensor, dActivated: Tensor) =>
  ofActivation(
    "activation_backward",
    act,
    x,
    rowLength(dActivated),
    activateBackward(rows, act, x, dActivated),
  );

/**
 * The query and key heads of C = qkv are rotated. A product does it where pairs stand half of the rotated floats
 * apart and a head has a whole number of such floats, so that all of a row can be cut into pairs alike.
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
