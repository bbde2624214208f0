import { linear as product, linearInputGradient, linearWeightGradient } from "../../gpu/linear.ts";
import type { Tensor } from "../../gpu/memory.ts";
import { addBias, addBiasBackward } from "../../gpu/operations.ts";
import type { Value } from "../graph.ts";
import type { OpParts } from "../net.ts";
import { isTrained, type ParameterSpec, shapeOf } from "../parameter.ts";

/** output = x W^T + bias, of the rows of one or several matrices under each other. */
export const linear = (
  output: Value,
  x: Value,
  weight: ParameterSpec,
  bias: ParameterSpec | undefined,
): OpParts => ({
  inputs: [x],
  parameters: bias ? [weight, bias] : [weight],
  inBackward: "kept",
  isProduct: true,
  flops({ tokens }) {
    const [rows, columns] = shapeOf(weight);
    return 2 * rows * columns * tokens;
  },
  forward({ machine: { products, rows, parameters }, of, into, fusion }) {
    const { y, residual, epilogue } = fusion(output) ?? { y: into(output) };
    const tensors = { x: of(x), y, residual };
    const pieces = parameters.pieces(weight);
    if (!bias) return product(products, rows, pieces, tensors, epilogue);
    // What follows a product as it stores would come before the bias; a residual may.
    return [
      ...product(products, rows, pieces, tensors),
      addBias(rows, parameters.of(bias).weights, y),
      ...(epilogue ? [epilogue.alone] : []),
    ];
  },
  backward(dOutput, pass) {
    const { products, parameters, batch } = pass.machine;
    const { tokenRows: rows, tokenRowsAdding: adding, columnPartial } = batch;
    const pieces = parameters.pieces(weight);
    pass.productGradient(
      x,
      (dX, adds, epilogue) =>
        linearInputGradient(products, { rows, adding }, pieces, { dY: dOutput, dX }, { adds, epilogue }),
    );
    if (bias) {
      pass.parameterGradient(
        bias,
        ([{ gradients }]) => addBiasBackward(rows, { dY: dOutput, dBias: gradients, partial: columnPartial }),
      );
    }
    const weightGradient = (at: Tensor) =>
      pass.parameterGradient(
        weight,
        (pieces) => linearWeightGradient(products, rows, pieces, { dY: dOutput, x: at }),
      );
    // What only a frozen matrix would read is not made again.
    if (isTrained(weight)) pass.whenThere(x, weightGradient);
  },
});
