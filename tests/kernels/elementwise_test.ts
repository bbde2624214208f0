import { add, addBias, addBiasBackward, rope, swiglu, swigluBackward } from "../../lib/gpu/operations.ts";
import { kernelTest, largest, useGpu } from "./harness.ts";
import { rope as referenceRope } from "../reference/rope.ts";
import { swiglu as reference, swigluBackward as referenceBackward } from "../reference/swiglu.ts";

useGpu();

const POSITIONS = 40;

interface RopeShape {
  tokens: number;
  spare: number;
  heads: number;
  keyValueHeads: number;
  headDim: number;
  dimensions?: number;
  interleaved?: boolean;
}

const ROPE_SHAPES: RopeShape[] = [
  { tokens: 1, spare: 0, heads: 1, keyValueHeads: 1, headDim: 2 },
  { tokens: 3, spare: 1, heads: 2, keyValueHeads: 1, headDim: 6 },
  { tokens: 31, spare: 0, heads: 3, keyValueHeads: 3, headDim: 16 },
  { tokens: 33, spare: 31, heads: 6, keyValueHeads: 2, headDim: 18 },
  { tokens: 65, spare: 2, heads: 4, keyValueHeads: 1, headDim: 20 },
  { tokens: 33, spare: 0, heads: 2, keyValueHeads: 2, headDim: 64 },
  // In part, where vec4s reach all and where they do not, and side by side.
  { tokens: 33, spare: 1, heads: 3, keyValueHeads: 1, headDim: 24, dimensions: 8 },
  { tokens: 3, spare: 2, heads: 2, keyValueHeads: 1, headDim: 20, dimensions: 6 },
  { tokens: 31, spare: 0, heads: 2, keyValueHeads: 1, headDim: 8, interleaved: true },
  { tokens: 5, spare: 3, heads: 3, keyValueHeads: 2, headDim: 10, dimensions: 6, interleaved: true },
];

for (const direction of ["forward", "backward"] as const) {
  kernelTest(
    `rotary embedding ${direction} equals complex products, in place and beside its input`,
    ROPE_SHAPES,
    async (kernels, shape) => {
      const { tokens, spare, headDim, dimensions = headDim, interleaved = false } = shape;
      const heads = shape.heads + shape.keyValueHeads;
      const width = (heads + shape.keyValueHeads) * headDim;
      const positions = Array.from({ length: tokens }, () => kernels.integer(0, POSITIONS - 1));
      // Any angles will do; cosines come before sines.
      const angles = Array.from({ length: POSITIONS }, () => kernels.values(dimensions / 2, 3));
      const table = Float32Array.from(angles.flatMap((row) => [...row.map(Math.cos), ...row.map(Math.sin)]));
      const data = kernels.values(tokens * width);
      const spans = Uint32Array.from(positions.flatMap((position) => [0, 0, 0, position]));
      const tables = {
        spans: kernels.tensor([tokens + spare, 4], spans),
        cosSin: kernels.tensor([POSITIONS, dimensions], table),
      };
      const [changed, qkv] = [
        kernels.tensorInPlace([tokens + spare, width], data),
        kernels.tensor([tokens + spare, width], data),
      ];
      const beside = kernels.tensor([tokens + spare, width]);
      const rows = kernels.rows(tokens);
      const how = [shape, { dimensions, interleaved }, direction === "backward"] as const;
      await kernels.run([
        rope(rows, { ...tables, qkv: changed, y: changed }, ...how),
        rope(rows, { ...tables, qkv, y: beside }, ...how),
      ]);
      const all = { heads, headDim, width, dimensions, interleaved };
      const expected = referenceRope(data, positions, table, all, direction);
      // Three roundings of 6e-8.
      for (const y of [changed, beside]) await kernels.compare(y, expected, { tolerance: 3e-7 });
      await kernels.compareUnchanged(qkv);
    },
  );
}

const WIDTHS = [
  { rows: 1, width: 1, spare: 0 },
  { rows: 3, width: 3, spare: 2 },
  { rows: 31, width: 5, spare: 0 },
  { rows: 33, width: 16, spare: 31 },
  { rows: 65, width: 20, spare: 1 },
  { rows: 3, width: 66, spare: 0 },
  { rows: 31, width: 100, spare: 3 },
];

// The driver's exp is off by 1.1e-6 of its value, of which sigmoid and silu pass on a part.
const SWIGLU = { tolerance: 1.5e-6 };
/** Beyond where exp(-gate) overflows or vanishes in float32. */
const EXTREMES = [-1000, -100, -88, -30, 0, 30, 88, 100, 1000];

