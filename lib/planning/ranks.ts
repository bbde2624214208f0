/** What a run of several ranks takes of each, and how long its steps are. */
import { pack } from "../batch/pack.ts";
import { sizeOf } from "../batch/size.ts";
import type { TrainConfig } from "../config/schema.ts";
import type { Pair } from "../data/pair.ts";
import { placeOf } from "../distributed/grid.ts";
import { bytesOfBoundaries, bytesOfSums, bytesOfTiedTable, bytesOfWeights } from "../distributed/traffic.ts";
import { trainingFlops } from "../graph/flops.ts";
import type { Share } from "../parameters/layout.ts";
import { type EstimatedPlan, planAnyway, type StepCost } from "./estimate.ts";
import { exchangeTime, HOST } from "./exchange_time.ts";
import { type Adapter, bytesOfRun, type Planned, type Workload } from "./plan.ts";

/** Bytes that a rank is sent in a step; the ranks send as many. What few figures are told beside is not counted. */
export interface Traffic {
  /** Of the gradients and their sums. */
  gradients: number;
  /** Of weights that other ranks update. */
  weights: number;
  /** Of what is between stages of a pipeline, forward and backward. */
  boundaries: number;
}

/**
 * What a rank of `ranks` is sent in a step of a run that was planned for it.
 *
 * @param tokens of the step's packed rows, of all ranks: each pipeline, or rank, has its share of them.
 */
export function trafficOf(
  { decoder: { net, parameters }, optimizer, runner }: Planned,
  ranks: Share,
  { pipelineParallelSize }: Pick<TrainConfig, "pipelineParallelSize">,
  tokens: number,
): Traffic {
  const { data, pipeline } = placeOf(ranks, pipelineParallelSize);
  const isEnd = pipeline.rank === 0 || pipeline.rank === pipeline.size - 1;
  const isTied = optimizer.isPart && isEnd && net.inputEmbeddings === net.outputEmbeddings;
  return {
    gradients: bytesOfSums(runner.sums.flat(), data.size) +
      (isTied ? bytesOfTiedTable(parameters.trained(net.outputEmbeddings)) : 0),
    weights: parameters.isShared ? bytesOfWeights(parameters.chunks, data) : 0,
    boundaries: bytesOfBoundaries(net, tokens / data.size),
  };
}

/** A plan of one rank of several. */
export interface RankPlan extends EstimatedPlan {
  ranks: Share;
}

/** Of more ranks with parts of their own, which differ by a matrix, so many are planned. */
const MOST_PLANNED = 16;

/** Plans for ranks that have a part of their own, in their order; where all take the same for the first alone. */
export function planRanks(
  workload: Workload,
  config: TrainConfig,
  adapter: Adapter,
  size: number,
): RankPlan[] {
  const { pipelineParallelSize: stages, zeroStage } = config;
  // Of several pipelines, neighbours have the same stage.
  const different = zeroStage > 0 ? Math.min(size, Math.max(stages, MOST_PLANNED)) : stages;
  return Array.from({ length: different }, (_, i) => {
    const ranks = { rank: Math.floor(i * size / different), size };
    return { ranks, ...planAnyway(workload, config, adapter, ranks) };
  });
}

/** That of the rank which takes the most memory. */
export const largestPlan = (plans: readonly RankPlan[]): RankPlan =>
  plans.reduce((a, b) => bytesOfRun(b.planned) > bytesOfRun(a.planned) ? b : a);

/** What a GPU and a line do in a second. */
export interface Rates {
  /** Floating-point operations of a step, those that checkpointing repeats not counted. */
  flops: number;
  /** Bytes to a rank's host, and as many from it. */
  link: number;
}

/** What the time of a step follows from. */
export interface StepWork {
  /** Floating-point operations of the whole step. */
  flops: number;
  /** Passes of each rank, or its part of them. */
  passes: number;
  /** Stages of a pipeline, and how much more than the mean the largest has to compute. */
  stages: number;
  largest: number;
  checkpointing: boolean;
  /** How many gradients there are in each sum, in their order; those that are complete together in a row. */
  sums: readonly (readonly number[])[];
  traffic: Traffic;
}

