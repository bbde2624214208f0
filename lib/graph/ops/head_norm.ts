import type { AttentionShape } from "../../../kernels/attention.ts";
import * as kernels from "../../gpu/head_operations.ts";
import type { Value } from "../graph.ts";
import type { OpParts } from "../net.ts";
import type { ParameterSpec } from "../parameter.ts";

/**
 * RMSNorm of each query and key head of [queries, keys, values], with one weight for queries and one for keys; `rstd` is the factor of
 * each head. The rotation after it works in its place.
 */
export const headNorm = (
  output: Value,
  rstd: Value,
  qkv: Value,
  weight: ParameterSpec,
  shape: AttentionShape,
  epsilon: number,
): OpParts => ({
  inputs: [qkv],
  parameters: [weight],
  inBackward: "kept",
  isProduct: true,
  forward({ machine: { rows, parameters }, of, into, fusion }) {
    const { y, epilogue } = fusion(output) ?? { y: into(output) };
    const tensors = { x: of(qkv), weight: parameters.of(weight).weights, y, rstd: into(rstd) };
    return [kernels.headNorm(rows, tensors, shape, epsilon), ...(epilogue ? [epilogue.alone] : [])];
  },
  /** In place. */
  backward(dOutput, pass) {
    const { rows, parameters, batch } = pass.machine;
    const at = { x: pass.value(qkv), rstd: pass.extra(rstd), dY: dOutput };
    pass.parameterGradient(weight, ([{ gradients }]) =>
      kernels.headNormWeightBackward(
        rows,
        { ...at, dWeight: gradients, partial: batch.columnPartial },
        shape,
      ));
    pass.handOn(qkv, dOutput, [
      kernels.headNormBackward(rows, { ...at, weight: parameters.of(weight).weights }, shape),
    ]);
  },
});
