import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { pairResults, summarize } from "../../lib/training/metrics.ts";

const batch = pack([
  {
    chosen: { ids: [1, 2, 3, 4, 5], promptLength: 1 },
    rejected: { ids: [1, 6, 7], promptLength: 1 },
    truncated: false,
    where: "a",
  },
  {
    chosen: { ids: [8, 9], promptLength: 1 },
    rejected: { ids: [8, 3, 2], promptLength: 1 },
    truncated: false,
    where: "b",
  },
]);
/** For each pair: loss, sum of chosen, sum of rejected, and KTO's reference point. */
const RESULTS = Float32Array.of(0.5, -2, -3, 0, -0.25, -1, -0.5, 0);
/** For each response: sums of entropies and of mean logits, right labels, and the end token's probability. */
const FIGURES = Float32Array.of(...[8, -4, 3, 0.75, 3, 6, 1, -1], ...[1, 1, 1, 0.25, 6, 4, 2, 0.5]);
const NO_REFERENCE = { kl: 0, chosenReference: 0, rejectedReference: 0, desirable: false };
const NO_FIGURES = { entropy: 0, logits: 0, correct: 0 };

Deno.test("pairResults() joins the kernel's sums with the labels of the batch", () => {
  assert.deepEqual(pairResults(RESULTS, FIGURES, batch), [
    {
      ...{ loss: 0.5, chosen: -2, rejected: -3, chosenLabels: 4, rejectedLabels: 2, ...NO_REFERENCE },
      chosenFigures: { entropy: 8, logits: -4, correct: 3, endProbability: 0.75 },
      rejectedFigures: { entropy: 3, logits: 6, correct: 1 },
    },
    {
      ...{ loss: -0.25, chosen: -1, rejected: -0.5, chosenLabels: 1, rejectedLabels: 2, ...NO_REFERENCE },
      chosenFigures: { entropy: 1, logits: 1, correct: 1, endProbability: 0.25 },
      rejectedFigures: { entropy: 6, logits: 4, correct: 2, endProbability: 0.5 },
    },
  ]);
});

Deno.test("pairResults() does not read beyond the pairs of the batch", () => {
  assert.equal(pairResults(Float32Array.of(...RESULTS, 9, 9, 9, 9), FIGURES, batch).length, 2);
});

Deno.test("summarize() gives means over pairs, with rewards as mean log-probabilities, and over labels", () => {
  assert.deepEqual(summarize(pairResults(RESULTS, FIGURES, batch)), {
    loss: 0.125,
    "rewards/chosen": (-2 / 4 - 1 / 1) / 2,
    "rewards/rejected": (-3 / 2 - 0.5 / 2) / 2,
    "rewards/accuracies": 0.5,
    "rewards/margins": ((-0.5 + 1.5) + (-1 + 0.25)) / 2,
    "logps/chosen": -1.5,
    "logps/rejected": -1.75,
    "logits/chosen": -3 / 5,
    "logits/rejected": 10 / 4,
    entropy: 18 / 9,
    mean_token_accuracy: 4 / 5,
    "eos/probability": 0.5,
  });
});

Deno.test("an equal reward does not count as accurate", () => {
  const even = {
    ...{ loss: 0, chosen: -1, rejected: -2, chosenLabels: 1, rejectedLabels: 2 },
    ...{ chosenFigures: NO_FIGURES, rejectedFigures: NO_FIGURES },
  };
  assert.equal(summarize([even])["rewards/accuracies"], 0);
});

Deno.test("without rejected responses their figures are left out", () => {
  const result = {
    ...{ loss: 2, chosen: -6, rejected: 0, chosenLabels: 3, rejectedLabels: 0 },
    chosenFigures: { entropy: 6, logits: -3, correct: 3 },
    rejectedFigures: NO_FIGURES,
  };
  // Nor is there a probability of end tokens where no response has one.
  assert.deepEqual(summarize([result]), {
    ...{ loss: 2, "rewards/chosen": -2, "logps/chosen": -6 },
    ...{ "logits/chosen": -1, entropy: 2, mean_token_accuracy: 1 },
  });
});
