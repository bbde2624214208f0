import {
  type HeadWeights,
  type Norm,
  norm,
  normBackward,
  normWeightBackward,
  statisticsWidth,
} from "../../lib/gpu/norm_operations.ts";
import {
  norm as reference,
  normBackward as referenceBackward,
  type NormParameters,
} from "../reference/norm.ts";
import { type KernelCase, kernelTest, largest, useGpu } from "./harness.ts";

useGpu();

const EPSILON = 1e-5;
type Kind = Pick<Norm, "kind" | "onePlus" | "bias">;
const RMS: Kind = { kind: "rms" };
const KINDS: Kind[] = [
  { kind: "rms", onePlus: true },
  { kind: "layer" },
  { kind: "layer", bias: true },
  { kind: "layer", bias: true, onePlus: true },
];

interface Case extends Kind {
  rows: number;
  /** Rows that the tensors have beyond those counted. */
  spare?: number;
  /** Of a whole row. */
  width?: number;
  heads?: Norm["heads"];
}

const ROWS: Case[] = [
  { rows: 1, width: 1, ...RMS },
  { rows: 3, width: 3, spare: 2, ...RMS },
  { rows: 31, width: 5, ...RMS },
  { rows: 33, width: 16, spare: 31, ...RMS },
  { rows: 65, width: 20, spare: 1, ...RMS },
  { rows: 65, width: 66, spare: 3, ...RMS },
  { rows: 97, width: 260, ...RMS },
  { rows: 1, width: 1, ...KINDS[3] },
  ...KINDS.flatMap((kind) => [
    { rows: 33, width: 5, spare: 31, ...kind },
    { rows: 65, width: 100, spare: 1, ...kind },
  ]),
];

const WEIGHTS = ["shared", "each", "whole"] as const;
const heads = (
  kind: Kind,
  rows: number,
  spare: number,
  shape: Omit<HeadWeights, "weights">,
  weights: readonly HeadWeights["weights"][] = WEIGHTS,
): Case[] => weights.map((weights) => ({ ...kind, rows, spare, heads: { ...shape, weights } }));
const HEADS = [
  ...heads(RMS, 1, 0, { heads: 1, keyValueHeads: 1, headDim: 2 }, ["whole"]),
  ...heads(RMS, 3, 1, { heads: 2, keyValueHeads: 1, headDim: 6 }),
  ...heads(RMS, 33, 31, { heads: 6, keyValueHeads: 2, headDim: 18 }),
  ...heads(RMS, 65, 2, { heads: 4, keyValueHeads: 1, headDim: 20 }, ["shared"]),
  ...heads({ kind: "layer" }, 31, 0, { heads: 3, keyValueHeads: 3, headDim: 5 }, ["each", "whole"]),
  ...heads({ kind: "layer", bias: true }, 33, 1, { heads: 4, keyValueHeads: 2, headDim: 10 }, ["shared"]),
  ...heads({ kind: "layer", onePlus: true }, 33, 0, { heads: 4, keyValueHeads: 2, headDim: 16 }, [
    "shared",
    "each",
  ]),
];

/** Where the normed parts of a row begin, how wide they are, and where their weights begin. */
function partsOf({ width, heads }: Case): { start: number; width: number; weight: number }[] {
  if (!heads) return [{ start: 0, width: width!, weight: 0 }];
  const { headDim, keyValueHeads: keys, weights } = heads;
  const queryColumns = heads.heads * headDim;
  if (weights === "whole") {
    return [
      { start: 0, width: queryColumns, weight: 0 },
      { start: queryColumns, width: keys * headDim, weight: queryColumns },
    ];
  }
  return Array.from({ length: heads.heads + keys }, (_, head) => ({
    start: head * headDim,
    width: headDim,
    weight: weights === "each" ? head * headDim : head < heads.heads ? 0 : headDim,
  }));
}

