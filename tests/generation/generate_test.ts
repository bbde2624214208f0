/**
 * Greedy answers as transformers', whose cache they were made with: tests/golden/models/greedy.py made what they are
 * compared with.
 */
import assert from "node:assert/strict";
import { generate, type GenerateOptions } from "../../lib/generation/generate.ts";
import { type GeneratorOptions, GpuGenerator } from "../../lib/generation/gpu_generator.ts";
import { GREEDY } from "../../lib/generation/request.ts";
import type { Pipelines } from "../../lib/gpu/program.ts";
import { attentionTiles, BUFFER_TILES, onlyTile } from "../../lib/gpu/tuning.ts";
import { parseModelConfig } from "../../lib/models/config.ts";
import { netOf } from "../../lib/models/models.ts";
import { MemoryPlan } from "../../lib/gpu/memory_plan.ts";
import { Parameters } from "../../lib/parameters/parameters.ts";
import { openModel } from "../../lib/weights/weights.ts";
import { deviceTest, useGpu } from "../kernels/harness.ts";

interface Case {
  prompt: number[];
  answer: number[];
  logProbabilities: number[];
}

interface Golden {
  folder: string;
  /** Of config.json, what is set otherwise. */
  config?: Record<string, unknown>;
  cases: Case[];
}

type Answer = (options: GenerateOptions) => Promise<number[]>;

const goldens: Golden[] = JSON.parse(await Deno.readTextFile("tests/golden/models/greedy.json"));
/** As on a GPU, and as on the processor. */
const DEVICES: Record<string, Pick<GeneratorOptions, "device" | "tiles" | "attention">> = {
  gpu: { device: "gpu", tiles: onlyTile(BUFFER_TILES["workgroup 8x8 of 8x8"], { fuses: true }) },
  software: {
    device: "software",
    tiles: onlyTile(BUFFER_TILES["storage 8x8"]),
    attention: attentionTiles("software"),
  },
};

/** Runs `body` with a generator of a golden model. */
async function withModel(
  pipelines: Pipelines,
  { folder, config }: Golden,
  options: Partial<GeneratorOptions>,
  body: (generator: GpuGenerator) => Promise<void>,
): Promise<void> {
  const { gpu } = pipelines;
  const largestBuffer = 2 ** 27;
  const weights = await openModel(folder);
  const json = JSON.parse(await Deno.readTextFile(`${folder}/config.json`));
  const net = netOf(parseModelConfig({ ...json, ...config }, folder));
  const plan = new MemoryPlan();
  const parameters = new Parameters(plan, net.parameters, largestBuffer, { training: false });
  const how = { positions: 64, largestBuffer, ...DEVICES.gpu, ...options } as GeneratorOptions;
  const generator = new GpuGenerator(net, parameters, how, plan);
  plan.share(generator.calls, largestBuffer);
  try {
    await plan.allocate(gpu);
    await generator.compile(gpu, pipelines);
    await parameters.load(gpu, weights);
    await body(generator);
  } finally {
    await weights.close();
    plan.destroy();
  }
}

useGpu();
for (const golden of goldens) {
  const { folder, config, cases } = golden;
  // Every architecture by one of the two, in turn.
  const [device, options] = Object.entries(DEVICES)[goldens.indexOf(golden) % 2];
  const { rope_type } = (config?.rope_parameters ?? {}) as { rope_type?: string };
  deviceTest(
    `${folder}${
      rope_type ? `, ${rope_type}` : ""
    }: greedy answers, alone and together, are transformers' (${device})`,
    (pipelines) =>
      withModel(pipelines, golden, { ...options, answers: cases.length }, async (generator) => {
        const answer = async ({ prompt, answer, logProbabilities }: Case) => {
          const told = await Array.fromAsync(
            generator.tokens({
              ids: prompt,
              maxNewTokens: answer.length,
              sampling: GREEDY,
              eosTokenIds: [],
              top: 0,
              echo: false,
            }),
          );
          assert.deepEqual(told.map(({ id }) => id), answer);
          for (const [i, { logProbability }] of told.entries()) {
            assert.ok(Math.abs(logProbability - logProbabilities[i]) < 1e-5, `token ${i}`);
          }
        };
        await Promise.all(cases.map(answer));
        // The longest one alone; it begins with what is still there of it.
        await answer(cases.at(-1)!);
      }),
  );
}

deviceTest(
  "an answer ends before the EOS token, after the most tokens asked for, and where the room ends",
  async (pipelines) => {
    const llama = goldens.find(({ folder }) => folder === "tests/golden/llama/untied")!;
    const [{ prompt, answer: expected }] = llama.cases;
    const full = { maxNewTokens: expected.length };
    const withAnswer = (options: Partial<GeneratorOptions>, body: (answer: Answer) => Promise<void>) =>
      withModel(
        pipelines,
        llama,
        options,
        (generator) => body((options) => generate(generator, prompt, options)),
      );
    await withAnswer({}, async (answer) => {
      const eosTokenId = expected[11];
      assert.equal(expected.indexOf(eosTokenId), 11);
      assert.deepEqual(await answer({ ...full, eosTokenIds: [eosTokenId] }), expected.slice(0, 11));
      assert.deepEqual(await answer({ ...full, eosTokenIds: [expected[0]] }), []);
      assert.deepEqual(await answer({ maxNewTokens: 3 }), expected.slice(0, 3));
    });
    await withAnswer({ positions: prompt.length + 4 }, async (answer) => {
      assert.deepEqual(await answer(full), expected.slice(0, 4));
    });
  },
);
