import { totalmem } from "node:os";
import { bytesOf } from "../../kernels/storage.ts";
import type { PackedSizes } from "../data/pair.ts";
import type { TrainConfig } from "../config/schema.ts";
import { readOptimArgs } from "../config/values.ts";
import { placeOf } from "../distributed/grid.ts";
import { mostUnderWay } from "../distributed/pipeline.ts";
import type { Gpu } from "../gpu/device.ts";
import { MemoryPlan } from "../gpu/memory_plan.ts";
import type { AttentionTiles } from "../../kernels/attention.ts";
import { attentionTiles, deviceClass, type ProductTiles, tilesOf, usualTuning } from "../gpu/tuning.ts";
import { functionOf, type Loss, wgslOf } from "../losses/loss.ts";
import type { Capacity } from "../graph/machine.ts";
import { layersOfStage, stageNet } from "../graph/stage.ts";
import type { ModelConfig } from "../models/architecture.ts";
import { Decoder } from "../graph/decoder.ts";
import type { Net } from "../graph/net.ts";
import { adamw } from "../optimizers/adamw.ts";
import { lion } from "../optimizers/lion.ts";
import type { UpdateRule } from "../optimizers/rule.ts";
import type { ParameterOptions, Share } from "../parameters/layout.ts";
import { Parameters } from "../parameters/parameters.ts";
import { isTrained, parameterCount } from "../parameters/parameter.ts";
import { weightBytes } from "../parameters/quantized_matrix.ts";
import { Optimizer } from "../training/optimizer.ts";
import type { SamplerOptions } from "../training/sampler.ts";
import { StepRunner } from "../training/step.ts";
import type { Vocabulary } from "../tokenizer/tokenizer.ts";
import { consecutive, largestOf, referenceBatches, trainBatches } from "./batches.ts";

/** The model that a loss compares the trained one with. */
export interface ReferenceModel {
  /** What it computes: as the trained one before its first step, without adapters that are new; or another model. */
  net: Net;
  /** Whether the adapters that the run goes on from are there too. */
  isAdapted?: boolean;
  /** The folder of another model. */
  folder?: string;
}

/** What a run computes, as far as its memory and its time depend on it. */
export interface Workload {
  model: ModelConfig;
  /** What it computes, with the roles of its parameters. */
  net: Net;
  loss: Loss;
  /** Where the loss needs one. */
  reference?: ReferenceModel;
  /** Of which `eosTokenId` ends responses. */
  tokenizer?: Pick<Vocabulary, "eosTokenId">;
  train: { readonly sizes: PackedSizes };
  test?: { readonly sizes: PackedSizes };
  /** Prompts to answer before and after. */
  prompts: readonly { ids: ArrayLike<number> }[];
  sampler: SamplerOptions;
  totalSteps: number;
  /** How many it was to have when it began, where it goes on. */
  begunSteps?: number;
}

/** Most tokens of an answer to one of `prompts`. */
export const ANSWER_TOKENS = 64;
/** Bytes of logits at a time: this share of what weights, gradients and moments take, within these bounds. */
const LOGITS = { share: 1 / 40, least: 32 * 2 ** 20, most: 128 * 2 ** 20 };
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
    gpus: config.numGpus,
    epochs: config.numTrainEpochs,
    maxSteps: config.maxSteps,
    strategy: config.trainSamplingStrategy,
    seed: config.seed,
  };
}

/**
 * Bytes that one piece of logits may take where parameters and all that is kept for each take `parameterBytes`. Larger
 * pieces need fewer dispatches, and all but the last are made twice; from some hundred rows on it hardly matters.
 */
export function logitsBudget(parameterBytes: number, largestBuffer: number): number {
  const budget = Math.min(Math.max(parameterBytes * LOGITS.share, LOGITS.least), LOGITS.most);
  return Math.min(budget, largestBuffer);
}

/**
 * Whether parameters can be updated in the backward pass: a step is one batch, and no norm has to be known first.
 * Gradients are then only there until they are applied.
 */
export const updatesEarly = (
  { maxGradNorm, gradientAccumulationSteps, numGpus }: Pick<
    TrainConfig,
    "maxGradNorm" | "gradientAccumulationSteps" | "numGpus"
  >,
): boolean => maxGradNorm === 0 && gradientAccumulationSteps * numGpus === 1;

/** An optimizer, and how it has weights and moments stored. */
export interface OptimizerChoice extends Required<Pick<ParameterOptions, "trained" | "moments">> {
  rule: UpdateRule;
}

