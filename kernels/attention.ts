/**
 * Attention over a packed row of tokens: an online softmax forward (FlashAttention, arXiv 2205.14135), and a backward
 * that recomputes the scores from the stored log-sum-exp. No matrix of tokens by tokens exists.
 *
 * A query i sees key j where `span.x <= j < span.y` (its pair's shared prefix) or `span.z <= j <= i` (its own part).
 * There are two families of kernels: `attention_registers_*.ts` for a driver on the processor, `attention_workgroup_*.ts`
 * for a GPU.
 */
import { elementWidth, withPrelude } from "./prelude.ts";

/** Queries, and keys, that the host's bounds hold for: see `queryTiles` and `keyTiles` in `lib/batch/pack.ts`. */
export const ATTENTION_TILE = 32;

export interface AttentionShape {
  heads: number;
  keyValueHeads: number;
  headDim: number;
}

/**
 * Each thread keeps rows of its own in registers and reads the others `block` at a time, once for all of its rows, with
 * neither workgroup memory nor barriers: where loads are everything, and registers that spill cost little.
 */
export interface RegisterTile {
  /** Where the others' rows are read: a driver on the processor reads textures twice as fast as buffers. */
  memory: "texture" | "storage";
  /** A thread keeps as many rows of each tensor as this, or as fit into so many floats; and one at least. */
  rows: number;
  floats: number;
  block: number;
}

/** How an attention kernel is cut: see `RegisterTile`, or in the one way of `attention_workgroup.ts`. */
export type AttentionTile = RegisterTile | { memory: "workgroup" };

/** The choice for each kernel. `keyGradient` is that of keys and values. */
export type AttentionTiles = Record<"forward" | "queryGradient" | "keyGradient", AttentionTile>;

const FUNCTIONS = `
fn visible(query: u32, key: u32, span: vec4u) -> bool {
  // Differences wrap around, so that one comparison tests both bounds of an interval.
  return key - span.x < span.y - span.x || key - span.z <= query - span.z;
}`;

/** Prefixes `source` with the sizes of `shape`, in elements `E`, and the mask. */
export function attentionPrelude(shape: AttentionShape, source: string): string {
  const { heads, keyValueHeads, headDim } = shape;
  const width = elementWidth(headDim);
  const columns = headDim / width;
  const constants = {
    HEADS: heads,
    GROUP: heads / keyValueHeads,
    COLUMNS: columns,
    QKV_STRIDE: (heads + 2 * keyValueHeads) * columns,
    OUT_STRIDE: heads * columns,
    KEY_OFFSET: heads * columns,
    VALUE_OFFSET: (heads + keyValueHeads) * columns,
    SCALE_F: 1 / Math.sqrt(headDim),
  };
  return withPrelude(FUNCTIONS + source, constants, width);
}