/**
 * What the time of a step follows from, of the rank with the most of each.
 *
 * @param passes of each rank in a step.
 * @param sample pairs that stand for all.
 */
export function stepWork(
  plans: readonly RankPlan[],
  config: TrainConfig,
  { flops, tokens }: Pick<StepCost, "flops" | "tokens">,
  passes: number,
  sample: readonly Pair[],
): StepWork {
  const traffic = plans.map(({ planned, ranks }) => trafficOf(planned, ranks, config, tokens));
  const most = (of: keyof Traffic) => Math.max(...traffic.map((each) => each[of]));
  return {
    flops,
    passes,
    stages: config.pipelineParallelSize,
    largest: largestStage(plans, sample),
    checkpointing: config.gradientCheckpointing,
    sums: plans.map(({ planned }) => planned.runner.sums)
      .reduce((a, b) => total(b.flat()) > total(a.flat()) ? b : a),
    traffic: { gradients: most("gradients"), weights: most("weights"), boundaries: most("boundaries") },
  };
}

const total = (numbers: readonly number[]) => numbers.reduce((sum, number) => sum + number, 0);

/** How many times the mean of stages the largest has to compute. */
function largestStage(plans: readonly RankPlan[], sample: readonly Pair[]): number {
  const stages = Map.groupBy(plans, ({ planned }) => planned.decoder.net.segments[0]);
  const flops = [...stages.values()].map(([{ planned: { decoder: { net } } }]) =>
    total(sample.map((pair) => trainingFlops(net, sizeOf(pack([pair], net.windows)))))
  );
  return Math.max(...flops) * flops.length / total(flops);
}

/** Seconds of a step of several ranks. */
export interface StepTime {
  /** Of the same step on one GPU. */
  alone: number;
  /** In which a rank computes, or waits for other stages of its pipeline. */
  computing: number;
  /** In which its line is at work. */
  link: number;
  /** In which the busiest of its host's threads is, for gradients. */
  host: number;
  /** That the exchange adds to computing: what does not pass while the GPU computes. */
  exposed: number;
  /** From step to step. */
  total: number;
  /** How much of the ranks' time the step would take on one of them. */
  efficiency: number;
}

/**
 * The time of a step. Gradients are exchanged while the GPU is at the last backward pass (`exchangeTime`); weights are
 * when they are updated. Latency, the update and what the machine's memory does meanwhile are left out.
 *
 * A pipeline is as fast as its largest stage, waits for its first and last micro-batch to come through (`stages - 1`
 * passes), and sends what is between stages while the GPU waits.
 */
export function stepTime(
  { flops, passes, stages, largest, checkpointing, sums, traffic: { gradients, weights, boundaries } }:
    StepWork,
  size: number,
  rates: Rates,
  host = HOST,
): StepTime {
  const alone = flops / rates.flops;
  // Of a pass, in forward passes: itself, a backward pass of two and, with checkpointing, itself once more.
  const parts = checkpointing ? 4 : 3;
  const slowdown = largest * (passes + stages - 1) / passes;
  const computing = alone / size * slowdown;
  const bytes = 4 * total(sums.flat());
  const link = gradients / rates.link;
  const backward = alone / size / passes * (parts - 1) / parts;
  // Each piece of weights is on the line while the one before is copied.
  const others = weights / Math.min(rates.link, host.copies) + boundaries / rates.link;
  const exposed = others + (bytes > 0 ? exchangeTime(sums, backward, link, host) - backward : link);
  const whole = computing + exposed;
  return {
    alone,
    computing,
    link: (gradients + weights + boundaries) / rates.link,
    host: bytes / Math.min(host.copies, host.sums),
    exposed,
    total: whole,
    efficiency: alone / size / whole,
  };
}
