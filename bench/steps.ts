/** Times optimizer steps as the training loop makes them, and shapes cut to what an adapter holds. */
import { pack } from "../lib/batch/pack.ts";
import type { Pair } from "../lib/data/pair.ts";
import { UserError } from "../lib/errors.ts";
import type { Gpu } from "../lib/gpu/device.ts";
import { formatBytes } from "../lib/text/format_bytes.ts";
import { type Profile, Profiler } from "../lib/gpu/profiler.ts";
import { losses } from "../lib/losses/losses.ts";
import { sizeOf } from "../lib/batch/size.ts";
import type { LlamaConfig } from "../lib/models/llama.ts";
import { netOf } from "../lib/models/models.ts";
import { adapterOf } from "../lib/planning/plan.ts";
import { busySeconds } from "../lib/report/profile.ts";
import type { StepResult } from "../lib/training/step_figures.ts";
import { operationsOf } from "./flops.ts";
import { median } from "./harness.ts";
import { planTrainer, randomPairs, type Trainer, type TrainerOptions } from "./models.ts";

export const LEARNING_RATE = 1e-6;

/** One step: seconds on the clock, of the device's work, and what the host did in the meantime by its name. */
export interface StepTime {
  seconds: number;
  /** From the first kernel of each submission to its last. Unknown where the adapter has no timestamp queries. */
  busy?: number;
  host: Record<string, number>;
}

/**
 * Runs steps as the training loop does that shows the figures of each, and times `steps` of them: on a driver on the
 * processor from a step's beginning to its figures; on a GPU, which has the next step by the time that they are waited
 * for, from one step's figures to the next's.
 */
export async function timeSteps(
  gpu: Gpu,
  trainer: Trainer,
  batches: Pair[][],
  steps: number,
  overlaps = !gpu.isSoftware,
): Promise<StepTime[]> {
  const profiler = Profiler.isSupported(gpu) ? new Profiler(gpu, { each: "pass" }) : undefined;
  const device = profiler?.gpu ?? gpu;
  if (overlaps) {
    const seconds = await intervals(gpu, device, trainer, batches, steps);
    const profile = await profiler?.collect();
    const { host } = timesOf(profile, steps + 2);
    const share = profile && busyShare(profile);
    return seconds.map((seconds) => ({ seconds, busy: share && share * seconds, host }));
  }
  const times: StepTime[] = [];
  for (let step = 0; step < steps; step++) {
    const start = performance.now();
    await runStep(device, trainer, batches);
    const seconds = (performance.now() - start) / 1000;
    times.push({ seconds, ...timesOf(await profiler?.collect(), 1) });
  }
  return times;
}

/** Seconds between the figures of `steps` steps and those of the one before each. */
async function intervals(
  gpu: Gpu,
  device: Gpu,
  { runner }: Trainer,
  batches: Pair[][],
  steps: number,
): Promise<number[]> {
  const arrivals: number[] = [];
  // One whose figures begin the first interval, and one that the GPU has when the last ends.
  for (let step = 0; step < steps + 2; step++) {
    const read = runner.turn();
    let figures: Promise<StepResult[]> | undefined;
    await runner.run(device, updates++, batches, LEARNING_RATE, { onEncoded: () => figures = read?.(gpu) });
    if (!figures) continue;
    checkFinite(await figures);
    arrivals.push(performance.now() / 1000);
  }
  checkFinite(await runner.collect(gpu));
  return arrivals.slice(1).map((arrival, i) => arrival - arrivals[i]);
}

/** The part of the time from the first kernel to the last in which the device is busy. */
function busyShare({ kernels }: Profile): number {
  const start = Math.min(...kernels.map(({ start }) => start));
  const end = Math.max(...kernels.map(({ start, seconds }) => start + seconds));
  return busySeconds(kernels) / (end - start);
}

/** Seconds of a step's work on the device and on the host, of the profile of so many like it. */
function timesOf(profile: Profile | undefined, steps: number): Omit<StepTime, "seconds"> {
  const host: StepTime["host"] = {};
  for (const { name, seconds } of profile?.host ?? []) host[name] = (host[name] ?? 0) + seconds / steps;
  return { busy: profile && busySeconds(profile.kernels) / steps, host };
}

/** One step with a pass for each kernel. */
export async function profileStep(gpu: Gpu, trainer: Trainer, batches: Pair[][]): Promise<Profile> {
  const profiler = new Profiler(gpu, { each: "dispatch", workSize: () => trainer.decoder.workSize() });
  await profiler.time("step", () => runStep(profiler.gpu, trainer, batches));
  return await profiler.collect();
}

