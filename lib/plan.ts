import { totalmem } from "node:os";
import { packedSize } from "./batch.ts";
import type { TrainConfig } from "./config/schema.ts";
import type { Pair } from "./data/tokenize.ts";
import { UserError } from "./errors.ts";
import type { Gpu } from "./gpu/device.ts";
import { formatBytes } from "./gpu/memory.ts";
import type { Loss } from "./loss/loss.ts";
import type { Capacity } from "./model/activations.ts";
import type { ModelConfig } from "./model/config.ts";
import { Decoder } from "./model/decoder.ts";
import { AdamW } from "./optimizer.ts";
import { type SamplerOptions, sampleStep, totalSteps } from "./sampler.ts";
import { StepRunner } from "./step.ts";

/** What a run computes, as far as its memory and its time depend on it. */
export interface Workload {
  model: ModelConfig;
  loss: Loss;
  train: { pairs: readonly Pair[] };
  test?: { pairs: readonly Pair[] };
  /** Prompts to answer before and after. */
  prompts: readonly { ids: ArrayLike<number> }[];
  sampler: SamplerOptions;
  totalSteps: number;
}

/** Most tokens of an answer to one of `prompts`. */
export const ANSWER_TOKENS = 64;
/** Bytes of logits at a time: large pieces keep the matrix product busy, and a GPU has this much to spare. */
const LOGITS_BYTES = 128 * 2 ** 20;
/** Steps whose figures may wait to be read. */
const STEPS_IN_FLIGHT = 8;

/**
 * How `config` makes optimizer steps of `pairs` pairs. One device makes the passes of all the run's GPUs, one after the
 * other: the same pairs in the same step.
 */
export function samplerOf(config: TrainConfig, pairs: number): SamplerOptions {
  return {
    pairs,
    perBatch: config.perDeviceTrainBatchSize,
    batchesPerStep: config.gradientAccumulationSteps * config.numGpus,
    epochs: config.numTrainEpochs,
    maxSteps: config.maxSteps,
    strategy: config.trainSamplingStrategy,
    seed: config.seed,
  };
}

/** The largest batch of a run: every micro-batch that training and evaluation will pack is looked at. */
export function capacityOf(
  { train, test, prompts, sampler, totalSteps }: Workload,
  config: Pick<TrainConfig, "perDeviceEvalBatchSize" | "gradientCheckpointing">,
  largestBuffer: number,
): Capacity {
  const sizes = train.pairs.map(packedSize);
  const testSizes = test?.pairs.map(packedSize) ?? [];
  const largest = { tokens: 1, labels: 1, pairs: 1 };
  const fit = (batch: { tokens: number; labels: number }[]) => {
    largest.tokens = Math.max(largest.tokens, batch.reduce((sum, { tokens }) => sum + tokens, 0));
    largest.labels = Math.max(largest.labels, batch.reduce((sum, { labels }) => sum + labels, 0));
    largest.pairs = Math.max(largest.pairs, batch.length);
  };
  for (let step = 0; step < totalSteps; step++) {
    for (const batch of sampleStep(step, sampler).batches) fit(batch.map((index) => sizes[index]));
  }
  for (let at = 0; at < testSizes.length; at += config.perDeviceEvalBatchSize) {
    fit(testSizes.slice(at, at + config.perDeviceEvalBatchSize));
  }
  let positions = 1;
  for (const { chosen, rejected } of [...train.pairs, ...test?.pairs ?? []]) {
    positions = Math.max(positions, chosen.ids.length, rejected?.ids.length ?? 0);
  }
  for (const { ids } of prompts) {
    fit([{ tokens: ids.length + ANSWER_TOKENS, labels: 1 }]);
    positions = Math.max(positions, ids.length + ANSWER_TOKENS);
  }
  return {
    ...largest,
    positions,
    logitsBytes: Math.min(LOGITS_BYTES, largestBuffer),
    checkpointing: config.gradientCheckpointing,
  };
}

/** A run's parts over one memory plan; nothing is allocated yet. */
export interface Planned {
  decoder: Decoder;
  optimizer: AdamW;
  runner: StepRunner;
}

/**
 * Plans the memory of a run on an adapter whose largest buffer is `largestBuffer` bytes.
 * @throws {UserError} where one matrix of the model is larger than that.
 */
