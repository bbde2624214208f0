/** Greedy answers as PyTorch's: tests/golden/llama/greedy.py made those that they are compared with. */
import assert from "node:assert/strict";
import { generate, type GenerateOptions } from "../../lib/generation/generate.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { BUFFER_TILES, onlyTile } from "../../lib/gpu/tuning.ts";
import { simper } from "../../lib/losses/simper.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { netOf } from "../../lib/models/models.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { GOLDEN } from "../golden_run.ts";

const golden: { model: string; prompt: number[]; answer: number[] }[] = JSON.parse(
  await Deno.readTextFile(`${GOLDEN}/greedy.json`),
);
type Generate = (prompt: readonly number[], options: GenerateOptions) => Promise<number[]>;

/** Runs `body` with a golden model that has room for so many tokens, at so many positions. */
async function withModel(
  model: string,
  { tokens, positions }: { tokens: number; positions: number },
  body: (answer: Generate) => Promise<void>,
): Promise<void> {
  const gpu = await openGpu();
  const folder = `${GOLDEN}/${model}`;
  const decoder = new Decoder(
    netOf(await readModelConfig(folder)),
    { tokens, labels: 1, pairs: 1, positions, logitsBytes: 2 ** 20, checkpointing: false },
    {
      largestBuffer: 2 ** 27,
      loss: simper.wgsl,
      training: false,
      tiles: onlyTile(BUFFER_TILES["workgroup 8x8 of 8x8"], { fuses: true }),
    },
  );
  try {
    await decoder.allocate(gpu, new Pipelines(gpu));
    const checkpoint = await openCheckpoint(folder);
    await decoder.parameters.load(gpu, checkpoint);
    await checkpoint.close();
    await body((prompt, options) => generate(gpu, decoder, prompt, options));
  } finally {
    decoder.destroy();
    gpu.destroy();
  }
}

for (const model of new Set(golden.map(({ model }) => model))) {
  Deno.test(`greedy answers of ${model} are PyTorch's`, () =>
    withModel(model, { tokens: 32, positions: 32 }, async (answer) => {
      for (const { prompt, answer: expected } of golden.filter((item) => item.model === model)) {
        assert.deepEqual(await answer(prompt, { maxNewTokens: expected.length }), expected);
      }
    }));
}

Deno.test("an answer ends before the EOS token, after the most tokens asked for, and where the room ends", async () => {
  const [{ model, prompt, answer: expected }] = golden;
  const full = { maxNewTokens: expected.length };
  await withModel(model, { tokens: 32, positions: 32 }, async (answer) => {
    const eosTokenId = expected[7];
    assert.equal(expected.indexOf(eosTokenId), 7);
    assert.deepEqual(await answer(prompt, { ...full, eosTokenId }), expected.slice(0, 7));
    assert.deepEqual(await answer(prompt, { ...full, eosTokenId: expected[0] }), []);
    assert.deepEqual(await answer(prompt, { maxNewTokens: 3 }), expected.slice(0, 3));
  });
  for (
    const room of [{ tokens: 32, positions: prompt.length + 4 }, { tokens: prompt.length + 4, positions: 32 }]
  ) {
    await withModel(model, room, async (answer) => {
      assert.deepEqual(await answer(prompt, full), expected.slice(0, 4));
    });
  }
});
