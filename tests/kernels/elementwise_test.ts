import assert from "node:assert/strict";
import { ACTIVATIONS } from "../../kernels/activation.ts";
import {
  activate,
  activateBackward,
  add,
  addBiasBackward,
  glu,
  gluBackward,
  rope,
} from "../../lib/gpu/operations.ts";
import { kernelTest, largest, useGpu } from "./harness.ts";
import {
  activate as referenceActivate,
  activateBackward as referenceActivateBackward,
  activations,
  glu as reference,
  gluBackward as referenceBackward,
  slopes,
} from "../reference/activation.ts";
import { rope as referenceRope } from "../reference/rope.ts";

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
const EXP = { tolerance: 1.5e-6 };
/** Beyond where exp(-gate) overflows or vanishes in float32. */
const EXTREMES = [-1000, -100, -88, -30, 0, 30, 88, 100, 1000];

kernelTest(
  "a gated linear unit equals its formula in float64",
  WIDTHS,
  async (kernels, { rows, width, spare }) => {
    const data = kernels.values(rows * 2 * width, 2);
    const gateUp = kernels.tensor([rows + spare, 2 * width], data);
    const y = kernels.tensor([rows + spare, width]);
    await kernels.run([glu(kernels.rows(rows), "silu", gateUp, y)]);
    await kernels.compare(y, reference(data, width), EXP);
    await kernels.compareUnchanged(gateUp);
  },
);

kernelTest(
  "a gated linear unit backward leaves gradient and output in place",
  WIDTHS,
  async (kernels, shape) => {
    const { rows, width, spare } = shape;
    const data = kernels.values(rows * 2 * width, 2);
    const upstream = kernels.values(rows * width);
    const gateUp = kernels.tensorInPlace([rows + spare, 2 * width], data);
    const dY = kernels.tensorInPlace([rows + spare, width], upstream);
    await kernels.run([gluBackward(kernels.rows(rows), "silu", gateUp, dY)]);
    await kernels.compare(gateUp, referenceBackward(data, upstream, width), EXP);
    await kernels.compare(dY, reference(data, width), EXP);
  },
);

kernelTest(
  "a gated linear unit holds for gates so large that their exponential overflows",
  [{}],
  async (kernels) => {
    const rows = EXTREMES.length;
    const data = Float32Array.from(EXTREMES.flatMap((gate) => [gate, kernels.normal()]));
    const upstream = kernels.values(rows);
    const gateUp = kernels.tensorInPlace([rows, 2], data);
    const y = kernels.tensor([rows, 1]);
    const dY = kernels.tensorInPlace([rows, 1], upstream);
    await kernels.run([
      glu(kernels.rows(rows), "silu", gateUp, y),
      gluBackward(kernels.rows(rows), "silu", gateUp, dY),
    ]);
    for (const tensor of [y, dY]) await kernels.compare(tensor, reference(data, 1), EXP);
    await kernels.compare(gateUp, referenceBackward(data, upstream, 1), EXP);
  },
);

/** Dense where functions bend, and as far as gradients may come. */
const RANGE = Float32Array.from([
  ...Array.from({ length: 2001 }, (_, i) => (i - 1000) * 0.016 + 1e-4 * (i % 7)),
  ...[
    1e-30,
    1e-8,
    1e-3,
    0.6249,
    0.6251,
    1.2999,
    1.3001,
    13.9,
    14.1,
    20,
    44,
    60,
    87,
    88,
    89,
    101,
    1e3,
    1e8,
    1e15,
  ]
    .flatMap((x) => [x, -x]),
  0,
]);

/** Of one or of the value, whichever is larger; about 0 of x. silu has the driver's exp. */
const toleranceOf = (act: string) => act === "silu" || act === "swish" ? 1.5e-6 : 4e-7;

