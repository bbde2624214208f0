import assert from "node:assert/strict";
import { learningRate, type Scheduler, stepsOf } from "../../lib/training/schedule.ts";

/**
 * transformers 5.17.0's `get_scheduler(type, SGD(lr=0.5), num_warmup_steps, num_training_steps=10)`:
 * `get_last_lr()` before each of ten `step()`s.
 */
const TRANSFORMERS: [Scheduler, number, number[]][] = [
  // deno-fmt-ignore
  ["cosine", 0, [0.5, 0.4877641290737884, 0.45225424859373686, 0.3969463130731183, 0.32725424859373686, 0.25,
    0.17274575140626316, 0.10305368692688174, 0.047745751406263165, 0.012235870926211617]],
  // deno-fmt-ignore
  ["cosine", 3, [0.0, 0.16666666666666666, 0.3333333333333333, 0.5, 0.47524221697560476, 0.4058724504646834,
    0.3056302334890786, 0.19436976651092142, 0.09412754953531663, 0.02475778302439524]],
  ["linear", 0, [0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05]],
  // deno-fmt-ignore
  ["linear", 3, [0.0, 0.16666666666666666, 0.3333333333333333, 0.5, 0.42857142857142855, 0.35714285714285715,
    0.2857142857142857, 0.21428571428571427, 0.14285714285714285, 0.07142857142857142]],
  ["constant", 0, new Array(10).fill(0.5)],
  ["constant_with_warmup", 0, new Array(10).fill(0.5)],
  ["constant_with_warmup", 3, [0.0, 0.16666666666666666, 0.3333333333333333, ...new Array(7).fill(0.5)]],
];

for (const [type, warmupSteps, expected] of TRANSFORMERS) {
  Deno.test(`${type} with ${warmupSteps} steps of warm-up equals transformers`, () => {
    const schedule = { type, learningRate: 0.5, totalSteps: 10, warmupSteps };
    const found = expected.map((_, step) => learningRate(step, schedule));
    for (const [step, rate] of found.entries()) {
      assert.ok(Math.abs(rate - expected[step]) < 1e-15, `step ${step}: ${rate}, not ${expected[step]}`);
    }
  });
}

Deno.test("constant warms up where a warm-up is asked for", () => {
  const schedule = { type: "constant", learningRate: 3, totalSteps: 9, warmupSteps: 3 } as const;
  assert.deepEqual([0, 1, 2, 3, 8].map((step) => learningRate(step, schedule)), [0, 1, 2, 3, 3]);
});

Deno.test("steps below 1 are a share of all steps, rounded up as transformers does", () => {
  // math.ceil(num_training_steps * ratio)
  const shares = [[0.1, 8], [0.1, 10], [0.1, 11], [0.5, 7], [0.99, 3]].map(([share, all]) =>
    stepsOf(share, all)
  );
  assert.deepEqual(shares, [1, 1, 2, 4, 3]);
  assert.deepEqual([0, 1, 12].map((steps) => stepsOf(steps, 10)), [0, 1, 12]);
});

Deno.test("a run that is all warm-up, or of one step, has finite rates", () => {
  for (const type of ["cosine", "linear", "constant", "constant_with_warmup"] as const) {
    const all = { type, learningRate: 1, totalSteps: 4, warmupSteps: 4 };
    assert.deepEqual([0, 1, 2, 3].map((step) => learningRate(step, all)), [0, 0.25, 0.5, 0.75]);
    assert.equal(learningRate(0, { type, learningRate: 1, totalSteps: 1, warmupSteps: 0 }), 1);
  }
});