/** Random rows and weights, and the reference's parameters of each normed part. */
function random(kernels: KernelCase, shape: Case, mean = 0) {
  const { rows, spare = 0, heads, kind, onePlus, bias } = shape;
  const parts = partsOf(shape);
  const stride = heads ? (heads.heads + 2 * heads.keyValueHeads) * heads.headDim : shape.width!;
  const weightCount = Math.max(...parts.map(({ weight, width }) => weight + width));
  const x = kernels.values(rows * stride, 2).map((value) => value + mean);
  const weight = kernels.values(weightCount);
  const biases = kernels.values(weightCount);
  const how: Norm = { kind, epsilon: EPSILON, onePlus, bias, heads };
  const places = Array.from({ length: rows }, (_, row) => row * stride).flatMap((first) =>
    parts.map((part) => {
      const parameters: NormParameters = {
        ...how,
        weight: weight.subarray(part.weight, part.weight + part.width),
        bias: bias ? biases.subarray(part.weight, part.weight + part.width) : undefined,
      };
      return { ...part, parameters, start: first + part.start, end: first + part.start + part.width };
    })
  );
  const all = bias ? Float32Array.of(...weight, ...biases) : weight;
  return {
    how,
    x,
    places,
    weight: kernels.tensor([bias ? 2 : 1, weightCount], all),
    weightCount,
    size: [rows + spare, stride],
    statisticsSize: [rows + spare, statisticsWidth(how)],
    /** As the kernels keep them. */
    statistics: places.flatMap(({ start, end, parameters }) => {
      const { mean, rstd } = reference(x.subarray(start, end), parameters);
      return kind === "layer" ? [mean[0], rstd[0]] : [rstd[0]];
    }),
    /**
     * How large x and a mean are beside what is left of them, which LayerNorm's roundings are measured by; 1 of
     * RMSNorm.
     */
    condition: kind === "rms" ? 1 : Math.max(
      1,
      ...places.map(({ start, end, parameters }) =>
        largest(x.subarray(start, end)) * reference(x.subarray(start, end), parameters).rstd[0]
      ),
    ),
  };
}

async function compareForward(kernels: KernelCase, shape: Case & { residual?: boolean }, mean = 0) {
  const { rows, residual = false } = shape;
  const { how, x, places, weight, size, statisticsSize, statistics, condition } = random(
    kernels,
    shape,
    mean,
  );
  const added = kernels.values(x.length);
  const [y, found] = [kernels.tensor(size), kernels.tensor(statisticsSize)];
  await kernels.run([
    norm(kernels.rows(rows), how, {
      x: kernels.tensor(size, x),
      weight,
      y,
      statistics: found,
      residual: residual ? kernels.tensor(size, added) : undefined,
    }),
  ]);
  const expected = Float64Array.from(x);
  let factors = 0;
  for (const { start, end, parameters } of places) {
    expected.set(reference(x.subarray(start, end), parameters).y, start);
    factors = Math.max(
      factors,
      largest(Float64Array.from(parameters.weight, (w) => how.onePlus ? 1 + w : w)),
    );
  }
  // Sums of squares have no cancellation: a few roundings of 6e-8, fewer than eight as eight threads share a part.
  const scale = Math.max(largest(expected), how.kind === "layer" ? condition * factors : 0);
  await kernels.compare(y, residual ? expected.map((value, i) => value + added[i]) : expected, {
    tolerance: 5e-7,
    scale: Math.max(scale, residual ? largest(added) : 0),
  });
  await kernels.compare(found, statistics, {
    tolerance: 5e-7,
    scale: how.kind === "layer" ? largest(statistics, x) : undefined,
  });
}

kernelTest("norms equal their formulas in float64", [...ROWS, ...HEADS], compareForward);

kernelTest(
  "a norm adds a residual as it stores",
  [ROWS[2], ROWS[6], ROWS.at(-1)!].map((shape) => ({ ...shape, residual: true })),
  compareForward,
);

kernelTest(
  "LayerNorm is sound where the mean is a thousand times the deviation",
  [{ rows: 9, width: 300, kind: "layer" as const, bias: true }],
  async (kernels, shape) => {
    const { how, x, places, weight, size, statisticsSize, statistics } = random(kernels, shape, 2000);
    const [y, found] = [kernels.tensor(size), kernels.tensor(statisticsSize)];
    await kernels.run([
      norm(kernels.rows(shape.rows), how, { x: kernels.tensor(size, x), weight, y, statistics: found }),
    ]);
    const read = await kernels.read(found, statistics.length);
    for (const [i, value] of statistics.entries()) {
      const error = Math.abs(read[i] / value - 1);
      if (!(error < 5e-7)) throw new Error(`statistic ${i} is ${read[i]}, expected ${value}`);
    }
    const expected = places.flatMap(({ start, end, parameters }) => [
      ...reference(x.subarray(start, end), parameters).y,
    ]);
    // The mean is right to its own roundings, which its row has as many times as it is larger than the deviation.
    await kernels.compare(y, expected, { tolerance: 2e-7, scale: 1000 * largest(expected) });
  },
);

