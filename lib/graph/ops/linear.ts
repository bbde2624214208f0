import { linear as product, linearInputGradient, linearWeightGradient } from "../../gpu/linear.ts";
import type { Value } from "../graph.ts";
import type { OpParts } from "../net.ts";
import { type ParameterSpec, shapeOf } from "../parameter.ts";

/** output = x W^T, of the rows of one or several matrices under each other. */
export const linear = (output: Value, x: Value, weight: ParameterSpec): OpParts => ({
  inputs: [x],
  parameters: [weight],
  inBackward: "kept",
  isProduct: true,
  flops({ tokens }) {
    const [rows, columns] = shapeOf(weight);
    return 2 * rows * columns * tokens;
  },
  forward({ machine, of, into, fusion }) {
    const { y, residual, epilogue } = fusion(output) ?? { y: into(output) };
    return product(machine.products, machine.rows, machine.parameters.pieces(weight), {
      x: of(x),
      y,
      residual,
    }, epilogue);
  },
  backward(dOutput, pass) {
    const { products, parameters, batch: { tokenRows: rows, tokenRowsAdding: adding } } = pass.machine;
    const pieces = parameters.pieces(weight);
    pass.productGradient(
      x,
      (dX, adds, epilogue) =>
        linearInputGradient(products, { rows, adding }, pieces, { dY: dOutput, dX }, { adds, epilogue }),
    );
    pass.whenThere(
      x,
      (at) => pass.emit(linearWeightGradient(products, rows, pieces, { dY: dOutput, x: at })),
    );
  },
});
