import * as kernels from "../../gpu/norm_operations.ts";
import type { OpParts, Value } from "../graph.ts";
import type { ParameterSpec } from "../../parameters/parameter.ts";

/** RMSNorm or LayerNorm of each row; a residual that is added to it is added as it is stored. */
export const norm = (
  output: Value,
  statistics: Value,
  x: Value,
  weight: ParameterSpec,
  how: kernels.Norm,
): OpParts => ({
  inputs: [x],
  parameters: [weight],
  inBackward: "again",
  addsResidual: true,
  forward: ({ machine: { rows, parameters }, of, into, fusion }) => [
    kernels.norm(rows, how, {
      ...(fusion(output) ?? { y: into(output) }),
      x: of(x),
      weight: parameters.of(weight).weights,
      statistics: into(statistics),
    }),
  ],
  backward(dOutput, pass) {
    const { rows, parameters, batch } = pass.machine;
    const at = { x: pass.value(x), statistics: pass.extra(statistics), dY: dOutput };
    pass.gradient(x, (dX, adds) => [
      kernels.normBackward(rows, how, { ...at, weight: parameters.of(weight).weights, dX }, adds),
    ]);
    pass.parameterGradient(
      weight,
      ([{ gradients }]) =>
        kernels.normWeightBackward(rows, how, { ...at, dWeight: gradients, partial: batch.columnPartial }),
    );
  },
});

/** Norms of queries and keys in [queries, keys, values]. The rotation after it works in its place. */
export const headNorm = (
  output: Value,
  statistics: Value,
  qkv: Value,
  weight: ParameterSpec,
  how: kernels.Norm,
): OpParts => ({
  inputs: [qkv],
  parameters: [weight],
  inBackward: "kept",
  isProduct: true,
  forward({ machine: { rows, parameters }, of, into, fusion }) {
    const { y, epilogue } = fusion(output) ?? { y: into(output) };
    const tensors = { x: of(qkv), weight: parameters.of(weight).weights, y, statistics: into(statistics) };
    return [kernels.norm(rows, how, tensors), ...(epilogue ? [epilogue.alone] : [])];
  },
  /** In place. */
  backward(dOutput, pass) {
    const { rows, parameters, batch } = pass.machine;
    const at = { x: pass.value(qkv), statistics: pass.extra(statistics), dY: dOutput };
    pass.parameterGradient(
      weight,
      ([{ gradients }]) =>
        kernels.normWeightBackward(rows, how, { ...at, dWeight: gradients, partial: batch.columnPartial }),
    );
    pass.handOn(qkv, dOutput, [
      kernels.normBackward(rows, how, { ...at, weight: parameters.of(weight).weights, dX: dOutput }),
    ]);
  },
});
