/**
 * SimPER on real pairs, ours and PyTorch's one after the other: the same model, pairs, order and optimizer, in float32.
 *     PYTHON=/path/to/python deno task bench:pairs PAIRS.jsonl[.gz] MODEL_FOLDER [--pairs=8] [--batch=2] [--max_length=512]
 * PyTorch pads as a common trainer does (`peers/torch_pairs.py`). Without PYTHON, with torch and transformers, only
 * ours runs.
 */
import { parseArgs } from "node:util";
import { exitWith } from "../lib/cli/command.ts";
import type { Pair } from "../lib/data/pair.ts";
import { UserError } from "../lib/errors.ts";
import { Pipelines } from "../lib/gpu/program.ts";
import { losses } from "../lib/losses/losses.ts";
import { summarize } from "../lib/training/metrics.ts";
import { readModelConfig } from "../lib/weights/config_file.ts";
import { openModel } from "../lib/weights/weights.ts";
import { sizeOf } from "../lib/batch/size.ts";
import { pack } from "../lib/batch/pack.ts";
import { measuredTiles, openBenchGpu } from "./harness.ts";
import { ADAMW, planTrainer } from "./models.ts";
import { readPairs } from "./read_pairs.ts";

const USAGE = "usage: [PYTHON=/path/to/python] deno task bench:pairs PAIRS.jsonl[.gz] MODEL_FOLDER " +
  "[--pairs=8] [--batch=2] [--max_length=512] [--layers=N]";
const LEARNING_RATE = 1e-6;
const MAX_GRAD_NORM = 1;
/** Largest difference of a loss from PyTorch's, relative to the largest loss. */
const TOLERANCE = 1e-4;
const TIMEOUT_MS = 600_000;

/** Losses and seconds, a step each. */
interface Steps {
  name: string;
  losses: number[];
  seconds: number[];
}

async function ours(folder: string, batches: Pair[][], layers?: number): Promise<Steps> {
  const gpu = await openBenchGpu();
  try {
    const checkpoint = await openModel(folder, console.warn);
    const config = checkpoint.model;
    const pipelines = new Pipelines(gpu);
    const { decoder, runner } = planTrainer(
      gpu,
      { ...config, numHiddenLayers: layers ?? config.numHiddenLayers },
      losses.simper,
      batches,
      {
        slots: 1,
        adamw: { ...ADAMW, weightDecay: 0, maxGradNorm: MAX_GRAD_NORM },
        tiles: await measuredTiles(gpu, pipelines),
      },
    );
    await decoder.allocate(gpu, pipelines);
    await runner.compile(gpu, pipelines);
    await decoder.parameters.load(gpu, checkpoint);
    await checkpoint.close();
    const result: Steps = { name: `ours, ${gpu.name}`, losses: [], seconds: [] };
    for (const [step, pairs] of batches.entries()) {
      const start = performance.now();
      await runner.run(gpu, step, [pairs], LEARNING_RATE);
      const [{ pairs: results }] = await runner.collect(gpu);
      result.seconds.push((performance.now() - start) / 1000);
      result.losses.push(summarize(results).loss);
    }
    decoder.destroy();
    return result;
  } finally {
    gpu.destroy();
  }
}

async function pytorch(
  python: string,
  folder: string,
  batches: Pair[][],
  layers: number,
): Promise<Steps> {
  const file = await Deno.makeTempFile({ prefix: "simper-pairs-", suffix: ".json" });
  try {
    const task = { batches, layers, learning_rate: LEARNING_RATE, max_grad_norm: MAX_GRAD_NORM };
    await Deno.writeTextFile(file, JSON.stringify(task));
    const script = new URL("peers/torch_pairs.py", import.meta.url).pathname;
    const { code, stdout, stderr } = await new Deno.Command(python, {
      args: [script, folder, file],
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }).output();
    const text = new TextDecoder();
    if (code !== 0) throw new UserError(`${python} failed:\n${text.decode(stderr)}`);
    return JSON.parse(text.decode(stdout).trim().split("\n").at(-1)!);
  } finally {
    await Deno.remove(file);
  }
}

