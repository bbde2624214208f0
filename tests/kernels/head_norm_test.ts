import { headNorm, headNormBackward, headNormWeightBackward } from "../../lib/gpu/head_operations.ts";
import { rmsNorm as reference, rmsNormBackward as referenceBackward } from "../reference/rms_norm.ts";
import { type KernelCase, kernelTest, largest, useGpu } from "./harness.ts";

useGpu();

const SHAPES = [
  { tokens: 1, spare: 0, heads: 1, keyValueHeads: 1, headDim: 2 },
  { tokens: 3, spare: 1, heads: 2, keyValueHeads: 1, headDim: 6 },
  { tokens: 31, spare: 0, heads: 3, keyValueHeads: 3, headDim: 16 },
  { tokens: 33, spare: 31, heads: 6, keyValueHeads: 2, headDim: 18 },
  { tokens: 65, spare: 2, heads: 4, keyValueHeads: 1, headDim: 20 },
  { tokens: 33, spare: 0, heads: 2, keyValueHeads: 2, headDim: 64 },
];
type Shape = typeof SHAPES[number];
const EPSILON = 1e-5;

/** Random qkv and weights, and their parts: the heads of queries, of keys and of values, one after the other by token. */
function random(kernels: KernelCase, { tokens, spare, heads, keyValueHeads, headDim }: Shape) {
  const all = heads + 2 * keyValueHeads;
  const [qkv, weight] = [kernels.values(tokens * all * headDim, 2), kernels.values(2 * headDim)];
  const parts = [[0, heads], [heads, heads + keyValueHeads], [heads + keyValueHeads, all]];
  /** The elements of one part, and where each stands in qkv. */
  const places = parts.map(([first, end]) =>
    Array.from({ length: tokens }, (_, token) => token).flatMap((token) =>
      Array.from({ length: (end - first) * headDim }, (_, i) => (token * all + first) * headDim + i)
    )
  );
  return {
    qkv,
    places,
    weights: [weight.subarray(0, headDim), weight.subarray(headDim)],
    weight: kernels.tensor([2, headDim], weight),
    rstd: () => kernels.tensor([tokens + spare, heads + keyValueHeads]),
    shape: [tokens + spare, all * headDim],
  };
}
const at = (values: ArrayLike<number>, places: readonly number[]) => places.map((place) => values[place]);

/** The factors of queries and keys, token by token. */
function factors(found: ArrayLike<number>[], { tokens, heads, keyValueHeads }: Shape): number[] {
  return Array.from({ length: tokens }, (_, token) => [
    ...Array.from(found[0]).slice(token * heads, (token + 1) * heads),
    ...Array.from(found[1]).slice(token * keyValueHeads, (token + 1) * keyValueHeads),
  ]).flat();
}

kernelTest("the norm of heads is RMSNorm of each, and values stay", SHAPES, async (kernels, shape) => {
  const { qkv, places, weights, weight, rstd, shape: size } = random(kernels, shape);
  const [x, y, scale] = [kernels.tensor(size, qkv), kernels.tensor(size), rstd()];
  await kernels.run([headNorm(kernels.rows(shape.tokens), { x, weight, y, rstd: scale }, shape, EPSILON)]);
  const found = weights.map((values, part) => reference(at(qkv, places[part]), values, EPSILON));
  const expected = Float64Array.from(qkv);
  for (const part of [0, 1]) places[part].forEach((place, i) => expected[place] = found[part].y[i]);
  // As RMSNorm of rows.
  await kernels.compare(y, expected, { tolerance: 5e-7 });
  await kernels.compare(scale, factors(found.map(({ rstd }) => rstd), shape), { tolerance: 5e-7 });
});

kernelTest(
  "the gradients of the norm of heads equal their formulas",
  SHAPES.flatMap((shape) => [false, true].map((accumulate) => ({ ...shape, accumulate }))),
  async (kernels, shape) => {
    const { tokens, spare, headDim, accumulate } = shape;
    const { qkv, places, weights, weight, shape: size } = random(kernels, shape);
    const upstream = kernels.values(qkv.length);
    const before = kernels.values(2 * headDim);
    const forward = weights.map((values, part) => reference(at(qkv, places[part]), values, EPSILON));
    const rstd = Float32Array.from(factors(forward.map(({ rstd }) => rstd), shape));
    const dY = kernels.tensorInPlace(size, upstream);
    const dWeight = accumulate ? kernels.tensorInPlace([2, headDim], before) : kernels.tensor([2, headDim]);
    const rows = kernels.rows(tokens, { accumulate });
    const t = {
      x: kernels.tensor(size, qkv),
      weight,
      rstd: kernels.tensor([tokens + spare, rstd.length / tokens], rstd),
      dY,
      dWeight,
      partial: kernels.tensor([Math.ceil((tokens + spare) / 32), 2 * headDim]),
    };
    await kernels.run([...headNormWeightBackward(rows, t, shape), headNormBackward(rows, t, shape)]);

    const expected = Float64Array.from(upstream);
    const sums: number[] = [];
    const sizes: number[] = [];
    for (const part of [0, 1]) {
      const [x, u] = [at(qkv, places[part]), at(upstream, places[part])];
      const { dX, dWeight } = referenceBackward(x, weights[part], u, EPSILON);
      places[part].forEach((place, i) => expected[place] = dX[i]);
      sums.push(...dWeight);
      sizes.push(...referenceBackward(x.map(Math.abs), weights[part], u.map(Math.abs), EPSILON).dWeight);
    }
    // In a narrow head nearly all of the gradient cancels: its terms, r w d_y, are the measure.
    const terms = upstream.map((value) => value * largest(...weights) * largest(rstd));
    await kernels.compare(dY, expected, { tolerance: 5e-7, scale: largest(terms) });
    await kernels.compare(dWeight, sums.map((sum, i) => sum + (accumulate ? before[i] : 0)), {
      tolerance: 5e-7,
      scale: largest(sizes, accumulate ? before : []),
    });
  },
);
