import assert from "node:assert/strict";
import { logitsBackward, logProbabilities, squaredProbabilities } from "../../lib/gpu/operations.ts";
import { assertClose, type KernelCase, kernelTest, useGpu } from "./harness.ts";
import {
  labelFigures,
  logProbabilities as reference,
  logProbabilitiesBackward,
} from "../reference/log_probabilities.ts";

useGpu();

/** `offset` is added to all logits, which changes no log-probability. */
interface Logits {
  labels: number;
  vocabulary: number;
  spare?: number;
  offset?: number;
  logitScale?: number;
  logitSoftcap?: number;
}

const SHAPES: Logits[] = [
  { labels: 1, vocabulary: 1 },
  { labels: 3, vocabulary: 3, spare: 2, logitScale: 0.0625 },
  { labels: 31, vocabulary: 5 },
  { labels: 65, vocabulary: 16, spare: 63, offset: -60 },
  { labels: 33, vocabulary: 66, offset: 200 },
  { labels: 31, vocabulary: 259, spare: 1, logitSoftcap: 30 },
  // A cap that most logits have reached.
  { labels: 3, vocabulary: 1030, logitScale: 1.7, logitSoftcap: 2 },
  { labels: 2, vocabulary: 4101, spare: 1 },
  // More rows than one direction of a grid has workgroups.
  { labels: 65_600, vocabulary: 3, spare: 1 },
];

/** Logits between about -12 and 12, and a buffer of them whose rows are padded to a multiple of 4. */
function random(kernels: KernelCase, shape: Logits) {
  const { labels, vocabulary, spare = 0, offset = 0 } = shape;
  const stride = Math.ceil(vocabulary / 4) * 4;
  const logits = kernels.values(labels * vocabulary, 3).map((value) => value + offset);
  const targets = Uint32Array.from({ length: labels }, () => kernels.integer(0, vocabulary - 1));
  // What the matrix product leaves in the padding must not count, however large.
  const padded = new Float32Array(labels * stride).fill(1e6);
  for (let i = 0; i < labels; i++) {
    padded.set(logits.subarray(i * vocabulary, (i + 1) * vocabulary), i * stride);
  }
  return {
    logits: scored(logits, shape),
    slope: slopes(logits, shape),
    targets,
    stride,
    tensors: {
      logits: kernels.tensorInPlace([labels + spare, stride], padded),
      targets: kernels.tensor([labels + spare], targets),
    },
  };
}

/** Logits scaled and capped in float64, and the slopes of that. */
const scored = (logits: Float32Array, { logitScale = 1, logitSoftcap: cap }: Logits) =>
  Float64Array.from(logits, (v) => cap ? cap * Math.tanh(v * logitScale / cap) : v * logitScale);
const slopes = (logits: Float32Array, { logitScale = 1, logitSoftcap: cap }: Logits) =>
  Float64Array.from(logits, (v) => logitScale * (cap ? 1 - Math.tanh(v * logitScale / cap) ** 2 : 1));

kernelTest("log-probabilities of labels equal the float64 log-softmax", SHAPES, async (kernels, shape) => {
  const { labels, spare = 0, offset = 0 } = shape;
  const { logits, targets, tensors } = random(kernels, shape);
  const lse = kernels.tensor([labels + spare]);
  const logps = kernels.tensor([labels + spare]);
  const figures = kernels.tensor([labels + spare, 4]);
  await kernels.run([
    logProbabilities(kernels.rows(labels), { ...tensors, lse, logps, figures }, shape.vocabulary, shape),
  ]);
  const expected = reference(logits, targets);
  // A log-sum-exp of about `offset` + 10, rounded to 6e-8 of itself, and a difference to it.
  const comparison = { tolerance: 4e-7, scale: 10 + Math.abs(offset) };
  await kernels.compare(lse, expected.lse, comparison);
  await kernels.compare(logps, expected.logps, comparison);
  await kernels.compareUnchanged(tensors.logits);
  const expectedFigures = labelFigures(logits, targets);
  await kernels.compare(figures, expectedFigures, comparison);
  const found = await kernels.read(figures, expectedFigures.length);
  const column = (of: ArrayLike<number>, which: number) => Array.from(of).filter((_, i) => i % 4 === which);
  // However large the logits are: entropies up to log(4101), and the exponential of a log-probability as close as
  // above.
  assertClose(column(found, 0), column(expectedFigures, 0), { tolerance: 1e-6, scale: 10 }, "entropies");
  assert.deepEqual(column(found, 2), column(expectedFigures, 2), "the most probable token");
  assertClose(column(found, 3), column(expectedFigures, 3), {
    tolerance: 4e-7 * (10 + Math.abs(offset)),
    scale: 1,
  }, "probabilities");
});