/**
 * What `optim` names: `optim_args` by their names in PyTorch's AnyPrecisionAdamW and torchao's AdamW8bit.
 */
export function optimizerOf(
  { optim, optimArgs }: Pick<TrainConfig, "optim"> & Partial<Pick<TrainConfig, "optimArgs">>,
): OptimizerChoice {
  const args = readOptimArgs(optimArgs ?? "");
  const storage = (name: string) => args?.get(name) === "bfloat16" ? "bf16" : "f32";
  const rounded = /^true$/i.test(args?.get("bf16_stochastic_round") ?? "") ? "bf16" : "f32";
  switch (optim) {
    case "adamw_torch":
      return { rule: adamw, trained: "f32", moments: { first: "f32", second: "f32" } };
    case "adamw_anyprecision":
      return {
        rule: adamw,
        trained: "f32",
        moments: { first: storage("momentum_dtype"), second: storage("variance_dtype") },
      };
    case "adamw_bf16":
      return { rule: adamw, trained: "bf16", moments: { first: "bf16", second: "bf16" } };
    case "adamw_8bit":
      return { rule: adamw, trained: rounded, moments: { first: "8bit", second: "8bit" } };
    case "lion_32bit":
      return { rule: lion, trained: rounded, moments: { first: "f32" } };
    case "lion_8bit":
      return { rule: lion, trained: rounded, moments: { first: "8bit" } };
  }
}

/**
 * Bytes of all weights, with the moments of those that are trained and, unless they are applied early, their
 * gradients.
 */
function parameterBytes({ parameters }: Net, config: TrainConfig): number {
  const { trained, moments } = optimizerOf(config);
  const momentBytes = Object.values(moments).reduce(
    (sum, storage) => sum + (storage === "8bit" ? 1 : bytesOf(storage)),
    0,
  );
  const state = (updatesEarly(config) ? 0 : 4) + bytesOf(trained) + momentBytes;
  const frozen = parameters.filter((parameter) => !isTrained(parameter));
  return frozen.reduce((sum, parameter) => sum + weightBytes(parameter), 0) +
    state * parameterCount(parameters.filter(isTrained));
}

/** Bytes of one piece of logits of a run. */
const logitsBytesOf = (net: Net, config: TrainConfig, largestBuffer: number): number =>
  logitsBudget(parameterBytes(net, config), largestBuffer);

/** The largest batch of a run: every micro-batch that training and evaluation will pack is looked at. */
export function capacityOf(
  { net, train, test, prompts, sampler, totalSteps }: Workload,
  config: TrainConfig,
  largestBuffer: number,
): Capacity {
  const largest = largestOf([
    { sizes: train.sizes, batches: trainBatches(sampler, totalSteps) },
    ...test
      ? [{ sizes: test.sizes, batches: consecutive(test.sizes.tokens.length, config.perDeviceEvalBatchSize) }]
      : [],
  ]);
  let positions = Math.max(train.sizes.longest, test?.sizes.longest ?? 0);
  for (const { ids } of prompts) {
    largest.tokens = Math.max(largest.tokens, ids.length + ANSWER_TOKENS);
    positions = Math.max(positions, ids.length + ANSWER_TOKENS);
  }
  return {
    ...largest,
    positions,
    logitsBytes: logitsBytesOf(net, config, largestBuffer),
    checkpointing: config.gradientCheckpointing,
    keptStorage: config.activationDtype === "bfloat16" ? "bf16" : "f32",
  };
}

/** A run's parts, each of its two decoders over a memory plan of its own; nothing is allocated yet. */
export interface Planned {
  decoder: Decoder;
  /**
   * The parameters of the whole model, with all moments: the decoder's, but for ranks that have a part of them, where
   * these stand for what the ranks have together.
   */
  whole: Parameters;
  /** The reference model, where the loss needs one: it has gone before the decoder comes. */
  reference?: Decoder;
  optimizer: Optimizer;
  runner: StepRunner;
}

/**
 * Plans the memory of a run on `adapter`.
 *
 * @param ranks which of how many of the run it is planned for; alone it is the first stage of a pipeline.
 * @throws {UserError} where a few rows of a matrix of the model are larger than a buffer of it.
 */