for (const act of ACTIVATIONS) {
  kernelTest(
    `${act} and its slope are float32's nearly everywhere`,
    [{ width: 4 }, { width: 1 }],
    async (kernels, { width }) => {
      const values = RANGE.subarray(0, RANGE.length - RANGE.length % width);
      const rows = values.length / width;
      const slot = kernels.rows(rows);
      const x = kernels.tensor([rows, width], values);
      const y = kernels.tensor([rows + 1, width]);
      const gradient = kernels.tensorInPlace([rows + 1, width], values);
      const upstream = kernels.values(values.length);
      const dY = kernels.tensorInPlace([rows + 1, width], upstream);
      await kernels.run([activate(slot, act, x, y), activateBackward(slot, act, gradient, dY)]);
      const close = (
        found: Float32Array,
        expected: (x: number, i: number) => number,
        unit: (x: number, i: number) => number,
      ) =>
        values.forEach((x, i) => {
          const error = Math.abs(found[i] - expected(x, i)) / unit(x, i);
          assert.ok(
            error <= toleranceOf(act),
            `${act}(${x}): ${found[i]} is not ${expected(x, i)}: ${error}`,
          );
        });
      const value = activations[act];
      const unit = (x: number) => Math.max(Math.abs(value(x)), Math.min(1, Math.abs(x)), 1e-37);
      for (const tensor of [y, dY]) close(await kernels.read(tensor, values.length), value, unit);
      close(
        await kernels.read(gradient, values.length),
        (x, i) => slopes[act](x) * upstream[i],
        (x, i) => Math.max(1, Math.abs(slopes[act](x))) * Math.abs(upstream[i]),
      );
      await kernels.compareUnchanged(x);
    },
  );
}

kernelTest("an activation writes its rows alone, forward and backward", WIDTHS, async (kernels, shape) => {
  const { rows, width, spare } = shape;
  const data = kernels.values(rows * width, 2);
  const upstream = kernels.values(rows * width);
  const slot = kernels.rows(rows);
  const y = kernels.tensor([rows + spare, width]);
  const x = kernels.tensorInPlace([rows + spare, width], data);
  const dY = kernels.tensorInPlace([rows + spare, width], upstream);
  await kernels.run([activate(slot, "gelu", x, y), activateBackward(slot, "gelu", x, dY)]);
  // Of a few values all may be small, beside what they are the products of.
  const expected = referenceActivate(data, "gelu");
  const scale = Math.max(largest(expected), Math.min(1, largest(data)));
  for (const tensor of [y, dY]) await kernels.compare(tensor, expected, { tolerance: 4e-7, scale });
  const gradient = referenceActivateBackward(data, upstream, "gelu");
  await kernels.compare(x, gradient, {
    tolerance: 4e-7,
    scale: Math.max(largest(gradient), largest(upstream)),
  });
});

kernelTest("a sum of two tensors equals theirs", WIDTHS, async (kernels, { rows, width, spare }) => {
  const [left, right] = [kernels.values(rows * width), kernels.values(rows * width)];
  const [x, y] = [left, right].map((data) => kernels.tensor([rows + spare, width], data));
  const z = kernels.tensor([rows + spare, width]);
  await kernels.run([add(kernels.rows(rows), x, y, z)]);
  // One rounding.
  await kernels.compare(z, Float64Array.from(left, (value, i) => value + right[i]), { tolerance: 1e-7 });
});

kernelTest(
  "the gradient of a bias is the sum over rows, written or added to what is there",
  WIDTHS.flatMap((shape) => [false, true].map((accumulate) => ({ ...shape, accumulate, scale: 1 })))
    .concat({ rows: 33, width: 5, spare: 1, accumulate: true, scale: -0.75 }),
  async (kernels, { rows, width, spare, accumulate, scale: factor }) => {
    const upstream = kernels.values(rows * width);
    const before = kernels.values(width);
    const dBias = accumulate ? kernels.tensorInPlace([width, 1], before) : kernels.tensor([width, 1]);
    await kernels.run(addBiasBackward(kernels.rows(rows, { accumulate }), {
      dY: kernels.tensor([rows + spare, width], upstream),
      dBias,
      partial: kernels.tensor([Math.ceil((rows + spare) / 32), width]),
    }, factor));
    const sums = (values: ArrayLike<number>) =>
      Float64Array.from({ length: width }, (_, column) => {
        let sum = 0;
        for (let row = 0; row < rows; row++) sum += values[row * width + column];
        return sum;
      });
    const expected = sums(upstream).map((sum, i) => factor * sum + (accumulate ? before[i] : 0));
    // Terms of either sign, measured by the sum of their magnitudes.
    const scale = largest(sums(upstream.map(Math.abs)), accumulate ? before : []);
    await kernels.compare(dBias, expected, { tolerance: 5e-7, scale });
  },
);
