/** Greedy answers as PyTorch's: tests/golden/llama/greedy.py made those that they are compared with. */
import assert from "node:assert/strict";
import { generate, type GenerateOptions } from "../../lib/generation/generate.ts";
import { GpuGenerator } from "../../lib/generation/gpu_generator.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { BUFFER_TILES, onlyTile } from "../../lib/gpu/tuning.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { netOf } from "../../lib/models/models.ts";
import { MemoryPlan } from "../../lib/gpu/memory_plan.ts";
import { Parameters } from "../../lib/parameters/parameters.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { GOLDEN } from "../golden_run.ts";

const golden: { model: string; prompt: number[]; answer: number[] }[] = JSON.parse(
  await Deno.readTextFile(`${GOLDEN}/greedy.json`),
);
type Generate = (prompt: readonly number[], options: GenerateOptions) => Promise<number[]>;

/** Runs `body` with a golden model that has room for so many positions. */
async function withModel(
  model: string,
  positions: number,
  body: (answer: Generate) => Promise<void>,
): Promise<void> {
  const gpu = await openGpu();
  const folder = `${GOLDEN}/${model}`;
  const largestBuffer = 2 ** 27;
  const net = netOf(await readModelConfig(folder));
  const plan = new MemoryPlan();
  const parameters = new Parameters(plan, net.parameters, largestBuffer, { training: false });
  const tiles = onlyTile(BUFFER_TILES["workgroup 8x8 of 8x8"], { fuses: true });
  try {
    const options = { positions, largestBuffer, device: "gpu", tiles } as const;
    const generator = new GpuGenerator(net, parameters, options, plan);
    plan.share(generator.calls, largestBuffer);
    await plan.allocate(gpu);
    await generator.compile(gpu, new Pipelines(gpu));
    const checkpoint = await openCheckpoint(folder);
    await parameters.load(gpu, checkpoint);
    await checkpoint.close();
    await body((prompt, options) => generate(generator, prompt, options));
  } finally {
    plan.destroy();
    gpu.destroy();
  }
}

for (const model of new Set(golden.map(({ model }) => model))) {
  Deno.test(`greedy answers of ${model} are PyTorch's`, () =>
    withModel(model, 32, async (answer) => {
      for (const { prompt, answer: expected } of golden.filter((item) => item.model === model)) {
        assert.deepEqual(await answer(prompt, { maxNewTokens: expected.length }), expected);
      }
    }));
}

Deno.test("an answer ends before the EOS token, after the most tokens asked for, and where the room ends", async () => {
  const [{ model, prompt, answer: expected }] = golden;
  const full = { maxNewTokens: expected.length };
  await withModel(model, 32, async (answer) => {
    const eosTokenId = expected[7];
    assert.equal(expected.indexOf(eosTokenId), 7);
    assert.deepEqual(await answer(prompt, { ...full, eosTokenIds: [eosTokenId] }), expected.slice(0, 7));
    assert.deepEqual(await answer(prompt, { ...full, eosTokenIds: [expected[0]] }), []);
    assert.deepEqual(await answer(prompt, { maxNewTokens: 3 }), expected.slice(0, 3));
  });
  await withModel(model, prompt.length + 4, async (answer) => {
    assert.deepEqual(await answer(prompt, full), expected.slice(0, 4));
  });
});
