/** What the families of attention's kernels share: what they work on, and what `Attention` asks of each. */
import deltaSource from "../../kernels/attention_delta.wgsl" with { type: "text" };
import {
  ATTENTION_TILE,
  type AttentionLayout,
  type AttentionShape,
  type HeadColumns,
} from "../../kernels/attention.ts";
import type { Tensor } from "./memory.ts";
import { flat, rowKernel, rowLength } from "./operations.ts";
import type { Grid, KernelCall, RowSlot } from "./program.ts";

/** Heads within the rows of a tensor: from a column on, which is a multiple of headDim, as the tensor's width is. */
export interface Heads {
  tensor: Tensor;
  first: number;
}

/** What attention reads and writes. T tokens, D = headDim. */
export interface AttentionTensors {
  /** Which of the batch's masks the next three are, for profiles. */
  mask?: number;
  spans: Tensor; // [T, 4], in rows of the keys: see `kernels/attention.ts`
  queryTiles: Tensor;
  keyTiles: Tensor;
  queries: Heads; // heads D, after the rotation
  keys: Heads; // 2 kvHeads D: keys, after the rotation, and values
  /** How many rows of keys there are, where they are not the queries' own. */
  keyRows?: RowSlot;
  out: Tensor; // [T, heads D]
  lse: Tensor; // [T, heads]
}

/**
 * The gradients besides, each laid out as what it is the gradient of; `delta` is scratch. Here no query may see keys
 * behind its own row among them.
 */
export interface AttentionGradients extends AttentionTensors {
  dOut: Tensor;
  delta: Tensor; // [T, heads]
  dQueries: Tensor;
  dKeys: Tensor;
}

/** Kernels of one family for a plan, with what they keep in its scratch. */
export interface AttentionFamily {
  /** out[T, heads D] and lse[T, heads] of queries, keys and values. */
  forward(rows: RowSlot, t: AttentionTensors): KernelCall[];
  /** dQueries and dKeys, with that of the values, of dOut. */
  backward(rows: RowSlot, t: AttentionGradients): KernelCall[];
}

/** Queries, keys and values of one tensor [T, (heads + 2 kvHeads) D]. */
export const headsOf = (
  qkv: Tensor,
  { heads, headDim }: AttentionShape,
): Record<"queries" | "keys", Heads> => ({
  queries: { tensor: qkv, first: 0 },
  keys: { tensor: qkv, first: heads * headDim },
});

const columnsOf = ({ tensor, first }: Heads): HeadColumns => ({ stride: rowLength(tensor), first });

export const layoutOf = ({ queries, keys }: AttentionTensors): AttentionLayout => ({
  queries: columnsOf(queries),
  keys: columnsOf(keys),
});

/** A workgroup for each tile of tokens and each head. */
export const tileGrid = (rows: RowSlot, heads: number): Grid => (counts) => [
  Math.ceil(counts[rows.slot] / ATTENTION_TILE),
  counts[rows.slot] ? heads : 0,
];

/** The row sums of out * dOut. */
export const deltaCall = (
  rows: RowSlot,
  { heads, headDim }: AttentionShape,
  { out, dOut, delta }: AttentionGradients,
): KernelCall =>
  rowKernel(
    "attention_delta",
    deltaSource,
    rows,
    [out, dOut, delta],
    headDim,
    () => flat(rows, heads),
    { HEADS: heads },
  );
