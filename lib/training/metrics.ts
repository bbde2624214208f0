import type { Batch } from "../batch/pack.ts";

/** What the loss kernel gives for one pair: natural logarithms, summed over the labels of each response. */
export interface PairResult {
  loss: number;
  chosen: number;
  rejected: number;
  chosenLabels: number;
  rejectedLabels: number;
}

/** Figures over pairs, by TRL's names. Under these losses a reward is the mean log-probability, as SimPER publishes it. */
export interface Metrics {
  loss: number;
  "rewards/chosen": number;
  "rewards/rejected"?: number;
  "rewards/accuracies"?: number;
  "rewards/margins"?: number;
  /** Log-probabilities summed over a response, mean over pairs: TRL's `logps/*`. */
  "logps/chosen": number;
  "logps/rejected"?: number;
}

/** Reads the loss kernel's results, four floats a pair, for the pairs of `batch`. */
export function pairResults(results: Float32Array, { labelsOfPair, pairs }: Batch): PairResult[] {
  return Array.from({ length: pairs }, (_, p) => ({
    loss: results[4 * p],
    chosen: results[4 * p + 1],
    rejected: results[4 * p + 2],
    chosenLabels: labelsOfPair[4 * p + 1] - labelsOfPair[4 * p],
    rejectedLabels: labelsOfPair[4 * p + 3] - labelsOfPair[4 * p + 2],
  }));
}

/**
 * Means over pairs; without those of rejected where no pair has one.
 *
 * @example
 * ```ts
 * import { summarize } from "./metrics.ts";
 * import assert from "node:assert/strict";
 * const pair = { loss: -0.1, chosen: -4, rejected: -9, chosenLabels: 2, rejectedLabels: 3 };
 * const metrics = summarize([pair]);
 * assert.equal(metrics["rewards/chosen"], -2);
 * assert.equal(metrics["rewards/margins"], 1);
 * assert.equal(metrics["logps/rejected"], -9);
 * ```
 */
export function summarize(results: readonly PairResult[]): Metrics {
  const mean = (of: (result: PairResult) => number) =>
    results.reduce((sum, result) => sum + of(result), 0) / results.length;
  const chosen = (r: PairResult) => r.chosen / r.chosenLabels;
  const rejected = (r: PairResult) => r.rejected / r.rejectedLabels;
  return {
    loss: mean((r) => r.loss),
    "rewards/chosen": mean(chosen),
    ...(results.every((r) => r.rejectedLabels > 0) && {
      "rewards/rejected": mean(rejected),
      "rewards/accuracies": mean((r) => chosen(r) > rejected(r) ? 1 : 0),
      "rewards/margins": mean((r) => chosen(r) - rejected(r)),
    }),
    "logps/chosen": mean((r) => r.chosen),
    ...(results.every((r) => r.rejectedLabels > 0) && { "logps/rejected": mean((r) => r.rejected) }),
  };
}