export function planRun(
  workload: Workload,
  config: TrainConfig,
  adapter: Adapter,
  ranks: Share = { rank: 0, size: config.pipelineParallelSize },
): Planned {
  const capacity = capacityOf(workload, config, adapter.largestBuffer);
  const { rule, trained, moments } = optimizerOf(config);
  const { data, pipeline } = placeOf(ranks, config.pipelineParallelSize);
  const isStage = pipeline.size > 1;
  const stageOf = (net: Net) =>
    stageNet(net, layersOfStage(net, { stage: pipeline.rank, stages: pipeline.size }));
  const net = stageOf(workload.net);
  const isShared = config.zeroStage === 2 && data.size > 1;
  const decoder = new Decoder(net, capacity, {
    ...adapter,
    loss: wgslOf(workload.loss),
    eosTokenId: workload.tokenizer?.eosTokenId,
    training: true,
    gradients: isStage ? "kept" : updatesEarly(config) ? "passing" : isShared ? "sent" : "kept",
    trained,
    moments,
    ...(config.zeroStage > 0 && { share: data }),
  });
  const whole = isStage || decoder.parameters.isShared
    ? new Parameters(new MemoryPlan(), workload.net.parameters, adapter.largestBuffer, {
      ...decoder.options,
      share: undefined,
    })
    : decoder.parameters;
  const figures = {
    beta1: config.adamBeta1,
    beta2: config.adamBeta2,
    epsilon: config.adamEpsilon,
    weightDecay: config.weightDecay,
    maxGradNorm: config.maxGradNorm,
    seed: config.seed,
  };
  const optimizer = new Optimizer(
    decoder.plan,
    decoder.parameters,
    rule,
    figures,
    isStage ? whole : undefined,
  );
  const { perBatch, batchesPerStep } = workload.sampler;
  const loss = functionOf(workload.loss);
  const runner = new StepRunner(decoder, optimizer, STEPS_IN_FLIGHT, perBatch * batchesPerStep, {
    loss,
    seed: config.seed,
    ranks: data.size,
    underWay: mostUnderWay(Math.ceil(batchesPerStep / data.size), pipeline),
  });
  return { decoder, whole, reference: planReference(workload, config, adapter, stageOf), optimizer, runner };
}

/** The reference model of a run, forward alone; undefined where the loss needs none. */
function planReference(
  workload: Workload,
  config: TrainConfig,
  adapter: Adapter,
  stageOf: (net: Net) => Net,
): Decoder | undefined {
  const { net, reference, loss, train, test } = workload;
  if (!reference) return undefined;
  const batches = referenceBatches(workload, config);
  const largest = largestOf([
    { sizes: train.sizes, batches: batches.train.batches },
    ...test ? [{ sizes: test.sizes, batches: batches.test.batches }] : [],
  ]);
  return new Decoder(stageOf(reference.net), {
    ...largest,
    positions: Math.max(train.sizes.longest, test?.sizes.longest ?? 0),
    logitsBytes: logitsBytesOf(net, config, adapter.largestBuffer),
    checkpointing: false,
    // The kernels of training, so that sums have its bits.
  }, { ...adapter, loss: wgslOf(loss), eosTokenId: workload.tokenizer?.eosTokenId, training: false });
}

/** Bytes of the device that a run takes: its two decoders are never there together. */
export const bytesOfRun = ({ decoder, reference }: Planned): number =>
  Math.max(decoder.plan.bytes, reference?.plan.bytes ?? 0);

/** What a plan depends on of an adapter. */
export interface Adapter {
  /** Bytes of the largest buffer that kernels can bind. */
  largestBuffer: number;
  /** How matrix products are computed; by default as suits a GPU. */
  tiles?: ProductTiles;
  /** How attention is computed; by default likewise. */
  attention?: AttentionTiles;
}

/** The adapter of `gpu`. */
export function adapterOf(gpu: Gpu): Adapter {
  const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
  return {
    largestBuffer: Math.min(maxBufferSize, maxStorageBufferBindingSize),
    tiles: tilesOf(usualTuning(deviceClass(gpu)), gpu),
    attention: attentionTiles(deviceClass(gpu)),
  };
}

/**
 * Bytes that the plan of a run may take: what the user says, or, for a driver on the processor, the machine's memory
 * but for what the process takes beside the plan.
 *
 * @param processes that share the adapter: each has its part of the machine's memory.
 */
export function memoryLimit(config: TrainConfig, gpu: Gpu, besidePlan: number, processes = 1): number {
  return config.deviceMemory ?? (gpu.isSoftware ? totalmem() / processes - besidePlan : Infinity);
}

/** Bytes of weights, gradients and moments. */
export const bytesOfParameters = ({ decoder: { plan } }: Planned) =>
  (["weights", "gradients", "moments"] as const).reduce((sum, purpose) => sum + plan.bytesOf(purpose), 0);
