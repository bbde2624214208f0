/** transformers' names of learning-rate schedules. */
export type Scheduler = "cosine" | "linear" | "constant" | "constant_with_warmup";

/** How the learning rate changes. */
export interface Schedule {
  /** Its form. */
  type: Scheduler;
  /** The highest. */
  learningRate: number;
  /** Updates of the whole run. */
  totalSteps: number;
  /** Those of them in which the rate rises from 0. */
  warmupSteps: number;
}

/**
 * Learning rate of update `step`, counted from 0, as transformers' schedulers give it: a linear rise from 0, then
 * half a cosine to 0, a line to 0, or constant. Unlike transformers', `constant` warms up too, where a warm-up is
 * asked for.
 *
 * @example
 * ```ts
 * import { learningRate } from "./schedule.ts";
 * import assert from "node:assert/strict";
 * const schedule = { type: "linear", learningRate: 1, totalSteps: 6, warmupSteps: 2 } as const;
 * assert.deepEqual([0, 1, 2, 3, 4, 5].map((step) => learningRate(step, schedule)), [0, 0.5, 1, 0.75, 0.5, 0.25]);
 * ```
 */
export function learningRate(step: number, schedule: Schedule): number {
  const { type, learningRate: peak, totalSteps, warmupSteps } = schedule;
  if (step < warmupSteps) return peak * step / Math.max(1, warmupSteps);
  const progress = (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps);
  switch (type) {
    case "cosine":
      return peak * 0.5 * (1 + Math.cos(Math.PI * progress));
    case "linear":
      return peak * (1 - progress);
    case "constant":
    case "constant_with_warmup":
      return peak;
  }
}

/** Steps that are written as such, or below 1 as a share of all steps, rounded up. */
export const stepsOf = (stepsOrShare: number, totalSteps: number) =>
  stepsOrShare < 1 ? Math.ceil(totalSteps * stepsOrShare) : stepsOrShare;
