/**
 * What each precision of products makes of a real run: SimPER, a pair a step, with the losses of all steps and the
 * gradient of the first one written to a folder, where `peers/torch_precision.py` compares them with PyTorch's.
 *     deno run -A bench/precision.ts PAIRS.jsonl[.gz] MODEL_FOLDER FOLDER highest|high|medium [--steps=100] [--max_length=64]
 * The matrices of `high` and `medium` are Dawn's: SIMPER_WEBGPU_ENGINE=dawn.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { exitWith } from "../lib/cli/command.ts";
import { UserError } from "../lib/errors.ts";
import { Pipelines } from "../lib/gpu/program.ts";
import { deviceClass, tilesOf, usualTuning } from "../lib/gpu/tuning.ts";
import { losses } from "../lib/losses/losses.ts";
import { precisionOn } from "../lib/planning/precision.ts";
import { writeSafetensors } from "../lib/safetensors/write.ts";
import { summarize } from "../lib/training/metrics.ts";
import { openModel } from "../lib/weights/weights.ts";
import { openBenchGpu } from "./harness.ts";
import { ADAMW, planTrainer } from "./models.ts";
import { readPairs } from "./read_pairs.ts";

const USAGE =
  "usage: deno run -A bench/precision.ts PAIRS.jsonl[.gz] MODEL_FOLDER FOLDER highest|high|medium " +
  "[--steps=100] [--max_length=64]";
/** High enough that a hundred steps change what the model says. */
const LEARNING_RATE = 1e-5;
const MAX_GRAD_NORM = 1;

await exitWith(async () => {
  const text = { type: "string" } as const;
  const { values, positionals: [file, model, folder, precision] } = parseArgs({
    args: Deno.args,
    allowPositionals: true,
    options: { steps: { ...text, default: "100" }, max_length: { ...text, default: "64" } },
  });
  const [steps, maxLength] = [values.steps, values.max_length].map(Number);
  if (
    !(precision === "highest" || precision === "high" || precision === "medium") || !(steps >= 1) ||
    !(maxLength >= 8)
  ) throw new UserError(USAGE, 2);
  const maxPromptLength = Math.floor(maxLength / 2);
  const pairs = await readPairs(file, model, steps, {
    maxLength,
    maxPromptLength,
    truncationMode: "keep_end",
  });
  await mkdir(folder, { recursive: true });
  const batches = pairs.map((pair) => [pair]);
  const task = { batches, learning_rate: LEARNING_RATE, max_grad_norm: MAX_GRAD_NORM };
  await writeFile(join(folder, "task.json"), JSON.stringify(task));

  const gpu = await openBenchGpu();
  try {
    const tuning = usualTuning(deviceClass(gpu), precisionOn(gpu, { float32MatmulPrecision: precision }));
    const checkpoint = await openModel(model, console.warn);
    const pipelines = new Pipelines(gpu);
    const { decoder, runner } = planTrainer(gpu, checkpoint.model, losses.simper, batches, {
      slots: 1,
      adamw: { ...ADAMW, weightDecay: 0, maxGradNorm: MAX_GRAD_NORM },
      tiles: tilesOf(tuning, gpu),
    });
    await decoder.allocate(gpu, pipelines);
    await runner.compile(gpu, pipelines);
    const { parameters } = decoder;
    await parameters.load(gpu, checkpoint);
    await checkpoint.close();
    const done: { loss: number; grad_norm: number; seconds: number }[] = [];
    for (const [step, batch] of batches.entries()) {
      const start = performance.now();
      await runner.run(gpu, step, [batch], LEARNING_RATE);
      const [{ pairs: results, clip }] = await runner.collect(gpu);
      const seconds = (performance.now() - start) / 1000;
      done.push({ loss: summarize(results).loss, grad_norm: clip.norm, seconds });
      console.log(`${precision} ${step + 1} of ${steps}: ${JSON.stringify(done.at(-1))}`);
      // What there is of a run that is cut off can be compared too.
      await writeFile(join(folder, `${precision}.json`), JSON.stringify({ adapter: gpu.name, steps: done }));
      if (step > 0) continue;
      await writeSafetensors(
        join(folder, `${precision}.safetensors`),
        parameters.namesOf("gradients").map((name) => ({
          name,
          dtype: "F32",
          shape: parameters.shape(name),
          chunks: async function* () {
            yield new Uint8Array((await parameters.read(gpu, name, "gradients")).buffer);
          },
        })),
      );
    }
    decoder.destroy();
    return 0;
  } finally {
    gpu.destroy();
  }
});
