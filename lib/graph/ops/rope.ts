import type { AttentionShape } from "../../../kernels/attention.ts";
import { ropeEpilogue } from "../../gpu/epilogues.ts";
import * as kernels from "../../gpu/operations.ts";
import type { RopeSpec } from "../rope_table.ts";
import type { OpParts, Value } from "../graph.ts";
import type { Machine } from "../machine.ts";

/**
 * The query and key heads of [queries, keys, values], rotated by each token's position. A product or head norm before
 * it does that in the place of its own output.
 *
 * @param table the index of its table among the model's.
 */
export const rope = (
  output: Value,
  qkv: Value,
  shape: AttentionShape,
  spec: RopeSpec,
  table: number,
): OpParts => {
  const tables = ({ batch }: Machine) => ({ spans: batch.masks[0].spans, cosSin: batch.cosSin[table] });
  return {
    inputs: [qkv],
    parameters: [],
    inBackward: "kept",
    fuses: () => "instead",
    fusion({ machine, into }) {
      const y = into(output);
      return { y, epilogue: ropeEpilogue(machine.rows, { ...tables(machine), qkv: y }, shape, spec) };
    },
    forward: ({ machine, of, into }) => [
      kernels.rope(machine.rows, { ...tables(machine), qkv: of(qkv), y: into(output) }, shape, spec),
    ],
    /** Turns back. */
    backward(dOutput, pass) {
      const { machine } = pass;
      pass.gradientInPlace(qkv, dOutput, (dX) => [
        kernels.rope(machine.rows, { ...tables(machine), qkv: dOutput, y: dX }, shape, spec, true),
      ]);
    },
  };
};
