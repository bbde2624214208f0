/** Optimizer steps that nobody waits for leave what steps leave that are waited for one by one. */
import assert from "node:assert/strict";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines, readTensor } from "../../lib/gpu/program.ts";
import { losses } from "../../lib/losses/losses.ts";
import type { StepResult } from "../../lib/training/step_figures.ts";
import { openTrainer, randomPair, TINY_LLAMA, type Trainer } from "../../bench/models.ts";
import { assertEqualBytes } from "../equal_bytes.ts";

const config = { ...TINY_LLAMA, vocabSize: 256, hiddenSize: 64, intermediateSize: 96, numHiddenLayers: 2 };
const batches = [1, 2, 3, 4, 5].map((seed) => [
  randomPair({ prefix: 12, chosen: 10, rejected: 8 + seed }, config.vocabSize, seed),
]);
const SLOTS = 2;

type Gpu = Awaited<ReturnType<typeof openGpu>>;

/** What `train` leaves of a new model's steps: their results, in order, and the bits of its weights. */
async function left(
  gpu: Gpu,
  pipelines: Pipelines,
  train: (runner: Trainer["runner"]) => Promise<StepResult[]>,
): Promise<{ results: StepResult[]; bits: Uint32Array }> {
  const { decoder, runner } = await openTrainer(gpu, pipelines, config, losses.simper, batches, {
    slots: SLOTS,
  });
  try {
    const results = await train(runner);
    const { weights } = decoder.parameters.list.find(({ spec }) => spec.kind === "matrix")!;
    return { results, bits: new Uint32Array(await readTensor(gpu, weights)) };
  } finally {
    decoder.destroy();
  }
}

Deno.test("figures that are read while the next step goes on are the steps' own, in order", async () => {
  const gpu = await openGpu();
  try {
    const pipelines = new Pipelines(gpu);
    const oneByOne = await left(gpu, pipelines, async (runner) => {
      const results: StepResult[] = [];
      for (const [step, pairs] of batches.entries()) {
        await runner.run(gpu, step, [pairs], 1e-3);
        results.push(...await runner.collect(gpu));
      }
      return results;
    });
    const overlapped = await left(gpu, pipelines, async (runner) => {
      const results: StepResult[] = [];
      for (const [step, pairs] of batches.entries()) {
        // Two steps in one buffer, and one in the other.
        const read = runner.isFull ? runner.turn() : undefined;
        let figures: Promise<StepResult[]> | undefined;
        await runner.run(gpu, step, [pairs], 1e-3, { onEncoded: () => figures = read?.(gpu) });
        results.push(...await figures ?? []);
      }
      assert.equal(results.length, 4);
      return [...results, ...await runner.collect(gpu)];
    });
    assert.deepEqual(oneByOne.results.map(({ step }) => step), [0, 1, 2, 3, 4]);
    assert.ok(oneByOne.results.every(({ clip, pairs }) => clip.norm > 0 && pairs.length === 1));
    assert.deepEqual(overlapped.results, oneByOne.results);
    assertEqualBytes(overlapped.bits, oneByOne.bits);
  } finally {
    gpu.destroy();
  }
});