/** Pairs a second after the first step, which compiles. */
function rate({ seconds }: Steps, batches: Pair[][]): number {
  const pairs = batches.slice(1).reduce((sum, batch) => sum + batch.length, 0);
  return pairs / seconds.slice(1).reduce((sum, second) => sum + second, 0);
}

/** Tokens that run through the model in a step: packed rows, and padded sequences. */
function tokensOf(batches: Pair[][]): { packed: number; padded: number } {
  const packed = batches.reduce((sum, pairs) => sum + sizeOf(pack(pairs)).tokens, 0);
  const padded = batches.reduce((sum, pairs) => {
    const lengths = pairs.flatMap(({ chosen, rejected }) => [chosen.ids.length, rejected!.ids.length]);
    return sum + lengths.length * Math.max(...lengths);
  }, 0);
  return { packed, padded };
}

await exitWith(async () => {
  let parsed;
  try {
    const text = { type: "string" } as const;
    parsed = parseArgs({
      args: Deno.args,
      allowPositionals: true,
      options: {
        pairs: { ...text, default: "8" },
        batch: { ...text, default: "2" },
        max_length: { ...text, default: "512" },
        layers: text,
      },
    });
  } catch (error) {
    throw new UserError(`${(error as Error).message}\n${USAGE}`, 2);
  }
  const { values, positionals: [file, folder] } = parsed;
  const [count, batch, maxLength] = [values.pairs, values.batch, values.max_length].map(Number);
  if (!folder || !(batch >= 1) || !(count >= 2 * batch) || !(maxLength >= 4)) {
    throw new UserError(`expected data, a model's folder and at least two batches of pairs\n${USAGE}`, 2);
  }
  const truncation = {
    maxLength,
    maxPromptLength: Math.floor(maxLength / 2),
    truncationMode: "keep_end",
  } as const;
  const pairs = await readPairs(file, folder, count, truncation);
  const batches = Array.from(
    { length: Math.floor(pairs.length / batch) },
    (_, i) => pairs.slice(i * batch, (i + 1) * batch),
  );
  const { numHiddenLayers } = await readModelConfig(folder);
  const layers = values.layers ? Math.min(Number(values.layers), numHiddenLayers) : numHiddenLayers;
  const tokens = tokensOf(batches);
  console.log(
    `${batches.length} steps of ${batch} pairs, ${layers} layers: ${tokens.packed} tokens packed with shared prefixes, ` +
      `${tokens.padded} padded; the first step compiles and is not timed`,
  );
  const own = await ours(folder, batches, layers);
  const show = (steps: Steps) =>
    console.log(
      `${steps.name}\n  ${rate(steps, batches).toPrecision(3)} pairs/s; seconds ` +
        `${steps.seconds.map((second) => second.toFixed(2)).join(" ")}; losses ${
          steps.losses.map((loss) => loss.toPrecision(5)).join(" ")
        }`,
    );
  show(own);
  const python = Deno.env.get("PYTHON");
  if (!python) {
    console.log("PyTorch: skipped; PYTHON=/path/to/python, with torch and transformers, adds it");
    return 0;
  }
  const other = await pytorch(python, folder, batches, layers);
  show(other);
  const scale = Math.max(...other.losses.map(Math.abs));
  const difference = Math.max(...own.losses.map((loss, i) => Math.abs(loss - other.losses[i]))) / scale;
  const agree = difference <= TOLERANCE;
  console.log(
    `ours is ${(rate(own, batches) / rate(other, batches)).toFixed(3)} x PyTorch; losses differ by ${
      difference.toExponential(1)
    } at most, ${agree ? "the same" : `MORE THAN ${TOLERANCE}`}`,
  );
  return agree ? 0 : 1;
});
