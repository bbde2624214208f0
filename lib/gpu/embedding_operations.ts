import embedSource from "../../kernels/embed.wgsl" with { type: "text" };
import embedBackwardSource from "../../kernels/embed_backward.wgsl" with { type: "text" };
import { packedType, unpackFunction } from "../../kernels/storage.ts";
import type { Tensor } from "./memory.ts";
import type { KernelCall, RowSlot } from "./program.ts";
import { flat, rowKernel, rowLength } from "./operations.ts";

/**
 * x[tokens, H] = scale * table[V, H] at ids[tokens], which begins with row `firstRow`; rows of other ids are left
 * alone. The table may be stored in 2-byte elements where H is a multiple of 4.
 */
export function embed(
  rows: RowSlot,
  ids: Tensor,
  table: Tensor,
  x: Tensor,
  { firstRow = 0, scale = 1 }: { firstRow?: number; scale?: number } = {},
): KernelCall {
  const { storage = "f32" } = table;
  const read = storage === "f32"
    ? "alias TableElement = E;\nfn unpack_table(e: E) -> E { return e; }"
    : `alias TableElement = ${packedType(storage)};\n${unpackFunction("table", storage)}`;
  return rowKernel(
    "embed",
    `${read}\n${embedSource}`,
    rows,
    [ids, table, x],
    rowLength(x),
    (columns) => flat(rows, columns),
    { FIRST: firstRow, TABLE_ROWS: table.shape[0], SCALE_F: scale },
  );
}

/**
 * Token ids of a batch without repetition, and the rows where each stands: `rows[starts[u]] ... rows[starts[u + 1] -
 * 1]`.
 */
export interface DistinctTokens {
  ids: Tensor;
  starts: Tensor;
  rows: Tensor;
}

/**
 * Adds scale * d_x[tokens, H] to the rows of dTable[V, H], which begins with row `firstRow`, but that of
 * `padTokenId`; `slot` counts the distinct tokens.
 */
export const embedBackward = (
  slot: RowSlot,
  distinct: DistinctTokens,
  dX: Tensor,
  dTable: Tensor,
  { firstRow = 0, padTokenId = 0xffffffff, scale = 1 }: {
    firstRow?: number;
    padTokenId?: number;
    scale?: number;
  } = {},
): KernelCall =>
  rowKernel(
    "embed_backward",
    embedBackwardSource,
    slot,
    [distinct.ids, distinct.starts, distinct.rows, dX, dTable],
    rowLength(dX),
    (columns) => flat(slot, columns),
    { PADDING: padTokenId, FIRST: firstRow, TABLE_ROWS: dTable.shape[0], SCALE_F: scale },
  );