export function planRun(workload: Workload, config: TrainConfig, largestBuffer: number): Planned {
  const capacity = capacityOf(workload, config, largestBuffer);
  const decoder = new Decoder(workload.model, capacity, {
    largestBuffer,
    loss: workload.loss.wgsl,
    training: true,
  });
  const optimizer = new AdamW(decoder.plan, decoder.parameters, {
    beta1: config.adamBeta1,
    beta2: config.adamBeta2,
    epsilon: config.adamEpsilon,
    weightDecay: config.weightDecay,
    maxGradNorm: config.maxGradNorm,
  });
  const { perBatch, batchesPerStep } = workload.sampler;
  const runner = new StepRunner(decoder.plan, STEPS_IN_FLIGHT, perBatch * batchesPerStep);
  return { decoder, optimizer, runner };
}

/** Bytes that a run may take: what the user says, or, for a driver on the processor, the machine's memory. */
export function memoryLimit(config: TrainConfig, gpu: Gpu): number {
  return config.deviceMemory ?? (gpu.isSoftware ? totalmem() : Infinity);
}

/** A changed configuration, in a run file's words, and the bytes that it would take. */
export interface Alternative {
  keys: string;
  bytes: number;
}

/** How the run would be with another configuration. */
export type WorkloadOf = (config: TrainConfig) => Workload;

/** The workload of data that have been read, whatever the configuration says of batches. */
export const withBatchesOf = (workload: Workload): WorkloadOf => (config) => {
  const sampler = samplerOf(config, workload.sampler.pairs);
  return { ...workload, sampler, totalSteps: totalSteps(sampler) };
};

/** Changes that take less memory and leave the numbers as they are: a step has the same pairs. */
export function alternatives(
  config: TrainConfig,
  largestBuffer: number,
  workloadOf: WorkloadOf,
): Alternative[] {
  const perPass = config.perDeviceTrainBatchSize;
  const checkpointing: Partial<TrainConfig> = config.gradientCheckpointing
    ? {}
    : { gradientCheckpointing: true };
  const single: Partial<TrainConfig> = {
    ...(perPass > 1 && {
      perDeviceTrainBatchSize: 1,
      gradientAccumulationSteps: config.gradientAccumulationSteps * perPass,
    }),
    ...(config.doEval && config.perDeviceEvalBatchSize > 1 && { perDeviceEvalBatchSize: 1 }),
  };
  const changes = new Map(
    [checkpointing, single, { ...checkpointing, ...single }].map((change) => [keysOf(change), change]),
  );
  changes.delete("");
  return [...changes].map(([keys, change]) => alternative(keys, { ...config, ...change }));

  function alternative(keys: string, changed: TrainConfig): Alternative {
    return { keys, bytes: planRun(workloadOf(changed), changed, largestBuffer).decoder.plan.bytes };
  }
}

const keysOf = (change: Partial<TrainConfig>) =>
  Object.entries(change).map(([field, value]) =>
    `${field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}: ${value}`
  ).join(", ");

/**
 * What would make a plan of too many bytes fit into `limit`: a line each, with what it takes.
 * @param least bytes that no key changes: weights, gradients and moments.
 */
export function adviceFor(changes: readonly Alternative[], limit: number, least: number): string {
  if (least > limit) {
    return `weights, gradients and moments alone take ${formatBytes(least)}: only a smaller model fits`;
  }
  const lines = changes.map(({ keys, bytes }) =>
    `  ${keys}: ${formatBytes(bytes)}, ${bytes <= limit ? "fits" : "does not fit"}`
  );
  if (changes.some(({ bytes }) => bytes <= limit)) return ["what would help:", ...lines].join("\n");
  return ["what would help, beside a smaller max_length:", ...lines].join("\n");
}

/** Bytes of weights, gradients and moments. */
export const bytesOfParameters = ({ decoder: { plan } }: Planned) =>
  (["weights", "gradients", "moments"] as const).reduce((sum, purpose) => sum + plan.bytesOf(purpose), 0);

/**
 * Refuses a plan that is larger than `limit` bytes.
 * @throws {UserError} with the plan and the changes that would make it fit.
 */
export function checkFits(
  planned: Planned,
  workload: Workload,
  config: TrainConfig,
  largestBuffer: number,
  limit: number,
): void {
  const { plan } = planned.decoder;
  if (plan.bytes <= limit) return;
  const changes = alternatives(config, largestBuffer, withBatchesOf(workload));
  throw new UserError(
    `this run needs ${formatBytes(plan.bytes)}, and ${formatBytes(limit)} are there:\n${plan.table()}\n` +
      `${adviceFor(changes, limit, bytesOfParameters(planned))}\ndevice_memory sets the limit`,
  );
}