kernelTest(
  "sums of squared probabilities equal the float64 ones",
  SHAPES.slice(0, -1),
  async (kernels, shape) => {
    const { labels, spare = 0, offset = 0, vocabulary } = shape;
    const { logits, targets, tensors } = random(kernels, shape);
    const { lse } = reference(logits, targets);
    const squares = kernels.tensor([labels + spare]);
    await kernels.run([squaredProbabilities(
      kernels.rows(labels),
      {
        logits: tensors.logits,
        lse: kernels.tensor([labels + spare], Float32Array.from(lse)),
        squares,
      },
      vocabulary,
      shape,
    )]);
    const expected = Array.from(lse, (row, label) => {
      const p = logits.subarray(label * vocabulary, (label + 1) * vocabulary).map((logit) =>
        Math.exp(logit - row)
      );
      return Math.log(p.reduce((sum, p) => sum + p * p, 0));
    });
    await kernels.compare(squares, expected, { tolerance: 1e-6, scale: 10 + Math.abs(offset) });
  },
);

/** Where a row's largest logit stands, several times; all others are smaller. */
const TIES = [
  { places: [0, 1] },
  { places: [3, 4] },
  // Of another step of the same thread, and of the next thread.
  { places: [1, 129] },
  { places: [7, 4 * 8 + 7] },
  { places: [16, 20] },
  // Of other eighths of the row.
  { places: [511, 512] },
  { places: [130, 600, 1029] },
  { places: [1028, 1029] },
];

kernelTest(
  "of equal logits the first is the most probable token, as in torch.argmax",
  TIES,
  async (kernels, { places }) => {
    const vocabulary = 1030;
    const stride = 1032;
    const logits = new Float32Array(places.length * stride).fill(1e6);
    places.forEach((_, label) => {
      const row = kernels.values(vocabulary).map((value) => Math.min(value, 3));
      for (const place of places) row[place] = 3.5;
      logits.set(row, label * stride);
    });
    const t = {
      logits: kernels.tensor([places.length, stride], logits),
      targets: kernels.tensor([places.length], Uint32Array.from(places)),
      lse: kernels.tensor([places.length]),
      logps: kernels.tensor([places.length]),
      figures: kernels.tensor([places.length, 4]),
    };
    await kernels.run([logProbabilities(kernels.rows(places.length), t, vocabulary)]);
    const found = await kernels.read(t.figures, 4 * places.length);
    assert.deepEqual(places.map((_, label) => found[4 * label + 2]), places.map((_, label) => label ? 0 : 1));
  },
);

kernelTest("the gradient of logits equals weight * (onehot - softmax)", SHAPES, async (kernels, shape) => {
  const { labels, vocabulary, spare = 0, offset = 0 } = shape;
  const { logits, slope, targets, stride, tensors } = random(kernels, shape);
  const weights = kernels.values(labels);
  const lse = Float32Array.from(reference(logits, targets).lse);
  await kernels.run([logitsBackward(
    kernels.rows(labels),
    {
      ...tensors,
      lse: kernels.tensor([labels + spare], lse),
      weights: kernels.tensor([labels + spare], weights),
    },
    vocabulary,
    shape,
  )]);
  const gradient = logProbabilitiesBackward(logits, targets, weights).map((value, i) => value * slope[i]);
  const padded = new Float64Array(labels * stride);
  for (let i = 0; i < labels; i++) {
    padded.set(gradient.subarray(i * vocabulary, (i + 1) * vocabulary), i * stride);
  }
  // The log-sum-exp is rounded to 6e-8 of itself, and its error is the relative error of all of softmax;
  // where all of the gradient cancels (a vocabulary of 1), the weight is the measure.
  await kernels.compare(tensors.logits, padded, {
    tolerance: 8e-7 + 6e-8 * Math.abs(offset),
    scale: weights.reduce((most, weight) => Math.max(most, Math.abs(weight)), 0) * (shape.logitScale ?? 1),
  });
});
