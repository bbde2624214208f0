import type { Loss } from "../losses/loss.ts";
import { type Metrics, summarize } from "./metrics.ts";
import type { LogEntry } from "./log_entry.ts";
import type { StepResult } from "./step_figures.ts";

/** What has to be kept of `Figures` between the parts of a run, beside the log. */
export interface FiguresState {
  pairs: number;
  tokens: number;
  /** Not known where an earlier version, which did not count them, began the run. */
  sequenceTokens?: number;
  lossSum: number;
  flops: number;
  /** Seconds of the training loop so far. */
  seconds: number;
  /** The steps since the last log entry. */
  window: { steps: Metrics[]; pairs: number; tokens: number; seconds: number };
}

/** The figures that a run keeps: its log, its totals, and the steps that the next log entry is for. */
export class Figures {
  readonly history: LogEntry[];
  readonly #totals: FiguresState;
  #steps: number;
  #start = performance.now();
  #windowStart = performance.now();

  /**
   * Those of a new run, or of one that goes on after `steps` optimizer steps.
   * @param loss whose rewards they are; by default SimPER's.
   */
  constructor(
    before?: { steps: number; history: readonly LogEntry[]; state: FiguresState },
    readonly loss?: Loss,
  ) {
    this.#steps = before?.steps ?? 0;
    this.history = [...before?.history ?? []];
    this.#totals = structuredClone(
      before?.state ??
        {
          ...{ pairs: 0, tokens: 0, sequenceTokens: 0, lossSum: 0, flops: 0, seconds: 0 },
          window: { ...EMPTY, steps: [] },
        },
    );
  }

  /** Optimizer steps whose figures are known. */
  get steps(): number {
    return this.#steps;
  }

  get totals() {
    const { pairs, tokens, lossSum, flops } = this.#totals;
    const seconds = this.#totals.seconds + since(this.#start);
    return {
      steps: this.#steps,
      pairs,
      tokens,
      flops,
      seconds,
      trainLoss: lossSum / Math.max(1, this.#steps),
    };
  }

  /** Tokens of all sequences so far, each with its prompt: TRL's `num_tokens`, as an entry of the log. */
  get tokensSeen(): { num_tokens?: number } {
    const { sequenceTokens } = this.#totals;
    return sequenceTokens === undefined ? {} : { num_tokens: sequenceTokens };
  }

  toJSON(): FiguresState {
    const { window } = this.#totals;
    return {
      ...this.#totals,
      seconds: this.#totals.seconds + since(this.#start),
      window: { ...window, seconds: window.seconds + since(this.#windowStart) },
    };
  }

  /** Takes the results of the next step; returns the means over its pairs. */
  add({ step, pairs, tokens, sequenceTokens, flops }: StepResult): Metrics {
    const metrics = summarize(pairs, this.loss);
    const totals = this.#totals;
    this.#steps = step + 1;
    totals.pairs += pairs.length;
    totals.tokens += tokens;
    if (totals.sequenceTokens !== undefined) totals.sequenceTokens += sequenceTokens;
    totals.lossSum += metrics.loss;
    totals.flops += flops;
    totals.window.steps.push(metrics);
    totals.window.pairs += pairs.length;
    totals.window.tokens += tokens;
    return metrics;
  }

  /** Means over the steps since the last call, and their rates; begins anew. */
  takeWindow(): Record<string, number> {
    const { steps, pairs, tokens, seconds } = this.#totals.window;
    const time = seconds + since(this.#windowStart);
    this.#totals.window = { ...EMPTY, steps: [] };
    this.#windowStart = performance.now();
    return {
      ...meanMetrics(steps),
      ...this.tokensSeen,
      tokens_per_second: tokens / time,
      pairs_per_second: pairs / time,
      num_input_tokens_seen: this.#totals.tokens,
    };
  }

  /** Leaves the milliseconds of what is no training, an evaluation or a checkpoint, out of the rates. */
  exclude(milliseconds: number): void {
    this.#windowStart += milliseconds;
  }

  /** Whether the log has an evaluation of the weights as they are. */
  get isEvaluated(): boolean {
    return this.history.some((entry) => entry.step === this.#steps && "eval_loss" in entry);
  }
}

const EMPTY = { pairs: 0, tokens: 0, seconds: 0 };

const since = (start: number) => (performance.now() - start) / 1000;

/** Means over the steps that have a figure, as transformers logs them. */
function meanMetrics(steps: Metrics[]): Record<string, number> {
  const names = [...new Set(steps.flatMap((metrics) => Object.keys(metrics) as (keyof Metrics)[]))];
  return Object.fromEntries(
    names.map((name) => {
      const values = steps.map((metrics) => metrics[name]).filter((value) => value !== undefined);
      return [name, values.reduce((sum, value) => sum + value, 0) / values.length];
    }),
  );
}
