import assert from "node:assert/strict";
import {
  epochAfter,
  type SamplerOptions,
  sampleStep,
  stepsPerEpoch,
  totalSteps,
} from "../../lib/training/sampler.ts";

const options = (change: Partial<SamplerOptions> = {}): SamplerOptions => ({
  pairs: 23,
  perBatch: 2,
  batchesPerStep: 3,
  gpus: 1,
  epochs: 3,
  maxSteps: -1,
  strategy: "random",
  seed: 5,
  ...change,
});

/** Indices of one epoch, in the order in which they are trained on. */
const epochOf = (epoch: number, stepsPerEpoch: number, chosen: SamplerOptions) =>
  Array.from({ length: stepsPerEpoch }, (_, i) => sampleStep(epoch * stepsPerEpoch + i, chosen).batches).flat(
    2,
  );

Deno.test("each epoch has every pair once", () => {
  for (const [pairs, perBatch, batchesPerStep] of [[23, 2, 3], [24, 2, 3], [1, 4, 2], [5, 1, 1], [7, 8, 1]]) {
    const chosen = options({ pairs, perBatch, batchesPerStep });
    const steps = Math.ceil(pairs / (perBatch * batchesPerStep));
    assert.equal(totalSteps(chosen), 3 * steps);
    for (let epoch = 0; epoch < 3; epoch++) {
      const seen = epochOf(epoch, steps, chosen);
      assert.deepEqual(seen.sort((a, b) => a - b), [...Array(pairs).keys()]);
    }
  }
});

Deno.test("random order differs from epoch to epoch and from seed to seed, sequential order is the data's", () => {
  const first = epochOf(0, 4, options());
  assert.notDeepEqual(epochOf(1, 4, options()), first);
  assert.notDeepEqual(epochOf(0, 4, options({ seed: 6 })), first);
  const sequential = options({ strategy: "sequential" });
  for (const epoch of [0, 1]) assert.deepEqual(epochOf(epoch, 4, sequential), [...Array(23).keys()]);
});

Deno.test("a step does not depend on which steps were asked for before", () => {
  const forward = Array.from({ length: 12 }, (_, step) => sampleStep(step, options()));
  const backward = Array.from({ length: 12 }, (_, i) => sampleStep(11 - i, options())).reverse();
  assert.deepEqual(backward, forward);
  sampleStep(0, options({ seed: 9 }));
  assert.deepEqual(sampleStep(7, options()), forward[7]);
});

Deno.test("an epoch's last step takes what is left, and counts it", () => {
  const chosen = options({ strategy: "sequential" });
  assert.deepEqual(sampleStep(0, chosen).batches, [[0, 1], [2, 3], [4, 5]]);
  assert.deepEqual(sampleStep(3, chosen), { batches: [[18, 19], [20, 21], [22]], pairs: 5 });
  assert.equal(sampleStep(0, chosen).pairs, 6);
});

Deno.test("steps and epochs are those of transformers' Trainer, which counts batches (golden/epochs/make.py)", async () => {
  const golden: [number, number, number, number, number, number, number[]][] = JSON.parse(
    await Deno.readTextFile("tests/golden/epochs/epochs.json"),
  );
  for (const [pairs, perBatch, batchesPerStep, epochs, maxSteps, trainEpochs, expected] of golden) {
    const chosen = options({ pairs, perBatch, batchesPerStep, epochs, maxSteps });
    const found = Array.from({ length: totalSteps(chosen) }, (_, step) => epochAfter(step + 1, chosen));
    assert.deepEqual(found, expected, JSON.stringify(chosen));
    assert.equal(Math.ceil(totalSteps(chosen) / stepsPerEpoch(chosen)), trainEpochs);
    assert.equal(epochAfter(0, chosen), 0);
  }
});

Deno.test("several GPUs take a batch each at a time, and so an epoch has fewer of them", () => {
  // 12 batches of 23 pairs: 3 for each of 4 GPUs, of which a step accumulates 2.
  const chosen = options({ batchesPerStep: 8, gpus: 4 });
  assert.deepEqual([1, 2, 3, 4].map((steps) => epochAfter(steps, chosen)), [2 / 3, 1, 1 + 2 / 3, 2]);
});

Deno.test("max_steps sets the number of steps, else epochs do, a fraction of one rounded up", () => {
  assert.equal(totalSteps(options({ maxSteps: 5 })), 5);
  assert.equal(totalSteps(options({ maxSteps: 500 })), 500);
  assert.equal(totalSteps(options({ epochs: 0.5 })), 2);
  assert.equal(totalSteps(options({ epochs: 1.3 })), 6);
  assert.equal(totalSteps(options({ epochs: 2, maxSteps: 0 })), 8);
});
