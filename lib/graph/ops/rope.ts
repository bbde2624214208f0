import type { AttentionShape } from "../../../kernels/attention.ts";
import { ropeEpilogue } from "../../gpu/epilogues.ts";
import * as kernels from "../../gpu/operations.ts";
import type { Value } from "../graph.ts";
import type { OpParts } from "../net.ts";

/** The query and key heads of [queries, keys, values], rotated by each token's position. The product before it does that. */
export const rope = (output: Value, qkv: Value, shape: AttentionShape): OpParts => ({
  inputs: [qkv],
  parameters: [],
  inBackward: "kept",
  fuses: () => "instead",
  fusion({ machine: { rows, batch }, into }) {
    const y = into(output);
    return { y, epilogue: ropeEpilogue(rows, batch.masks[0].spans, batch.cosSin, y, shape) };
  },
  forward() {
    throw new Error(`${output.name}: a rotation follows a product`);
  },
  /** Turns back, in place. */
  backward(dOutput, pass) {
    const { rows, batch } = pass.machine;
    pass.handOn(qkv, dOutput, [
      kernels.rope(rows, batch.masks[0].spans, batch.cosSin, dOutput, shape, true),
    ]);
  },
});
