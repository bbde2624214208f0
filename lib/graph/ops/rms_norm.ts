import * as kernels from "../../gpu/operations.ts";
import type { Value } from "../graph.ts";
import type { OpParts } from "../net.ts";
import type { ParameterSpec } from "../parameter.ts";

/** output = x / sqrt(mean(x^2) + epsilon) * weight, row by row; `rstd` is the factor of each row. */
export const rmsNorm = (
  output: Value,
  rstd: Value,
  x: Value,
  weight: ParameterSpec,
  epsilon: number,
): OpParts => ({
  inputs: [x],
  parameters: [weight],
  inBackward: "again",
  forward: ({ machine: { rows, parameters }, of, into }) => [
    kernels.rmsNorm(rows, of(x), parameters.of(weight).weights, into(output), into(rstd), epsilon),
  ],
  backward(dOutput, pass) {
    const { rows, parameters, batch } = pass.machine;
    const at = { x: pass.value(x), rstd: pass.extra(rstd), dY: dOutput };
    pass.gradient(x, (dX, adds) => [
      kernels.rmsNormBackward(rows, { ...at, weight: parameters.of(weight).weights, dX }, adds),
    ]);
    pass.parameterGradient(
      weight,
      ([{ gradients }]) =>
        kernels.rmsNormWeightBackward(rows, { ...at, dWeight: gradients, partial: batch.columnPartial }),
    );
  },
});