/** Where the input's gradient goes, and whether the weight's is added to what is there. */
const MODES = [
  { put: "in place", accumulate: true },
  { put: "fresh", accumulate: false },
  { put: "added", accumulate: true },
] as const;

kernelTest(
  "the gradients of norms equal their formulas, written or added to what is there",
  [
    ...ROWS.map((shape, i) => ({ ...shape, ...MODES[i % 3] })),
    ...HEADS.map((shape, i) => ({ ...shape, put: "in place" as const, accumulate: i % 2 === 0 })),
    { ...HEADS.at(-1)!, ...MODES[1] },
    { ...HEADS.at(-1)!, ...MODES[2] },
  ],
  async (kernels, shape) => {
    const { rows, spare = 0, bias, onePlus, kind, put, accumulate } = shape;
    const { how, x, places, weight, weightCount, size, statisticsSize, statistics, condition } = random(
      kernels,
      shape,
    );
    const upstream = kernels.values(x.length);
    const before = { dX: kernels.values(x.length), dWeight: kernels.values(weightCount * (bias ? 2 : 1)) };
    const dY = put === "in place" ? kernels.tensorInPlace(size, upstream) : kernels.tensor(size, upstream);
    const dX = put === "in place"
      ? dY
      : put === "added"
      ? kernels.tensorInPlace(size, before.dX)
      : kernels.tensor(size);
    const dWeight = accumulate
      ? kernels.tensorInPlace([...weight.shape], before.dWeight)
      : kernels.tensor([...weight.shape]);
    const slot = kernels.rows(rows, { accumulate });
    const t = {
      x: kernels.tensor(size, x),
      weight,
      statistics: kernels.tensor(statisticsSize, Float32Array.from(statistics)),
      dY,
      dX,
      dWeight,
      partial: kernels.tensor([Math.ceil((rows + spare) / 32), before.dWeight.length]),
    };
    await kernels.run([
      ...normWeightBackward(slot, how, t),
      normBackward(slot, how, t, put === "added"),
    ]);

    const expected = Float64Array.from(upstream);
    const sums = new Float64Array(before.dWeight.length);
    const sizes = new Float64Array(before.dWeight.length);
    // In a narrow part nearly all of the gradient cancels: its terms, r f d_y, are the measure.
    let terms = largest(upstream);
    for (const { start, end, parameters, weight } of places) {
      const [values, gradients] = [x.subarray(start, end), upstream.subarray(start, end)];
      const found = referenceBackward(values, gradients, parameters);
      const { rstd, mean } = reference(values, parameters);
      expected.set(found.dX, start);
      found.dWeight.forEach((value, i) => {
        sums[weight + i] += value;
        sizes[weight + i] += Math.abs(gradients[i]) * (Math.abs(values[i]) + Math.abs(mean[0])) * rstd[0];
      });
      if (bias) {
        found.dBias.forEach((value, i) => {
          sums[weightCount + weight + i] += value;
          sizes[weightCount + weight + i] += Math.abs(gradients[i]);
        });
      }
      const factors = Float64Array.from(parameters.weight, (w) => onePlus ? 1 + w : w);
      terms = Math.max(terms, rstd[0] * largest(factors.map((factor, i) => factor * gradients[i])));
    }
    const plus = (values: Float64Array, more: Float32Array) => values.map((value, i) => value + more[i]);
    await kernels.compare(dX, put === "added" ? plus(expected, before.dX) : expected, {
      tolerance: 5e-7,
      scale: Math.max(terms * (kind === "layer" ? condition : 1), put === "added" ? largest(before.dX) : 0),
    });
    // A sum over rows of terms of either sign, measured by the sum of their magnitudes.
    await kernels.compare(dWeight, accumulate ? plus(sums, before.dWeight) : sums, {
      tolerance: 5e-7,
      scale: largest(sizes, accumulate ? before.dWeight : []),
    });
  },
);
