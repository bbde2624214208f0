import type { TrainConfig } from "../config/schema.ts";
import type { LogEntry } from "./log_entry.ts";

/** The best evaluation so far. */
export interface Best {
  step: number;
  value: number;
}

/**
 * The best evaluation of a log by `metric_for_best_model`, the first of equals; that before the first step does not
 * count, as in transformers. Undefined where nothing is compared or was evaluated.
 *
 * @example
 * ```ts
 * import { bestOf } from "./best.ts";
 * import assert from "node:assert/strict";
 * const log = [{ step: 2, epoch: 0.5, eval_loss: -0.1 }, { step: 4, epoch: 1, eval_loss: -0.3 }];
 * assert.deepEqual(bestOf(log, { metricForBestModel: "loss", greaterIsBetter: false }), { step: 4, value: -0.3 });
 * ```
 */
export function bestOf(
  history: readonly LogEntry[],
  { metricForBestModel, greaterIsBetter }: Pick<TrainConfig, "metricForBestModel" | "greaterIsBetter">,
): Best | undefined {
  let best: Best | undefined;
  for (const entry of history) {
    const value = metricForBestModel && entry[`eval_${metricForBestModel}`];
    if (typeof value !== "number" || !Number.isFinite(value) || entry.step === 0) continue;
    if (!best || (greaterIsBetter ? value > best.value : value < best.value)) {
      best = { step: entry.step, value };
    }
  }
  return best;
}
