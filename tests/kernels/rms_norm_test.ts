import { rmsNorm, rmsNormBackward, rmsNormWeightBackward } from "../../lib/gpu/operations.ts";
import { type KernelCase, kernelTest, largest, useGpu } from "./harness.ts";
import { rmsNorm as reference, rmsNormBackward as referenceBackward } from "../reference/rms_norm.ts";

useGpu();

interface Norm {
  rows: number;
  width: number;
  /** Rows that the tensors have beyond those counted. */
  spare?: number;
  /**
   * Whether the input's gradient is added to what is there (a constant of the kernel), and the weight's (at
   * run time).
   */
  add?: boolean;
  accumulate?: boolean;
}

const SHAPES: Norm[] = [
  { rows: 1, width: 1 },
  { rows: 3, width: 3, spare: 2 },
  { rows: 31, width: 5 },
  { rows: 33, width: 16, spare: 31 },
  { rows: 65, width: 20, spare: 1 },
  { rows: 33, width: 36 },
  { rows: 65, width: 66, spare: 3 },
  { rows: 31, width: 100, spare: 2 },
  { rows: 97, width: 260 },
];
const EPSILON = 1e-5;

function random(kernels: KernelCase, { rows, width, spare = 0 }: Norm) {
  const x = kernels.values(rows * width, 2);
  const weight = kernels.values(width);
  return {
    x,
    weight,
    tensors: {
      x: kernels.tensor([rows + spare, width], x),
      weight: kernels.tensor([1, width], weight),
    },
  };
}

kernelTest("RMSNorm equals its formula in float64", SHAPES, async (kernels, shape) => {
  const { rows, width, spare = 0 } = shape;
  const { x, weight, tensors } = random(kernels, shape);
  const y = kernels.tensor([rows + spare, width]);
  const rstd = kernels.tensor([rows + spare]);
  await kernels.run([rmsNorm(kernels.rows(rows), tensors.x, tensors.weight, y, rstd, EPSILON)]);
  const expected = reference(x, weight, EPSILON);
  // Sums of squares have no cancellation: a few roundings of 6e-8, fewer than eight as eight threads share a
  // row.
  await kernels.compare(y, expected.y, { tolerance: 5e-7 });
  await kernels.compare(rstd, expected.rstd, { tolerance: 5e-7 });
});

const modes = [{ add: false, accumulate: false }, { add: true, accumulate: true }];
kernelTest(
  "the gradients of RMSNorm equal their formulas, written or added to what is there",
  SHAPES.flatMap((shape) => modes.map((mode) => ({ ...shape, ...mode }))),
  async (kernels, shape) => {
    const { rows, width, spare = 0, add = false, accumulate } = shape;
    const { x, weight, tensors } = random(kernels, shape);
    const dY = kernels.values(rows * width);
    const { rstd } = reference(x, weight, EPSILON);
    const before = { dX: kernels.values(rows * width), dWeight: kernels.values(width) };
    const dX = add
      ? kernels.tensorInPlace([rows + spare, width], before.dX)
      : kernels.tensor([rows + spare, width]);
    const dWeight = accumulate
      ? kernels.tensorInPlace([1, width], before.dWeight)
      : kernels.tensor([1, width]);
    const slot = kernels.rows(rows, { accumulate });
    const at = {
      ...tensors,
      rstd: kernels.tensor([rows + spare], Float32Array.from(rstd)),
      dY: kernels.tensor([rows + spare, width], dY),
    };
    const partial = kernels.tensor([Math.ceil((rows + spare) / 32), width]);
    await kernels.run([
      rmsNormBackward(slot, { ...at, dX }, add),
      ...rmsNormWeightBackward(slot, { ...at, dWeight, partial }),
    ]);

    const expected = referenceBackward(x, weight, dY, EPSILON);
    const plus = (values: Float64Array, more: Float32Array) => values.map((value, i) => value + more[i]);
    // In a narrow row nearly all of d_x cancels: its terms are the measure, r w d_y and what was there.
    const terms = dY.map((gradient, i) => gradient * weight[i % width] * rstd[Math.floor(i / width)]);
    await kernels.compare(dX, add ? plus(expected.dX, before.dX) : expected.dX, {
      tolerance: 5e-7,
      scale: Math.max(largest(terms), add ? largest(before.dX) : 0),
    });
    const products = referenceBackward(x.map(Math.abs), weight, dY.map(Math.abs), EPSILON).dWeight;
    // A sum over `rows` terms of either sign, measured by the sum of their magnitudes.
    await kernels.compare(dWeight, accumulate ? plus(expected.dWeight, before.dWeight) : expected.dWeight, {
      tolerance: 5e-7,
      scale: largest(products, accumulate ? before.dWeight : []),
    });
  },
);
