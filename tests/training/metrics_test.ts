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
/** For each pair: loss, sum of chosen, sum of rejected, and a number without meaning. */
const RESULTS = Float32Array.of(0.5, -2, -3, 0, -0.25, -1, -0.5, 0);

Deno.test("pairResults() joins the kernel's sums with the labels of the batch", () => {
  assert.deepEqual(pairResults(RESULTS, batch), [
    { loss: 0.5, chosen: -2, rejected: -3, chosenLabels: 4, rejectedLabels: 2 },
    { loss: -0.25, chosen: -1, rejected: -0.5, chosenLabels: 1, rejectedLabels: 2 },
  ]);
});

Deno.test("pairResults() does not read beyond the pairs of the batch", () => {
  assert.equal(pairResults(Float32Array.of(...RESULTS, 9, 9, 9, 9), batch).length, 2);
});

Deno.test("summarize() gives means over pairs, with rewards as mean log-probabilities", () => {
  assert.deepEqual(summarize(pairResults(RESULTS, batch)), {
    loss: 0.125,
    "rewards/chosen": (-2 / 4 - 1 / 1) / 2,
    "rewards/rejected": (-3 / 2 - 0.5 / 2) / 2,
    "rewards/accuracies": 0.5,
    "rewards/margins": ((-0.5 + 1.5) + (-1 + 0.25)) / 2,
    "logps/chosen": -1.5,
    "logps/rejected": -1.75,
  });
});

Deno.test("an equal reward does not count as accurate", () => {
  const even = { loss: 0, chosen: -1, rejected: -2, chosenLabels: 1, rejectedLabels: 2 };
  assert.equal(summarize([even])["rewards/accuracies"], 0);
});

Deno.test("without rejected responses their figures are left out", () => {
  const result = { loss: 2, chosen: -6, rejected: 0, chosenLabels: 3, rejectedLabels: 0 };
  assert.deepEqual(summarize([result]), { loss: 2, "rewards/chosen": -2, "logps/chosen": -6 });
});