/** A step on a pair of a few tokens, which compiles every kernel and touches weights, gradients and moments. */
export async function warmUp(gpu: Gpu, trainer: Trainer): Promise<void> {
  await runStep(gpu, trainer, [randomPairs(8, 1, trainer.decoder.net.vocabSize)]);
}

let updates = 0;

async function runStep(gpu: Gpu, { runner }: Trainer, batches: Pair[][]): Promise<void> {
  await runner.run(gpu, updates++, batches, LEARNING_RATE);
  checkFinite(await runner.collect(gpu));
}

function checkFinite(results: readonly StepResult[]): void {
  if (results.some(({ clip }) => clip.broken)) throw new Error("the gradient is not finite");
}

/** The step of median length. */
export const medianStep = (times: StepTime[]): StepTime => {
  const middle = median(times.map(({ seconds }) => seconds));
  return times.find(({ seconds }) => seconds === middle)!;
};

/** What a measured model may take. */
export interface Limits {
  /** Bytes of the whole plan. */
  memory: number;
  /** Floating-point operations of a step; the least of a model that there is may take more. */
  flops: number;
}

/** A shape that fits, its batches and plan. */
export interface Fitted {
  config: LlamaConfig;
  batches: Pair[][];
  trainer: Trainer;
}

export function flopsOf(config: LlamaConfig, batches: Pair[][]): number {
  const net = netOf(config);
  return batches.reduce((sum, pairs) => sum + operationsOf(net, sizeOf(pack(pairs, net.windows))).total, 0);
}

/**
 * Cuts `config` to what the adapter holds and `limits` allow: matrices that it cannot bind, then layers, then, where
 * one layer is still too much, the vocabulary.
 *
 * @throws {UserError} where that is not enough.
 */
export function fit(
  gpu: Gpu,
  config: LlamaConfig,
  batchesOf: (config: LlamaConfig) => Pair[][],
  options: Pick<TrainerOptions, "checkpointing" | "tiles">,
  limits: Limits,
): Fitted {
  const plan = (config: LlamaConfig) =>
    planTrainer(gpu, config, losses.simper, batchesOf(config), { slots: 1, ...options });
  let fitted = cutWidths(config, adapterOf(gpu).largestBuffer, plan);
  for (;;) {
    const batches = batchesOf(fitted);
    for (let layers = config.numHiddenLayers; layers >= 1; layers--) {
      const fewer = { ...fitted, numHiddenLayers: layers };
      if (flopsOf(fewer, batches) > limits.flops) continue;
      const trainer = plan(fewer);
      if (trainer.decoder.plan.bytes > limits.memory) continue;
      return { config: fewer, batches, trainer };
    }
    if (fitted.vocabSize < 2 * LEAST_VOCABULARY) break;
    fitted = { ...fitted, vocabSize: Math.floor(fitted.vocabSize / 128) * 64 };
  }
  // The least is measured however long it takes.
  const least = { ...fitted, numHiddenLayers: 1 };
  const trainer = plan(least);
  const { bytes } = trainer.decoder.plan;
  if (bytes <= limits.memory) return { config: least, batches: batchesOf(least), trainer };
  throw new UserError(
    `one layer takes ${formatBytes(bytes)} of ${
      formatBytes(limits.memory)
    }: lower --tokens, or raise --memory`,
  );
}

const LEAST_VOCABULARY = 1024;

/** What `fitted` has less of than `config`, for people. */
export const cutsOf = (fitted: LlamaConfig, config: LlamaConfig): string[] =>
  ([["numHiddenLayers", "layers"], ["vocabSize", "vocabulary"], ["intermediateSize", "MLP width"]] as const)
    .filter(([field]) => fitted[field] < config[field])
    .map(([field, name]) => `${name} ${fitted[field]} of ${config[field]}`);

/** Where the plan refuses a matrix as larger than a binding: a smaller vocabulary, then a narrower MLP. */
function cutWidths(
  config: LlamaConfig,
  largestBuffer: number,
  plan: (config: LlamaConfig) => unknown,
): LlamaConfig {
  const { hiddenSize, vocabSize, intermediateSize } = config;
  const bound = (rows: number, matrices: number) =>
    Math.min(rows, Math.floor(largestBuffer / (4 * hiddenSize * matrices * 64)) * 64);
  const smaller = { ...config, vocabSize: bound(vocabSize, 1) };
  const narrower = { ...smaller, intermediateSize: bound(intermediateSize, 2) };
  for (const candidate of [config, smaller]) {
    try {
      plan({ ...candidate, numHiddenLayers: 1 });
      return candidate;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
    }
  }
  return narrower;
}
