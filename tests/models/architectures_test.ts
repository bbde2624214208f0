/** Every architecture beside PyTorch: the golden runs of tests/golden/models (its make.sh says how they were made). */
import assert from "node:assert/strict";
import { join } from "node:path";
import { pack } from "../../lib/batch/pack.ts";
import type { Pair } from "../../lib/data/pair.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import type { Pipelines } from "../../lib/gpu/program.ts";
import { BUFFER_TILES, onlyTile } from "../../lib/gpu/tuning.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import type { Capacity } from "../../lib/graph/machine.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import { netOf } from "../../lib/models/models.ts";
import { openModel } from "../../lib/weights/weights.ts";
import { readGolden, readTensors, relativeDifference } from "../golden_run.ts";
import { run } from "../in_process.ts";
import { deviceTest, useGpu } from "../kernels/harness.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const FOLDER = "tests/golden/models";
const NAMES = [
  "arcee",
  "cohere",
  "cohere2",
  "cwm",
  "ernie4_5",
  "exaone4",
  "falcon",
  "falcon-new",
  "gemma",
  "gemma2",
  "gemma3_text",
  "glm4",
  "gpt_neox",
  "gpt_neox-serial",
  "granite",
  "helium",
  "hunyuan_v1_dense",
  "jais2",
  "llama-biases",
  "llama-yarn",
  "ministral",
  "nemotron",
  "olmo2",
  "olmo3",
  "persimmon",
  "phi",
  "phi3",
  "qwen2",
  "qwen3",
  "seed_oss",
  "smollm3",
  "stablelm",
  "stablelm-parallel",
  "starcoder2",
  "vaultgemma",
];

/** The pairs of every golden run. */
const { pairs } = await readGolden("untied");

async function withDecoder<T>(
  pipelines: Pipelines,
  name: string,
  of: readonly Pair[],
  change: Partial<Capacity>,
  body: (decoder: Decoder) => Promise<T>,
): Promise<T> {
  const { gpu } = pipelines;
  const weights = await openModel(`${FOLDER}/${name}`);
  const capacity = { tokens: 512, labels: 512, pairs: of.length, positions: 96, logitsBytes: 2 ** 20 };
  const decoder = new Decoder(
    netOf(weights.model),
    { ...capacity, checkpointing: false, ...change },
    {
      largestBuffer: 2 ** 27,
      loss: wgslOf(losses.simper),
      training: true,
      // A GPU's way, with everything fused that can be; the runs below take a software driver's.
      tiles: onlyTile(BUFFER_TILES["workgroup 8x8 of 8x8"], { fuses: true }),
    },
  );
  try {
    await decoder.allocate(gpu, pipelines);
    await decoder.parameters.load(gpu, weights);
    return await body(decoder);
  } finally {
    await weights.close();
    decoder.destroy();
  }
}

/** Gradients of one step over two uneven batches, by the names of transformers' class. */
async function gradientsOf(gpu: Gpu, decoder: Decoder, of: readonly Pair[]) {
  [of.slice(0, 1), of.slice(1)].forEach((batch, index) => {
    const place = { firstOfStep: index === 0, pairsOfStep: of.length };
    decoder.upload(gpu, pack(batch, decoder.net.windows), place);
    const encoder = gpu.device.createCommandEncoder();
    decoder.encodeForward(encoder);
    decoder.encodeBackward(encoder);
    gpu.device.queue.submit([encoder.finish()]);
  });
  const names = decoder.parameters.namesOf("gradients");
  return new Map(
    await Promise.all(
      names.map(async (name) => [name, await decoder.parameters.read(gpu, name, "gradients")] as const),
    ),
  );
}

useGpu();
for (const name of NAMES) {
  deviceTest(`${name}: logits and the first step's gradients are PyTorch's`, async (pipelines) => {
    const { gpu } = pipelines;
    const golden = `${FOLDER}/${name}-golden`;
    await withDecoder(pipelines, name, [pairs[0]], {}, async (decoder) => {
      const sequence = { ids: [...pairs[0].chosen.ids, 0], promptLength: 1 };
      const batch = pack([{ chosen: sequence, truncated: false, where: "" }], decoder.net.windows);
      const logits = await decoder.logits(gpu, { ...batch, pairs: 0, longest: sequence.ids.length - 1 });
      const expected = (await readTensors(`${golden}/logits.safetensors`)).get("logits")!;
      assert.ok(relativeDifference(logits.slice(-expected.length), expected) < 1e-5, "logits");
    });
    const expected = await readTensors(`${golden}/grads.safetensors`);
    for (const checkpointing of [false, true]) {
      await withDecoder(pipelines, name, pairs.slice(0, 4), { checkpointing }, async (decoder) => {
        const gradients = await gradientsOf(gpu, decoder, pairs.slice(0, 4));
        assert.deepEqual([...gradients.keys()].sort(), [...expected.keys()].sort());
        for (const [tensor, values] of expected) {
          const difference = relativeDifference(gradients.get(tensor)!, values);
          assert.ok(difference < 3e-5, `gradient of ${tensor}: ${difference}`);
        }
      });
    }
  });

  Deno.test(`${name}: a run has PyTorch's log, and saves PyTorch's weights`, () =>
    withTemporaryFolder(async (folder) => {
      const out = join(folder, "out");
      const golden = `${FOLDER}/${name}-golden`;
      await run(out, [`--model_name_or_path=${FOLDER}/${name}`, "--max_steps=-1", "--save_strategy=no"]);
      const { log } = JSON.parse(await Deno.readTextFile(`${golden}/golden.json`));
      const state = JSON.parse(await Deno.readTextFile(join(out, "trainer_state.json")));
      for (const key of Object.keys(log[0])) {
        const series = (entries: Record<string, number>[]) => entries.map((entry) => entry[key]);
        const difference = relativeDifference(series(state.log_history), series(log));
        assert.ok(difference < 1e-4, `${key}: ${difference}`);
      }
      const [start, end, expected] = await Promise.all(
        [`${FOLDER}/${name}`, out, `${golden}/model`].map((at) => readTensors(`${at}/model.safetensors`)),
      );
      assert.deepEqual([...end.keys()].sort(), [...start.keys()].sort());
      for (const [tensor, values] of expected) {
        const [found, before] = [end.get(tensor)!, start.get(tensor)!];
        const largest = (of: (value: number, i: number) => number) =>
          values.reduce((most, value, i) => Math.max(most, Math.abs(of(value, i))), 0);
        const change = largest((value, i) => value - before[i]);
        assert.ok(change > 0, `${tensor} did not change`);
        const difference = largest((value, i) => Number.isNaN(found[i]) ? Infinity : found[i] - value);
        assert.ok(difference < 2e-3 * change, `${tensor}: off by ${difference}, changed by ${change}`);
      }
    }));
}
