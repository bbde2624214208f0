import type { Batch } from "../batch/pack.ts";

/** What the kernels give for one response, over its labels. */
export interface ResponseFigures {
  /** Sum of the entropies of the distributions that predict them, in nats. */
  entropy: number;
  /** Sum of the means of their rows of logits, as scaled and capped. */
  logits: number;
  /** How many are the most probable token. */
  correct: number;
  /** The probability of the first that is the end token; undefined where none is, since the response was cut. */
  endProbability?: number;
}

/** What the kernels give for one pair: natural logarithms, summed over the labels of each response. */
export interface PairResult {
  /** Its loss. */
  loss: number;
  /** Log-probability of chosen. */
  chosen: number;
  /** That of rejected; 0 where there is none. */
  rejected: number;
  /** Labels of chosen. */
  chosenLabels: number;
  /** Those of rejected. */
  rejectedLabels: number;
  /** Further figures of chosen. */
  chosenFigures: ResponseFigures;
  /** Those of rejected. */
  rejectedFigures: ResponseFigures;
}

/**
 * Figures over pairs, by TRL's names. Under these losses a reward is the mean log-probability, as SimPER publishes it.
 * TRL's DPOTrainer takes its means over labels in each micro-batch and then the mean of those; here they are over all
 * labels of a step or an evaluation, so that they do not depend on how those are cut into batches.
 */
export interface Metrics {
  /** Mean over pairs. */
  loss: number;
  /** Reward of the chosen response, mean over pairs. */
  "rewards/chosen": number;
  /** That of the rejected one. */
  "rewards/rejected"?: number;
  /** The part of the pairs, from 0 to 1, whose chosen response has the higher reward. */
  "rewards/accuracies"?: number;
  /** Reward of the chosen response less that of the rejected one, mean over pairs. */
  "rewards/margins"?: number;
  /** Log-probabilities summed over a response, mean over pairs: TRL's `logps/*`. */
  "logps/chosen": number;
  /** Likewise. */
  "logps/rejected"?: number;
  /** Mean over vocabulary and labels. */
  "logits/chosen": number;
  /** Likewise. */
  "logits/rejected"?: number;
  /** Mean over the labels of both responses, in nats. */
  entropy: number;
  /** Share of chosen's labels that are the most probable token, the first of equals. */
  mean_token_accuracy: number;
  /**
   * Mean probability of chosen's end token, where generation would stop: its first, given all before it. No figure of
   * TRL's. Of rejected there is none: a loss that lowers all its tokens lowers that one too, which says nothing about
   * stopping.
   */
  "eos/probability"?: number;
}

/** Floats that the kernels leave of a pair: the loss kernel's four, and four of each response. */
export const RESULT_FLOATS = 4;
export const FIGURE_FLOATS = 8;

/**
 * Reads what the kernels leave for the pairs of `batch`: the loss kernel's results and the figures of the responses.
 */
export function pairResults(
  results: Float32Array,
  figures: Float32Array,
  { labelsOfPair, pairs }: Batch,
): PairResult[] {
  return Array.from({ length: pairs }, (_, p) => ({
    loss: results[4 * p],
    chosen: results[4 * p + 1],
    rejected: results[4 * p + 2],
    chosenLabels: labelsOfPair[4 * p + 1] - labelsOfPair[4 * p],
    rejectedLabels: labelsOfPair[4 * p + 3] - labelsOfPair[4 * p + 2],
    chosenFigures: figuresAt(figures, 8 * p),
    rejectedFigures: figuresAt(figures, 8 * p + 4),
  }));
}

function figuresAt(figures: Float32Array, at: number): ResponseFigures {
  const [entropy, logits, correct, endProbability] = figures.subarray(at, at + 4);
  return { entropy, logits, correct, ...(endProbability !== -1 && { endProbability }) };
}

/**
 * Means over pairs or labels; without those of rejected where no pair has one, and of end tokens where there are none.
 *
 * @example
 * ```ts
 * import { summarize } from "./metrics.ts";
 * import assert from "node:assert/strict";
 * const pair = {
 *   ...{ loss: -0.1, chosen: -4, rejected: -9, chosenLabels: 2, rejectedLabels: 3 },
 *   chosenFigures: { entropy: 3, logits: 1, correct: 1, endProbability: 0.5 },
 *   rejectedFigures: { entropy: 7, logits: -3, correct: 0 },
 * };
 * const metrics = summarize([pair]);
 * assert.equal(metrics["rewards/chosen"], -2);
 * assert.equal(metrics["rewards/margins"], 1);
 * assert.equal(metrics["logps/rejected"], -9);
 * assert.equal(metrics.entropy, 2);
 * assert.equal(metrics["eos/probability"], 0.5);
 * ```
 */
export function summarize(results: readonly PairResult[]): Metrics {
  const sum = (of: (result: PairResult) => number) => results.reduce((sum, result) => sum + of(result), 0);
  const mean = (of: (result: PairResult) => number) => sum(of) / results.length;
  const chosen = (r: PairResult) => r.chosen / r.chosenLabels;
  const rejected = (r: PairResult) => r.rejected / r.rejectedLabels;
  const [chosenLabels, rejectedLabels] = [sum((r) => r.chosenLabels), sum((r) => r.rejectedLabels)];
  const hasRejected = results.every((r) => r.rejectedLabels > 0);
  const ends = results.map((r) => r.chosenFigures.endProbability).filter((end) => end !== undefined);
  return {
    loss: mean((r) => r.loss),
    "rewards/chosen": mean(chosen),
    ...(hasRejected && {
      "rewards/rejected": mean(rejected),
      "rewards/accuracies": mean((r) => chosen(r) > rejected(r) ? 1 : 0),
      "rewards/margins": mean((r) => chosen(r) - rejected(r)),
    }),
    "logps/chosen": mean((r) => r.chosen),
    ...(hasRejected && { "logps/rejected": mean((r) => r.rejected) }),
    "logits/chosen": sum((r) => r.chosenFigures.logits) / chosenLabels,
    ...(hasRejected && { "logits/rejected": sum((r) => r.rejectedFigures.logits) / rejectedLabels }),
    entropy: sum((r) => r.chosenFigures.entropy + r.rejectedFigures.entropy) /
      (chosenLabels + rejectedLabels),
    mean_token_accuracy: sum((r) => r.chosenFigures.correct) / chosenLabels,
    ...(ends.length > 0 && { "eos/probability": ends.reduce((sum, end) => sum + end, 0) / ends.length }),
  };
}
