import type { OpenAdapter } from "../adapters/open.ts";
import { pack } from "../batch/pack.ts";
import { packedSize, type PackedSizes, type Pair, type Sequence } from "../data/pair.ts";
import type { TrainConfig } from "../config/schema.ts";
import { usesReference, usesRejected } from "../losses/loss.ts";
import { lossOf } from "../losses/losses.ts";
import type { Net } from "../graph/net.ts";
import type { ModelConfig } from "../models/architecture.ts";
import { sizeOf } from "../batch/size.ts";
import { forwardFlops, trainingFlops } from "../graph/flops.ts";
import { netOf } from "../models/models.ts";
import type { Share } from "../parameters/layout.ts";
import { storeAs, storeFrozen } from "./frozen_storage.ts";
import { referenceBatches } from "./batches.ts";
import { trainedNet } from "./roles.ts";
import { type Adapter, type Planned, planRun, samplerOf, type Workload } from "./plan.ts";
import { type Alternative, alternative, alternatives, lastAlternative, type WorkloadOf } from "./advice.ts";
import { sampleStep, totalSteps } from "../training/sampler.ts";

/** Tokens that a chat template may put around a prompt. */
const TEMPLATE_TOKENS = 64;

/**
 * The longest pair that a run file allows: both sequences are `max_length` long and share no prompt. (A long prompt
 * takes less, as it is run once.)
 */
export function longestPair(config: TrainConfig): Pair {
  const sequence: Sequence = { ids: new Array(config.maxLength).fill(0), promptLength: 0 };
  const rejected = usesRejected(lossOf(config)) && { rejected: sequence };
  return { chosen: sequence, ...rejected, truncated: false, where: "the longest pair" };
}

/**
 * The largest workload that a run file allows, for a plan without data: every pair is the longest. Prompts to answer
 * count a token a byte.
 *
 * @param pairs how many training pairs there are; without it, as many as one optimizer step takes.
 * @param other the model that the loss compares with, where it is not the trained one as it begins.
 * @param adapter those of `adapter_name_or_path`.
 */
export function worstCase(
  model: ModelConfig,
  config: TrainConfig,
  pairs?: number,
  other: ModelConfig = model,
  adapter?: OpenAdapter,
): Workload {
  const { tokens, labels } = packedSize(longestPair(config));
  const sizes = (count: number): PackedSizes => ({
    tokens: new Uint32Array(count).fill(tokens),
    labels: new Uint32Array(count).fill(labels),
    longest: config.maxLength,
  });
  const perStep = config.perDeviceTrainBatchSize * config.gradientAccumulationSteps * config.numGpus;
  const sampler = samplerOf(config, pairs ?? perStep);
  const net = storeFrozen(trainedNet(model, config, adapter).net, model, config);
  return {
    model,
    net,
    loss: lossOf(config),
    ...(usesReference(lossOf(config)) && { reference: { net: storeAs(net, netOf(other)) } }),
    train: { sizes: sizes(sampler.pairs) },
    ...(config.doEval && { test: { sizes: sizes(config.perDeviceEvalBatchSize) } }),
    prompts: config.prompts.map((text) => ({
      ids: { length: new TextEncoder().encode(text).length + TEMPLATE_TOKENS },
    })),
    sampler,
    totalSteps: totalSteps(sampler),
  };
}

/** What a whole optimizer step takes, on average over the pairs. */
export interface StepCost {
  pairs: number;
  /** Tokens of its packed rows. */
  tokens: number;
  /** Floating-point operations, forward and backward; those that checkpointing repeats do not count. */
  flops: number;
  /** Those of the whole run, whose last step of an epoch may have fewer pairs. */
  flopsInAll: number;
  /** Pairs that the reference model looks at before the first step, and operations of each. */
  reference?: { pairs: number; flops: number };
}

/** The cost of a step and of the run; `sample` stands for the pairs where operations are counted. */
export function stepCost(workload: Workload, config: TrainConfig, sample: readonly Pair[]): StepCost {
  const { net, reference, train, sampler, totalSteps } = workload;
  const pairs = Math.min(sampler.perBatch * sampler.batchesPerStep, sampler.pairs);
  const tokens = train.sizes.tokens.reduce((sum, count) => sum + count, 0) / sampler.pairs;
  const meanOf = (flopsOf: typeof forwardFlops, net: Net) =>
    sample.reduce((sum, pair) => sum + flopsOf(net, sizeOf(pack([pair], net.windows))), 0) / sample.length;
  const flops = meanOf(trainingFlops, net);
  let pairsInAll = 0;
  for (let step = 0; step < totalSteps; step++) pairsInAll += sampleStep(step, sampler).pairs;
  const cost = { pairs, tokens: pairs * tokens, flops: pairs * flops, flopsInAll: pairsInAll * flops };
  if (!reference) return cost;
  const compared =
    Object.values(referenceBatches(workload, config)).flatMap(({ batches }) => batches.flat()).length;
  return { ...cost, reference: { pairs: compared, flops: meanOf(forwardFlops, reference.net) } };
}

/** A plan, and the buffers in it that are larger than those of the adapter may be. */
export interface EstimatedPlan {
  planned: Planned;
  tooLarge: { name: string; bytes: number }[];
}

/** As `planRun`, with the buffers that a run would be refused for. */
export function planAnyway(
  workload: Workload,
  config: TrainConfig,
  adapter: Adapter,
  ranks?: Share,
): EstimatedPlan {
  const planned = planRun(workload, config, adapter, ranks);
  const slabs = [planned.decoder, planned.reference].flatMap((decoder) => decoder?.plan.slabs ?? []);
  const tooLarge = slabs.filter(({ bytes }) => bytes > adapter.largestBuffer);
  return { planned, tooLarge: tooLarge.map(({ name, bytes }) => ({ name, bytes })) };
}

/**
 * Everything that would make a run take less: changes that keep its numbers, then rounding what is stored, and, where
 * these are not enough, shorter pairs until it fits, if the workload follows `max_length`, and adapters over four bits.
 */
export function estimatedAlternatives(
  config: TrainConfig,
  adapter: Adapter,
  limit: number,
  workloadOf: WorkloadOf,
  followsLength: boolean,
  ranks?: Share,
): Alternative[] {
  const found = alternatives(config, adapter, limit, workloadOf, ranks);
  const fits = () => found.some(({ bytes }) => bytes <= limit);
  const shorten = (all: readonly Alternative[]) => {
    let { maxLength, maxPromptLength } = config;
    const isHopeless = all.length > 0 && all.every(({ parameterBytes }) => parameterBytes > limit);
    const helps = followsLength && !isHopeless;
    const least = all.at(-1)?.change;
    while (helps && !fits() && maxPromptLength >= 2) {
      maxLength = Math.floor(maxLength / 2);
      maxPromptLength = Math.floor(maxPromptLength / 2);
      const change = { ...least, maxLength, maxPromptLength };
      const shorter = alternative(change, config, adapter, workloadOf, ranks);
      // What is left then is not of texts.
      if (shorter.bytes === found.at(-1)?.bytes) break;
      found.push(shorter);
    }
  };
  if (fits()) return found;
  const last = lastAlternative(config, adapter, workloadOf, ranks);
  shorten(found);
  found.push(...last);
  if (last.length > 0) shorten(last);
  return found;
}
