/** What a run of several ranks takes of each, and how long its steps are. */
import type { TrainConfig } from "../config/schema.ts";
import { bytesOfSums, bytesOfWeights } from "../distributed/traffic.ts";
import type { Share } from "../parameters/layout.ts";
import { type EstimatedPlan, planAnyway } from "./estimate.ts";
import { type Adapter, bytesOfRun, type Planned, type Workload } from "./plan.ts";

/** Bytes that a rank is sent in a step; the ranks send as many. What few figures are told beside is not counted. */
export interface Traffic {
  /** Of the gradients and their sums. */
  gradients: number;
  /** Of weights that other ranks update. */
  weights: number;
}

/** What a rank of `ranks` is sent in each step of a run that was planned for it. */
export const trafficOf = ({ decoder: { parameters }, runner }: Planned, ranks: Share): Traffic => ({
  gradients: bytesOfSums(runner.sums, ranks.size),
  weights: parameters.isShared ? bytesOfWeights(parameters.chunks, ranks) : 0,
});

/** A plan of one rank of several. */
export interface RankPlan extends EstimatedPlan {
  ranks: Share;
}

/** Plans for every rank that has a part of its own, in their order; where all take the same for the first alone. */
export function planRanks(
  workload: Workload,
  config: TrainConfig,
  adapter: Adapter,
  size: number,
): RankPlan[] {
  const different = config.zeroStage > 0 ? size : 1;
  return Array.from({ length: different }, (_, rank) => {
    const ranks = { rank, size };
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
  /** Passes of each rank. */
  passes: number;
  checkpointing: boolean;
  /** How many gradients there are in each sum, in their order. */
  sums: readonly number[];
  traffic: Traffic;
}

/** Seconds of a step of several ranks. */
export interface StepTime {
  /** Of the same step on one GPU. */
  alone: number;
  /** In which a rank computes. */
  computing: number;
  /** In which its line is at work, and its host. */
  link: number;
  host: number;
  /** Of those, in which the GPU is at work too. */
  hidden: number;
  /** From step to step. */
  total: number;
  /** How much of the ranks' time the step would take on one of them. */
  efficiency: number;
}

/**
 * Bytes of gradients that a rank's host takes in a second: it copies them from the GPU, to where they are sent from and
 * back, and adds up as many of all ranks, on one thread. Measured by bench/ranks.ts on two cores of an AMD EPYC.
 */
export const HOST_RATE = 1.7e9;

/**
 * The time of a step. Gradients are exchanged in pieces, one after the other, each over the line and by the host in
 * turn, while the GPU is at the rest of the last backward pass; weights are when they are updated. Latency, the update
 * and what the machine's memory does meanwhile are left out.
 */
export function stepTime(
  { flops, passes, checkpointing, sums, traffic: { gradients, weights } }: StepWork,
  size: number,
  rates: Rates,
  hostRate: number = HOST_RATE,
): StepTime {
  const alone = flops / rates.flops;
  const computing = alone / size;
  const elements = sums.reduce((sum, count) => sum + count, 0);
  const [link, host] = [gradients / rates.link, 4 * elements / hostRate];
  // A backward pass is two forward ones, and with checkpointing that one once more.
  const backward = computing / passes * (checkpointing ? 3 / 4 : 2 / 3);
  // After the last piece there is nothing left to compute.
  const beforeLast = (link + host) * (1 - (sums.at(-1) ?? 0) / elements);
  const hidden = Math.min(beforeLast, backward);
  const weightSeconds = weights / rates.link;
  const total = computing + link + host - hidden + weightSeconds;
  return { alone, computing, link: link + weightSeconds, host, hidden, total, efficiency: computing / total };
}
