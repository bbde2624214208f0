import { swigluBackwardEpilogue, swigluEpilogue } from "../../gpu/epilogues.ts";
import * as kernels from "../../gpu/operations.ts";
import type { Value } from "../graph.ts";
import type { OpParts } from "../net.ts";

/**
 * output = silu(gate) * up of [gate, up]. Its backward pass needs both and gives their gradient in their place; on the way it
 * makes the output again, which the product after it needs for its weights.
 */
export const swiglu = (output: Value, gateUp: Value): OpParts => ({
  inputs: [gateUp],
  parameters: [],
  inBackward: "left",
  fuses: () => "beside",
  fusion({ machine: { rows }, into }) {
    const y = into(gateUp);
    return { y, epilogue: swigluEpilogue(rows, y, into(output)) };
  },
  forward: ({ machine: { rows }, of, into }) => [kernels.swiglu(rows, of(gateUp), into(output))],
  backwardEpilogue: (dOutput, pass) => swigluBackwardEpilogue(pass.machine.rows, pass.value(gateUp), dOutput),
});
