import { totalmem } from "node:os";
import { packedSize } from "./batch.ts";
import type { TrainConfig } from "./config/schema.ts";
import { loadPairs, type PairStatistics } from "./data/pairs.ts";
import type { Pair } from "./data/tokenize.ts";
import { UserError } from "./errors.ts";
import type { Gpu } from "./gpu/device.ts";
import { formatBytes } from "./gpu/memory.ts";
import { losses } from "./loss/losses.ts";
import type { Loss } from "./loss/loss.ts";
import type { Capacity } from "./model/activations.ts";
import { type ModelConfig, readModelConfig } from "./model/config.ts";
import { Decoder } from "./model/decoder.ts";
import { AdamW } from "./optimizer.ts";
import { type SamplerOptions, sampleStep, totalSteps } from "./sampler.ts";
import { StepRunner } from "./step.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizer.ts";

/** Everything of a run that is known before the GPU is touched. */
export interface Prepared {
  model: ModelConfig;
  tokenizer: Tokenizer;
  loss: Loss;
  /** The splits that were read: of training and, where the run evaluates, of test. */
  splits: string[];
  train: { pairs: Pair[]; statistics: PairStatistics };
  test?: { pairs: Pair[]; statistics: PairStatistics };
  /** Prompts to answer before and after, as token ids. */
  prompts: { text: string; ids: number[] }[];
  sampler: SamplerOptions;
  totalSteps: number;
}

/** Most tokens of an answer to one of `prompts`. */
export const ANSWER_TOKENS = 64;
/** Bytes of logits at a time: large pieces keep the matrix product busy, and a GPU has this much to spare. */
const LOGITS_BYTES = 128 * 2 ** 20;
/** Steps whose figures may wait to be read. */
const STEPS_IN_FLIGHT = 8;

/** Reads model configuration, tokenizer and data. `onProgress` hears of rows and tokens as they are tokenised. */
export async function prepare(
  config: TrainConfig,
  onProgress?: (split: string, rows: number, tokens: number) => void,
): Promise<Prepared> {
  const folder = config.modelNameOrPath;
  const model = await readModelConfig(folder);
  const tokenizer = await loadTokenizer(folder, { chatTemplate: config.chatTemplate });
  const loss = losses[config.lossType];
  const splits: string[] = [];
  const load = (kind: "train" | "test") => {
    const split = config.datasetSplits.find((name) => name.includes(kind)) ?? kind;
    splits.push(split);
    return loadPairs({
      mixer: config.datasetMixer,
      split,
      tokenizer,
      vocabSize: model.vocabSize,
      usesRejected: loss.usesRejected,
      autoInsertEmptySystemMsg: config.autoInsertEmptySystemMsg,
      maxLength: config.maxLength,
      maxPromptLength: config.maxPromptLength,
      truncationMode: config.truncationMode,
      onProgress: (rows, tokens) => onProgress?.(split, rows, tokens),
    });
  };
  const train = await load("train");
  const test = config.doEval ? await load("test") : undefined;
  const sampler: SamplerOptions = {
    pairs: train.pairs.length,
    perBatch: config.perDeviceTrainBatchSize,
    batchesPerStep: config.gradientAccumulationSteps,
    epochs: config.numTrainEpochs,
    maxSteps: config.maxSteps,
    strategy: config.trainSamplingStrategy,
    seed: config.seed,
  };
  const prompts = config.prompts.map((text) => ({ text, ids: promptIds(text, tokenizer) }));
  return { model, tokenizer, loss, splits, train, test, prompts, sampler, totalSteps: totalSteps(sampler) };
}

/** A user's message as the model sees it before it answers. */
function promptIds(text: string, tokenizer: Tokenizer): number[] {
  const rendered = tokenizer.chatTemplate
    ? tokenizer.applyChatTemplate([{ role: "user", content: text }], { addGenerationPrompt: true })
    : text;
  const ids = tokenizer.encode(rendered);
  const bos = tokenizer.bosTokenId;
  return bos !== undefined && ids[0] !== bos ? [bos, ...ids] : ids;
}

/** The largest batch of a run: every micro-batch that training and evaluation will pack is looked at. */
export function capacityOf(
  { train, test, prompts, sampler, totalSteps }: Prepared,
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

/** Plans the memory of a run on an adapter whose largest buffer is `largestBuffer` bytes. */
export function planRun(prepared: Prepared, config: TrainConfig, largestBuffer: number): Planned {
  const capacity = capacityOf(prepared, config, largestBuffer);
  const decoder = new Decoder(prepared.model, capacity, {
    largestBuffer,
    loss: prepared.loss.wgsl,
    training: true,
  });
  const optimizer = new AdamW(decoder.plan, decoder.parameters, {
    beta1: config.adamBeta1,
    beta2: config.adamBeta2,
    epsilon: config.adamEpsilon,
    weightDecay: config.weightDecay,
    maxGradNorm: config.maxGradNorm,
  });
  const perStep = config.perDeviceTrainBatchSize * config.gradientAccumulationSteps;
  return { decoder, optimizer, runner: new StepRunner(decoder.plan, STEPS_IN_FLIGHT, perStep) };
}

/** Bytes that a run may take: what the user says, or, for a driver on the processor, the machine's memory. */
export function memoryLimit(config: TrainConfig, gpu: Gpu): number {
  return config.deviceMemory ?? (gpu.isSoftware ? totalmem() : Infinity);
}

/**
 * Refuses a plan that is larger than `limit` bytes.
 * @throws {UserError} with the plan and the changes that would make it fit.
 */
export function checkFits(
  { decoder: { plan } }: Planned,
  prepared: Prepared,
  config: TrainConfig,
  largestBuffer: number,
  limit: number,
): void {
  if (plan.bytes <= limit) return;
  const changes: Partial<TrainConfig>[] = [
    { gradientCheckpointing: true },
    { perDeviceTrainBatchSize: 1, perDeviceEvalBatchSize: 1 },
    { gradientCheckpointing: true, perDeviceTrainBatchSize: 1, perDeviceEvalBatchSize: 1 },
  ];
  const tried = changes.map((change) => {
    const changed = { ...config, ...change };
    const sampler = { ...prepared.sampler, perBatch: changed.perDeviceTrainBatchSize };
    const steps = totalSteps(sampler);
    const { bytes } =
      planRun({ ...prepared, sampler, totalSteps: steps }, changed, largestBuffer).decoder.plan;
    const keys = Object.entries(change).map(([field, value]) =>
      `${field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}: ${value}`
    ).join(", ");
    return `  ${keys}: ${formatBytes(bytes)}, ${bytes <= limit ? "fits" : "does not fit"}`;
  });
  throw new UserError(
    `this run needs ${formatBytes(plan.bytes)}, and ${formatBytes(limit)} are there:\n${plan.table()}\n` +
      `what would help:\n${tried.join("\n")}\n` +
      "A smaller max_length, or a smaller model, helps too; device_memory sets the limit",
  );
}