kernelTest("SwiGLU equals its formula in float64", WIDTHS, async (kernels, { rows, width, spare }) => {
  const data = kernels.values(rows * 2 * width, 2);
  const gateUp = kernels.tensor([rows + spare, 2 * width], data);
  const y = kernels.tensor([rows + spare, width]);
  await kernels.run([swiglu(kernels.rows(rows), gateUp, y)]);
  await kernels.compare(y, reference(data, width), SWIGLU);
  await kernels.compareUnchanged(gateUp);
});

kernelTest("SwiGLU backward leaves gradient and output in place", WIDTHS, async (kernels, shape) => {
  const { rows, width, spare } = shape;
  const data = kernels.values(rows * 2 * width, 2);
  const upstream = kernels.values(rows * width);
  const gateUp = kernels.tensorInPlace([rows + spare, 2 * width], data);
  const dY = kernels.tensorInPlace([rows + spare, width], upstream);
  await kernels.run([swigluBackward(kernels.rows(rows), gateUp, dY)]);
  await kernels.compare(gateUp, referenceBackward(data, upstream, width), SWIGLU);
  await kernels.compare(dY, reference(data, width), SWIGLU);
});

kernelTest("SwiGLU holds for gates so large that their exponential overflows", [{}], async (kernels) => {
  const rows = EXTREMES.length;
  const data = Float32Array.from(EXTREMES.flatMap((gate) => [gate, kernels.normal()]));
  const upstream = kernels.values(rows);
  const gateUp = kernels.tensorInPlace([rows, 2], data);
  const y = kernels.tensor([rows, 1]);
  const dY = kernels.tensorInPlace([rows, 1], upstream);
  await kernels.run([swiglu(kernels.rows(rows), gateUp, y), swigluBackward(kernels.rows(rows), gateUp, dY)]);
  for (const tensor of [y, dY]) await kernels.compare(tensor, reference(data, 1), SWIGLU);
  await kernels.compare(gateUp, referenceBackward(data, upstream, 1), SWIGLU);
});

kernelTest("a sum of two tensors equals theirs", WIDTHS, async (kernels, { rows, width, spare }) => {
  const [left, right] = [kernels.values(rows * width), kernels.values(rows * width)];
  const [x, y] = [left, right].map((data) => kernels.tensor([rows + spare, width], data));
  const z = kernels.tensor([rows + spare, width]);
  await kernels.run([add(kernels.rows(rows), x, y, z)]);
  // One rounding.
  await kernels.compare(z, Float64Array.from(left, (value, i) => value + right[i]), { tolerance: 1e-7 });
});

kernelTest("a bias is added to every row, in place", WIDTHS, async (kernels, { rows, width, spare }) => {
  const [before, values] = [kernels.values(rows * width), kernels.values(width)];
  const y = kernels.tensorInPlace([rows + spare, width], before);
  const bias = kernels.tensor([width, 1], values);
  await kernels.run([addBias(kernels.rows(rows), bias, y)]);
  // One rounding.
  await kernels.compare(y, Float64Array.from(before, (value, i) => value + values[i % width]), {
    tolerance: 1e-7,
  });
  await kernels.compareUnchanged(bias);
});

kernelTest(
  "the gradient of a bias is the sum over rows, written or added to what is there",
  WIDTHS.flatMap((shape) => [false, true].map((accumulate) => ({ ...shape, accumulate }))),
  async (kernels, { rows, width, spare, accumulate }) => {
    const upstream = kernels.values(rows * width);
    const before = kernels.values(width);
    const dBias = accumulate ? kernels.tensorInPlace([width, 1], before) : kernels.tensor([width, 1]);
    await kernels.run(addBiasBackward(kernels.rows(rows, { accumulate }), {
      dY: kernels.tensor([rows + spare, width], upstream),
      dBias,
      partial: kernels.tensor([Math.ceil((rows + spare) / 32), width]),
    }));
    const sums = (values: ArrayLike<number>) =>
      Float64Array.from({ length: width }, (_, column) => {
        let sum = 0;
        for (let row = 0; row < rows; row++) sum += values[row * width + column];
        return sum;
      });
    const expected = sums(upstream).map((sum, i) => sum + (accumulate ? before[i] : 0));
    // Terms of either sign, measured by the sum of their magnitudes.
    const scale = largest(sums(upstream.map(Math.abs)), accumulate ? before : []);
    await kernels.compare(dBias, expected, { tolerance: 5e-7, scale });
  },
);
