import type { TrainConfig } from "./config/schema.ts";
import { UserError } from "./errors.ts";
import { evaluate } from "./evaluate.ts";
import type { TrainEvents } from "./events.ts";
import type { Gpu } from "./gpu/device.ts";
import { Profiler } from "./gpu/profiler.ts";
import { type Metrics, summarize } from "./metrics.ts";
import type { Planned } from "./plan.ts";
import type { Prepared } from "./prepare.ts";
import type { LogEntry } from "./report/trainer_state.ts";
import { sampleStep } from "./sampler.ts";
import { learningRate, type Schedule } from "./schedule.ts";
import type { StepResult } from "./step.ts";

/** The training loop and the figures that it keeps. */
export class Loop {
  readonly history: LogEntry[] = [];
  readonly #schedule: Schedule;
  readonly #start = performance.now();
  #seconds = 0;
  /** Since the last log entry. */
  #window = { results: [] as StepResult[], start: performance.now() };
  #lastCollect = performance.now();
  #steps = 0;
  #pairs = 0;
  #tokens = 0;
  #lossSum = 0;
  #flops = 0;

  constructor(
    readonly gpu: Gpu,
    readonly config: TrainConfig,
    readonly prepared: Prepared,
    readonly planned: Planned,
    readonly events: TrainEvents,
  ) {
    const { totalSteps } = prepared;
    const { warmupSteps, warmupRatio } = config;
    const share = warmupSteps > 0 && warmupSteps < 1 ? warmupSteps : warmupRatio;
    this.#schedule = {
      type: config.lrSchedulerType,
      learningRate: config.learningRate,
      totalSteps,
      warmupSteps: warmupSteps >= 1 ? warmupSteps : Math.ceil(totalSteps * share),
    };
  }

  async run(signal?: AbortSignal): Promise<void> {
    const { gpu, config, prepared: { totalSteps, sampler, train }, planned: { decoder, optimizer, runner } } =
      this;
    if (config.evalOnStart) await this.#evaluate();
    for (let step = 0; step < totalSteps && !signal?.aborted; step++) {
      const micro = await Promise.all(sampleStep(step, sampler).batches.map((batch) => train.read(batch)));
      const profiler = this.#profilerOf(step);
      runner.run(
        profiler?.gpu ?? gpu,
        decoder,
        optimizer,
        step,
        micro,
        learningRate(step, this.#schedule),
      );
      if (profiler) this.events.profiled!(await profiler.collect(), step + 1);
      const isLast = step + 1 === totalSteps;
      const evaluates = this.#evaluatesAfter(step);
      if (this.#logsAfter(step) || runner.isFull || isLast || evaluates || this.#isQuiet()) {
        await this.#collect();
      }
      if (evaluates) await this.#evaluate();
    }
    await this.#collect();
    const evaluatedLast = this.history.at(-1)?.step === this.#steps &&
      this.history.at(-1)?.eval_loss !== undefined;
    if (config.doEval && !evaluatedLast) await this.#evaluate();
    this.#seconds = (performance.now() - this.#start) / 1000;
  }

  /** For the second step, since the first one compiles. */
  #profilerOf(step: number): Profiler | undefined {
    const { gpu, events, prepared: { totalSteps }, planned: { decoder } } = this;
    if (!events.profiled || step !== Math.min(1, totalSteps - 1)) return undefined;
    if (Profiler.isSupported(gpu)) {
      return new Profiler(gpu, { each: "dispatch", workSize: () => decoder.workSize() });
    }
    events.log?.("warning", `no profile: ${gpu.name} has no timestamp queries`);
  }

  totals() {
    const { epoch } = this.#steps ? sampleStep(this.#steps - 1, this.prepared.sampler) : { epoch: 0 };
    return {
      steps: this.#steps,
      epoch,
      seconds: this.#seconds,
      pairs: this.#pairs,
      tokens: this.#tokens,
      trainLoss: this.#lossSum / Math.max(1, this.#steps),
      flops: this.#flops,
    };
  }

  /** Nobody has heard of progress for a while. */
  #isQuiet(): boolean {
    return performance.now() - this.#lastCollect > 250;
  }

  #logsAfter(step: number): boolean {
    return (step + 1) % this.config.loggingSteps === 0 || (step === 0 && this.config.loggingFirstStep);
  }

  #evaluatesAfter(step: number): boolean {
    const { evalStrategy, evalSteps } = this.config;
    if (evalStrategy === "steps") return (step + 1) % evalSteps === 0;
    return evalStrategy === "epoch" && Number.isInteger(sampleStep(step, this.prepared.sampler).epoch);
  }

  async #collect(): Promise<void> {
    const { gpu, prepared: { totalSteps }, planned: { runner } } = this;
    const results = await runner.collect(gpu);
    const seconds = (performance.now() - this.#lastCollect) / 1000;
    this.#lastCollect = performance.now();
    const tokens = results.reduce((sum, result) => sum + result.tokens, 0);
    const pairs = results.reduce((sum, result) => sum + result.pairs.length, 0);
    for (const result of results) {
      await this.#checkFinite(result);
      const metrics = summarize(result.pairs);
      this.#steps = result.step + 1;
      this.#pairs += result.pairs.length;
      this.#tokens += result.tokens;
      this.#lossSum += metrics.loss;
      this.#flops += result.flops;
      this.#window.results.push(result);
      this.events.stepped?.({
        step: result.step + 1,
        totalSteps,
        loss: metrics.loss,
        accuracy: metrics["rewards/accuracies"],
        tokensPerSecond: tokens / seconds,
        pairsPerSecond: pairs / seconds,
      });
      if (this.#logsAfter(result.step)) this.#log(result);
    }
  }

  /** One entry for the steps since the last: means of their figures, the gradient norm of the last. */
  #log({ step, clip }: StepResult): void {
    const { results, start } = this.#window;
    const seconds = (performance.now() - start) / 1000;
    this.#window = { results: [], start: performance.now() };
    this.#push({
      ...position(step, this.prepared),
      ...meanMetrics(results.map(({ pairs }) => summarize(pairs))),
      grad_norm: clip.norm,
      learning_rate: learningRate(step, this.#schedule),
      tokens_per_second: results.reduce((sum, { tokens }) => sum + tokens, 0) / seconds,
      pairs_per_second: results.reduce((sum, { pairs }) => sum + pairs.length, 0) / seconds,
      num_input_tokens_seen: this.#tokens,
    });
  }

  async #evaluate(): Promise<void> {
    const { gpu, config, prepared: { test }, planned: { decoder } } = this;
    const start = performance.now();
    const results = await evaluate(gpu, decoder, test!, config.perDeviceEvalBatchSize);
    const seconds = (performance.now() - start) / 1000;
    const metrics = Object.entries(summarize(results)).map(([name, value]) => [`eval_${name}`, value]);
    this.#push({
      ...(this.#steps ? position(this.#steps - 1, this.prepared) : { step: 0, epoch: 0 }),
      ...Object.fromEntries(metrics),
      eval_runtime: seconds,
      eval_samples_per_second: results.length / seconds,
    });
    // Evaluation is no part of the training rate.
    this.#window.start += performance.now() - start;
    this.#lastCollect = performance.now();
  }

  #push(entry: LogEntry): void {
    this.history.push(entry);
    this.events.logged?.(entry);
  }

  /** Stops at the first step whose gradient is not finite: its update, and any after it, was not made. */
  async #checkFinite({ step, pairs, clip }: StepResult): Promise<void> {
    if (!clip.broken) return;
    const { gpu, prepared: { sampler, train }, planned: { optimizer } } = this;
    const [first] = await optimizer.brokenParameters(gpu);
    const index =
      sampleStep(step, sampler).batches.flat()[pairs.findIndex(({ loss }) => !Number.isFinite(loss))];
    const loss = index === undefined ? "every loss is finite" : `the loss of ${train.where(index)} is not`;
    throw new UserError(
      `step ${step + 1}: the gradient of ${first?.spec.name ?? "the whole model"} is not finite (${loss}). ${
        optimizer.updatesEarly
          ? "Only weights whose gradients came before it were updated"
          : "The weights are as they were before this step"
      }. ` +
        "Try a lower learning_rate, a longer warm-up or a smaller max_grad_norm; check " +
        "that the model's own weights are finite",
    );
  }
}

/** Where a run stands after `step` (from 0). */
function position(step: number, { sampler }: Prepared): { step: number; epoch: number } {
  return { step: step + 1, epoch: sampleStep(step, sampler).epoch };
}

/** Means over steps, as transformers logs them. */
function meanMetrics(steps: Metrics[]): Record<string, number> {
  const names = Object.keys(steps[0]) as (keyof Metrics)[];
  return Object.fromEntries(
    names.map((name) => [name, steps.reduce((sum, metrics) => sum + metrics[name]!, 0) / steps.length]),
  );
}
