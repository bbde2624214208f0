import * as kernels from "../../gpu/embedding_operations.ts";
import { clear } from "../../gpu/operations.ts";
import type { OpParts, Value } from "../graph.ts";
import type { ParameterSpec } from "../../parameters/parameter.ts";

/** output = the rows of a table at the batch's token ids, times `scale`; that of its padding token gets no gradient. */
export const embedding = (output: Value, table: ParameterSpec, scale?: number): OpParts => ({
  inputs: [],
  parameters: [table],
  inBackward: "kept",
  forward: ({ machine: { rows, batch, parameters }, into }) =>
    (batch.embedded?.table === table
      ? [{ weights: batch.embedded.rows, firstRow: 0 }]
      : parameters.pieces(table)).map(({ weights, firstRow }) =>
        kernels.embed(rows, batch.uploaded.ids, weights, into(output), { firstRow, scale })
      ),
  /**
   * Rows of tokens that do not occur get no gradient, so the table's is cleared first; that of a head too was written
   * whole.
   */
  backward(dOutput, pass) {
    const { rows, batch } = pass.machine;
    const { distinctIds: ids, distinctStarts: starts, distinctRows } = batch.uploaded;
    const isBegun = pass.isBegun(table);
    pass.parameterGradient(table, (pieces) =>
      pieces.flatMap(({ gradients, firstRow }) => [
        ...(isBegun ? [] : [clear(rows, gradients)]),
        kernels.embedBackward(batch.distinctSlot, { ids, starts, rows: distinctRows }, dOutput, gradients, {
          firstRow,
          padTokenId: table.padTokenId,
          scale,
        }),
      ]));
  },
});
