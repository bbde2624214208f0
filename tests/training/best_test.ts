import assert from "node:assert/strict";
import { bestOf } from "../../lib/training/best.ts";

const entries = (...values: number[]) =>
  values.map((value, i) => ({ step: i + 1, epoch: 0, eval_loss: value, "eval_rewards/margins": -value }));
const least = { metricForBestModel: "loss", greaterIsBetter: false } as const;
const greatest = { metricForBestModel: "rewards/margins", greaterIsBetter: true } as const;

Deno.test("the best is the least or the greatest, the first of equals", () => {
  const log = entries(3, 1, 2, 1);
  assert.deepEqual(bestOf(log, least), { step: 2, value: 1 });
  assert.deepEqual(bestOf(log, greatest), { step: 2, value: -1 });
  assert.deepEqual(bestOf(log, { ...least, greaterIsBetter: true }), { step: 1, value: 3 });
});

Deno.test("the evaluation before the first step is never the best, nor one that is no finite number, nor training", () => {
  const start = { step: 0, epoch: 0, eval_loss: 0 };
  const training = { step: 1, epoch: 0, loss: 0 };
  assert.deepEqual(bestOf([start, training, ...entries(3, -Infinity, NaN, 2)], least), { step: 4, value: 2 });
  assert.equal(bestOf([start], least), undefined);
  assert.equal(bestOf(entries(1), { metricForBestModel: undefined, greaterIsBetter: undefined }), undefined);
});
