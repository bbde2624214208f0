import type { Activation } from "../../../kernels/activation.ts";
import {
  activationBackwardEpilogue,
  activationEpilogue,
  gluBackwardEpilogue,
  gluEpilogue,
} from "../../gpu/epilogues.ts";
import * as kernels from "../../gpu/operations.ts";
import type { OpParts, Value } from "../graph.ts";

/**
 * output = act(gate) * up of [gate, up]. Its backward pass needs both and gives their gradient in their place; on the
 * way it makes the output again, which the product after it needs for its weights.
 */
export const glu = (output: Value, gateUp: Value, act: Activation): OpParts => ({
  inputs: [gateUp],
  parameters: [],
  inBackward: "left",
  fuses: () => "beside",
  fusion({ machine: { rows }, into }) {
    const y = into(gateUp);
    return { y, epilogue: gluEpilogue(rows, act, y, into(output)) };
  },
  forward: ({ machine: { rows }, of, into }) => [kernels.glu(rows, act, of(gateUp), into(output))],
  backwardEpilogue: (dOutput, pass) =>
    gluBackwardEpilogue(pass.machine.rows, act, pass.value(gateUp), dOutput),
});

/** output = act(x). Backward as `glu`: the gradient comes in the place of x, and the output is made again. */
export const activation = (output: Value, x: Value, act: Activation): OpParts => ({
  inputs: [x],
  parameters: [],
  inBackward: "left",
  fuses: () => "beside",
  fusion({ machine: { rows }, into }) {
    const y = into(x);
    return { y, epilogue: activationEpilogue(rows, act, y, into(output)) };
  },
  forward: ({ machine: { rows }, of, into }) => [kernels.activate(rows, act, of(x), into(output))],
  backwardEpilogue: (dOutput, pass) =>
    activationBackwardEpilogue(pass.machine.rows, act, pass.value(x), dOutput),
});
