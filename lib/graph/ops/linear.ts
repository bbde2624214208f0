import { linear as product, linearInputGradient, linearWeightGradient } from "../../gpu/linear.ts";
import type { Tensor } from "../../gpu/memory.ts";
import { addBiasBackward } from "../../gpu/operations.ts";
import type { OpParts, Value } from "../graph.ts";
import { adapterBackward, adapterForward } from "./adapter.ts";
import { isTrained, type ParameterSpec, shapeOf } from "../../parameters/parameter.ts";

/**
 * output = scale (x W^T + bias), of the rows of one or several matrices under each other, and what the matrix's
 * adapters add.
 */
export const linear = (
  output: Value,
  x: Value,
  weight: ParameterSpec,
  bias: ParameterSpec | undefined,
  scale: number,
): OpParts => ({
  inputs: [x],
  parameters: bias ? [weight, bias] : [weight],
  inBackward: "kept",
  isProduct: true,
  flops({ tokens }) {
    const [rows, columns] = shapeOf(weight);
    return 2 * rows * columns * tokens;
  },
  forward({ machine, of, into, fusion }) {
    const { products, rows, parameters } = machine;
    const { y, residual, epilogue } = fusion(output) ?? { y: into(output) };
    const added = bias && parameters.of(bias).weights;
    const tensors = { x: of(x), y, bias: added, residual };
    const { adapter } = weight;
    // First, so that what the product does as it stores is done to the sum of both.
    const { calls, more } = adapter
      ? adapterForward(machine, { weight, adapter, scale }, tensors)
      : { calls: [], more: undefined };
    const adds = adapter?.magnitude !== undefined;
    return [
      ...calls,
      ...product(products, rows, parameters.pieces(weight), { ...tensors, more }, { adds, scale, epilogue }),
    ];
  },
  backward(dOutput, pass) {
    const { products, rows, parameters, batch } = pass.machine;
    const pieces = parameters.pieces(weight);
    const { adapter } = weight;
    const adapted = adapter && adapterBackward(pass, { weight, adapter, scale }, dOutput);
    pass.productGradient(x, (dX, adds, epilogue) => {
      const { calls, more } = adapted?.input(dX, adds) ?? { calls: [], more: undefined };
      return [
        ...calls,
        ...linearInputGradient(products, rows, pieces, { dY: dOutput, dX, more }, {
          adds: adds || calls.length > 0,
          scale,
          epilogue,
        }),
      ];
    });
    if (bias) {
      pass.parameterGradient(
        bias,
        ([{ gradients }]) =>
          addBiasBackward(rows, { dY: dOutput, dBias: gradients, partial: batch.columnPartial }, scale),
      );
    }
    const weightGradient = (at: Tensor) =>
      pass.parameterGradient(
        weight,
        (pieces) => linearWeightGradient(products, rows, pieces, { dY: dOutput, x: at }, { scale }),
      );
    // What only a frozen matrix would read is not made again.
    if (isTrained(weight)) pass.whenThere(x, weightGradient);
    if (adapted) pass.whenThere(x, (at) => adapted.parameters(at));
  },
});
