/**
 * Attention over a packed row of tokens: an online softmax forward (FlashAttention, arXiv 2205.14135), and a backward
 * that recomputes the scores from the stored log-sum-exp. No matrix of tokens by tokens exists, but for some heads at a
 * time where a GPU is faster with it: `attention_workgroup_kept.ts`.
 *
 * Queries, and keys with values, are rows of one tensor in training, or of two, as with a cache of keys. There may be
 * more keys than queries: the queries are the last of the keys' rows, so that query i of n, with m keys, stands at
 * row i + m - n. Spans number the keys' rows: the query sees key j where `span.x <= j < span.y` (its pair's shared
 * prefix) or `span.z <= j <= i + m - n` (its own part, which is empty where span.z is one more than its row). There
 * are three families of kernels: `attention_registers_*.ts` for a driver on the processor, `attention_workgroup_*.ts`
 * for a GPU, with `attention_queries.ts` for steps of generation, and `attention_matrix_*.ts` where products are of
 * float16 matrices.
 */
import type { MatrixPrecision, MatrixTile } from "./gemm.ts";
import { elementWidth, withPrelude } from "./prelude.ts";

/** Queries, and keys, that the host's bounds hold for: see `queryTiles` and `keyTiles` in `lib/batch/pack.ts`. */
export const ATTENTION_TILE = 32;

export interface AttentionShape {
  heads: number;
  keyValueHeads: number;
  headDim: number;
  /** What products of queries and keys are multiplied by; 1 / sqrt(headDim) where it is not given. */
  scale?: number;
  /** Scores become softcap * tanh(score / softcap) before the mask (Gemma 2, arXiv 2408.00118). */
  softcap?: number;
}

/**
 * Where a tensor's rows have some heads: floats from one row to the next, and the first one's column; whole heads
 * both.
 */
export interface HeadColumns {
  stride: number;
  first: number;
}

/** Where the queries are, and where the keys, which the values follow. Gradients lie as what they are gradients of. */
export interface AttentionLayout {
  queries: HeadColumns;
  keys: HeadColumns;
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
  /** Its queries are of so many tokens at most; by default of as many as there is room for. */
  tokens?: number;
}

/**
 * How an attention kernel is cut: see `RegisterTile`, or in the one way of `attention_workgroup.ts`; the forward one
 * also as in `attention_queries.ts`, for a query at a time.
 */
export type AttentionTile = FloatTile | MatrixAttentionTile;
/** One of float32. */
export type FloatTile = RegisterTile | WorkgroupAttentionTile;

/** By way of workgroup memory. */
export interface WorkgroupAttentionTile {
  memory: "workgroup";
  queries?: 1;
  /**
   * Bytes of scratch in which the query gradient may leave what the key gradient else makes again: see
   * `attention_workgroup_kept.ts`. Where they do not hold the heads that share keys, nothing is left.
   */
  keeps?: number;
}

/** By subgroup matrices (`attention_matrix.ts`), and how it is cut where they do not do for a shape. */
export interface MatrixAttentionTile
  extends Omit<MatrixTile, "precision" | "subgroups" | "matrices" | "depth"> {
  precision: MatrixPrecision;
  workgroupBytes: number;
  otherwise: FloatTile;
}

/** The choice for each kernel. `keyGradient` is that of keys and values. */
export type AttentionTiles<Tile = AttentionTile> = Record<"forward" | "queryGradient" | "keyGradient", Tile>;

/** What every attention kernel binds first, and the mask. */
const HEADER = `
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<uniform> key_rows: Rows;
@group(0) @binding(2) var<storage, read> spans: array<vec4u>;
// The row of a query among the keys.
fn own_row(query: u32) -> u32 { return query + (key_rows.count - rows.count); }
fn visible(own: u32, key: u32, span: vec4u) -> bool {
  // Differences wrap around, so that one comparison tests both bounds of an interval.
  return key - span.x < span.y - span.x || key - span.z < own + 1u - span.z;
}`;

/**
 * Which of a prelude's constants multiplies a query's product with a key: with a cap, what is summed up is its tanh's
 * argument.
 */
export const productScale = ({ softcap }: AttentionShape): string =>
  softcap === undefined ? "SCALE_F" : "INNER_SCALE_F";

/** The score, of `product` times `productScale`. */
export const score = ({ softcap }: AttentionShape, product: string, width: "" | "4" = ""): string =>
  softcap === undefined ? product : `CAP_F * tanh_accurate${width}(${product})`;

/** Prefixes `source` with the sizes of `shape` and `layout`, in elements `E`, and `HEADER`. */
export const attentionPrelude = (shape: AttentionShape, layout: AttentionLayout, source: string): string =>
  sizesPrelude(shape, layout, HEADER + source);

/** The same without `HEADER`, for a kernel that looks at no mask. */
export function sizesPrelude(shape: AttentionShape, layout: AttentionLayout, source: string): string {
  const { heads, keyValueHeads, headDim, scale = 1 / Math.sqrt(headDim), softcap } = shape;
  const { queries, keys } = layout;
  const width = elementWidth(headDim);
  const columns = headDim / width;
  const constants = {
    HEADS: heads,
    GROUP: heads / keyValueHeads,
    COLUMNS: columns,
    QUERY_STRIDE: queries.stride / width,
    QUERY_OFFSET: queries.first / width,
    KEY_STRIDE: keys.stride / width,
    KEY_OFFSET: keys.first / width,
    VALUE_OFFSET: keys.first / width + keyValueHeads * columns,
    OUT_STRIDE: heads * columns,
    SCALE_F: scale,
    ...(softcap === undefined ? {} : { INNER_SCALE_F: scale / softcap, CAP_F: softcap }),
  };
  return withPrelude(source, constants, width);
}
