import * as kernels from "../../gpu/operations.ts";
import type { OpParts, Value } from "../graph.ts";

/**
 * output = x + y, as a rule a residual stream and what a layer adds to it; the product or norm that makes y adds x as
 * it stores.
 */
export const add = (output: Value, x: Value, y: Value): OpParts => ({
  inputs: [x, y],
  parameters: [],
  inBackward: "kept",
  isSum: true,
  fuses: (input) => input === y ? "instead" : undefined,
  fusion: ({ of, into }) => ({ y: into(output), residual: of(x) }),
  forward: ({ machine: { rows }, of, into }) => [kernels.add(rows, of(x), of(y), into(output))],
  backward(dOutput, pass) {
    pass.handOn(x, dOutput);
    pass.handOn(y, dOutput);
  },
});
