import { bestOf } from "../training/best.ts";
import type { Checkpoints } from "../checkpoint/checkpoints.ts";
import type { SavedRun } from "../checkpoint/state.ts";
import { CollapseAlarm, describeCollapse } from "../training/collapse.ts";
import type { TrainConfig } from "../config/schema.ts";
import { any, gather } from "../distributed/collectives.ts";
import { type Communicator, shareOf } from "../distributed/communicator.ts";
import type { Grid } from "../distributed/grid.ts";
import { evaluate } from "../training/evaluate.ts";
import { Figures } from "../training/figures.ts";
import type { Gpu } from "../gpu/device.ts";
import { Profiler } from "../gpu/profiler.ts";
import { checkFinite, explainFailure } from "./guard.ts";
import type { TrainOptions } from "./options.ts";
import { summarize, tokenLogps } from "../training/metrics.ts";
import { isJudged, unitOf } from "../losses/loss.ts";
import type { Planned } from "../planning/plan.ts";
import type { Prepared } from "../planning/prepare.ts";
import { chromeTrace, profileTable } from "../report/profile.ts";
import type { RunLog } from "../report/run_log.ts";
import type { LogEntry } from "../training/log_entry.ts";
import type { TrainerState } from "../checkpoint/trainer_state.ts";
import { epochAfter, sampleStep } from "../training/sampler.ts";
import { learningRate, type Schedule, stepsOf } from "../training/schedule.ts";
import { ofPipeline, type StepResult, together } from "../training/step_figures.ts";
import { TimeLeft } from "../training/time_left.ts";

/** What the loop works with. */
export interface LoopRun {
  gpu: Gpu;
  config: TrainConfig;
  prepared: Prepared;
  planned: Planned;
  checkpoints: Checkpoints;
  /** What the output folder holds of the run while it goes on; only the first rank writes there. */
  log?: RunLog;
  communicator: Communicator;
  ranks: Grid;
}

/** Of so many steps one may pass without training, and nobody need be told. */
const MOST_IDLE = 10;

/** The training loop: steps, and between them what is due, in transformers' order: log, evaluation, checkpoint. */
export class Loop {
  readonly figures: Figures;
  readonly #alarm: CollapseAlarm;
  readonly #schedule: Schedule;
  readonly #startStep: number;
  readonly #timeLeft: TimeLeft;
  #lastCollect = performance.now();
  /** Milliseconds of each step that was collected last. */
  #stepTime?: number;
  /** Steps that the GPU was given. */
  #submitted = 0;
  #stopped = false;

  /** @param before the checkpoint that the run goes on from. */
  constructor(readonly run: LoopRun, readonly events: TrainOptions, before?: SavedRun) {
    const { config, prepared: { totalSteps, sampler } } = run;
    const { warmupSteps, warmupRatio } = config;
    this.#schedule = {
      type: config.lrSchedulerType,
      learningRate: config.learningRate,
      totalSteps,
      warmupSteps: stepsOf(warmupSteps > 0 ? warmupSteps : warmupRatio, totalSteps),
    };
    this.#startStep = before?.state.step ?? 0;
    this.#timeLeft = new TimeLeft(this.#pausesToCome());
    this.#alarm = new CollapseAlarm(before?.state.collapse);
    this.figures = new Figures(
      before &&
        {
          steps: this.#startStep,
          // A checkpoint of an earlier version may have counted epochs by pairs.
          history: before.trainerState.log_history.map((entry) => ({
            ...entry,
            epoch: epochAfter(entry.step, sampler),
          })),
          state: before.state.figures,
        },
      this.run.prepared.loss,
    );
  }

  /** Whether a signal ended the run before its last step, or its last evaluation. */
  get isStopped(): boolean {
    return this.#stopped;
  }

  /** Trains to the last step, or until `signal` stops it: after the step in hand, with a checkpoint. */
  async train(signal?: AbortSignal): Promise<void> {
    try {
      await this.#train(signal);
    } catch (error) {
      // A checkpoint on its way to the disk was made before the failure, and is good.
      await this.run.checkpoints.finish().catch(() => {});
      await this.#record();
      throw await explainFailure(error, this.run, [this.figures.steps + 1, this.#submitted]);
    }
  }

  async #train(signal?: AbortSignal): Promise<void> {
    const { gpu, config, prepared: { totalSteps, sampler, train }, planned: { runner } } = this.run;
    const { checkpoints, ranks } = this.run;
    this.#warnOfIdleSteps();
    if (config.evalOnStart && this.figures.steps === 0 && !this.figures.isEvaluated) {
      await this.#evaluate(signal);
    }
    // A run that a signal stopped has its evaluation still to do.
    await this.#doWhatIsDue(signal);
    this.#lastCollect = performance.now();
    for (let step = this.#startStep; step < totalSteps && !await this.#isStopping(signal); step++) {
      const { batches, pairs: pairsOfStep } = sampleStep(step, sampler);
      const [firstBatch, end] = shareOf(batches.length, ranks.data);
      const micro = await Promise.all(batches.slice(firstBatch, end).map((batch) => train.read(batch)));
      const profiler = this.#profilerOf(step);
      const rate = learningRate(step, this.#schedule);
      // The GPU has the next step by the time that somebody waits for the figures of the last.
      const readFigures = this.#showsAfter(step - 1) ? runner.turn() : undefined;
      let figures: Promise<StepResult[]> | undefined;
      this.#announce(step + 1);
      const pairs = micro.flat().length;
      await runner.run(profiler?.gpu ?? gpu, step, micro, rate, {
        part: { ranks, firstBatch, pairsOfStep },
        onEncoded: () => {
          figures = readFigures?.(gpu);
          // Should the submission fail, that is told and not this.
          figures?.catch(() => {});
        },
        // Ranks do their shares of a step at the same time: this one's stands for all.
        onDone: (done) =>
          this.#announce(step + 1, {
            done: pairs > 0 ? Math.round(pairsOfStep * done / pairs) : pairsOfStep,
            total: pairsOfStep,
          }),
      });
      this.#submitted = step + 1;
      if (figures) await this.#take(await figures);
      if (profiler) await this.#tellProfile(profiler, step + 1);
      // While the GPU works on this step, or after a submission that blocks: by then the disk is done.
      await checkpoints.finish();
      const isDue = step + 1 === totalSteps || this.#evaluatesAfter(step) || this.#savesAfter(step);
      // A driver on the processor has done the step when it is submitted, and whoever waits for its figures sees them
      // before the next, which may take minutes.
      if (isDue || (gpu.isSoftware && this.#showsAfter(step))) await this.#collect();
      if (isDue) await this.#doWhatIsDue(signal);
    }
    await this.#collect();
    if (this.#stopped || this.figures.steps < totalSteps) {
      this.#stopped = true;
      await this.#save();
    }
    await checkpoints.finish();
    await this.#record();
  }

  /**
   * As in transformers the warm-up begins at a rate of 0; whoever tries a few steps wonders why one changes nothing.
   */
  #warnOfIdleSteps(): void {
    const { config, prepared: { totalSteps } } = this.run;
    const steps = Array.from({ length: totalSteps - this.#startStep }, (_, i) => this.#startStep + i);
    const idle = steps.filter((step) => learningRate(step, this.#schedule) === 0).length;
    if (config.learningRate === 0 || idle === 0 || idle < totalSteps / MOST_IDLE) return;
    this.events.onLog?.(
      "warning",
      `${idle} of ${totalSteps} steps changes nothing: the warm-up begins at a learning rate of 0; ` +
        `${config.warmupSteps > 0 ? "warmup_steps" : "warmup_ratio"}: 0 trains in it`,
    );
  }

  /** Whether a signal came, to this rank or to another. */
  async #isStopping(signal?: AbortSignal): Promise<boolean> {
    return await any(this.run.communicator, signal?.aborted ?? false);
  }

  /** Says which step is submitted now, and when it will be done if it takes as long as those before. */
  #announce(step: number, pairs?: { done: number; total: number }): void {
    const { events: { onSubmit }, figures: { steps } } = this;
    if (!onSubmit) return;
    const until = this.#stepTime &&
      performance.timeOrigin + this.#lastCollect + this.#stepTime * (step - steps);
    onSubmit({ step, totalSteps: this.run.prepared.totalSteps, until, pairs });
  }

  async #tellProfile(profiler: Profiler, step: number): Promise<void> {
    const profile = await profiler.collect();
    const trace = chromeTrace(profile, `${this.run.config.modelNameOrPath}, step ${step}`);
    this.events.onProfile!({ table: profileTable(profile.kernels), trace }, step);
  }

  /** For the second step, since the first one compiles. */
  #profilerOf(step: number): Profiler | undefined {
    const { gpu, prepared: { totalSteps }, planned: { decoder } } = this.run;
    if (!this.events.onProfile || step !== Math.min(this.#startStep + 1, totalSteps - 1)) return undefined;
    if (Profiler.isSupported(gpu)) {
      return new Profiler(gpu, { each: "dispatch", workSize: () => decoder.workSize() });
    }
    this.events.onLog?.("warning", `no profile: ${gpu.name} has no timestamp queries`);
  }

  /** The state of the run as it is now. */
  async trainerState(): Promise<TrainerState> {
    return await this.run.checkpoints.trainerState(this.figures, this.#alarm, this.#best);
  }

  /** Writes trainer_state.json, a log entry's only where that takes next to no time. */
  async #record(isDue = true): Promise<void> {
    await this.run.log?.writeState(await this.trainerState(), isDue);
  }

  get #best() {
    return bestOf(this.figures.history, this.run.config);
  }

  /** The evaluation and the checkpoint that belong after the steps done, unless they were made. */
  async #doWhatIsDue(signal?: AbortSignal): Promise<void> {
    const { saveStrategy } = this.run.config;
    const { steps, isEvaluated } = this.figures;
    if (await this.#isStopping(signal)) this.#stopped = true;
    if (this.#stopped || steps === 0) return;
    const evaluates = this.#isEvaluationDue(steps - 1);
    if (evaluates && !isEvaluated && !await this.#evaluate(signal)) return;
    const isBest = saveStrategy === "best" && evaluates && this.#best?.step === steps;
    if (this.#isCheckpointDue(steps - 1) || isBest) await this.#save();
  }

  #isEvaluationDue(step: number): boolean {
    const { config: { doEval }, prepared: { totalSteps } } = this.run;
    return (step + 1 === totalSteps && doEval) || this.#evaluatesAfter(step);
  }

  #isCheckpointDue(step: number): boolean {
    const { config: { saveStrategy }, prepared: { totalSteps } } = this.run;
    return step + 1 === totalSteps
      ? saveStrategy === "steps" || saveStrategy === "epoch"
      : this.#savesAfter(step);
  }

  #pausesToCome(): { evaluation: number; checkpoint: number } {
    const found = { evaluation: 0, checkpoint: 0 };
    for (let step = this.#startStep; step < this.run.prepared.totalSteps; step++) {
      if (this.#isEvaluationDue(step)) found.evaluation++;
      if (this.#isCheckpointDue(step)) found.checkpoint++;
    }
    return found;
  }

  async #save(): Promise<void> {
    const start = performance.now();
    await this.#record();
    await this.run.checkpoints.save(this.figures, this.#alarm, this.#best);
    this.#timeLeft.addPause("checkpoint", (performance.now() - start) / 1000, true);
    this.figures.exclude(performance.now() - start);
    this.#lastCollect = performance.now();
  }

  /** Nobody has heard of progress for a while; several ranks, which have no common clock, have waited anyway. */
  #isQuiet(): boolean {
    return this.run.communicator.size > 1 || performance.now() - this.#lastCollect > 250;
  }

  #logsAfter(step: number): boolean {
    const { loggingSteps, loggingFirstStep } = this.run.config;
    return (step + 1) % loggingSteps === 0 || (step === 0 && loggingFirstStep);
  }

  #evaluatesAfter(step: number): boolean {
    const { evalStrategy, evalSteps } = this.run.config;
    if (evalStrategy === "steps") return (step + 1) % evalSteps === 0;
    return evalStrategy === "epoch" && this.#endsEpoch(step);
  }

  #savesAfter(step: number): boolean {
    const { config: { saveStrategy, saveSteps }, prepared: { totalSteps } } = this.run;
    if (saveStrategy === "steps") return (step + 1) % stepsOf(saveSteps, totalSteps) === 0;
    return saveStrategy === "epoch" && this.#endsEpoch(step);
  }

  #endsEpoch(step: number): boolean {
    return Number.isInteger(epochAfter(step + 1, this.run.prepared.sampler));
  }

  /** Whether the figures up to this step's are to be seen now, if the device has done it. */
  #showsAfter(step: number): boolean {
    return this.#logsAfter(step) || this.run.planned.runner.isFull || this.#isQuiet();
  }

  /** Waits for the steps in flight. */
  async #collect(): Promise<void> {
    await this.#take(await this.run.planned.runner.collect(this.run.gpu));
  }

  /** Takes what steps left, in order; of several ranks, what all of them left. */
  async #take(own: readonly StepResult[]): Promise<void> {
    const { ranks: { data, pipeline }, prepared: { totalSteps } } = this.run;
    const results = together(await gather(data, ofPipeline(await gather(pipeline, own))));
    const seconds = (performance.now() - this.#lastCollect) / 1000;
    this.#lastCollect = performance.now();
    if (results.length > 0) {
      this.#stepTime = seconds * 1000 / results.length;
      this.#timeLeft.addSteps(results.length, seconds);
    }
    const logged = this.figures.history.length;
    const tokens = results.reduce((sum, result) => sum + result.tokens, 0);
    const pairs = results.reduce((sum, result) => sum + result.pairs.length, 0);
    for (const result of results) {
      await checkFinite(this.run, result);
      const metrics = this.figures.add(result);
      const collapse = isJudged(this.run.prepared.loss)
        ? undefined
        : this.#alarm.add(result.step + 1, result.pairs.length, tokenLogps(result.pairs));
      if (collapse) this.events.onLog?.("warning", describeCollapse(collapse));
      this.events.onStep?.({
        step: result.step + 1,
        startStep: this.#startStep,
        totalSteps,
        loss: metrics.loss,
        accuracy: metrics["rewards/accuracies"],
        margin: metrics["rewards/margins"],
        gradNorm: result.clip.norm,
        learningRate: learningRate(result.step, this.#schedule),
        tokensPerSecond: tokens / seconds,
        pairsPerSecond: pairs / seconds,
        secondsLeft: this.#timeLeft.of(totalSteps - result.step - 1),
      });
      if (this.#logsAfter(result.step)) await this.#log(result);
    }
    if (this.figures.history.length > logged) await this.#record(false);
  }

  /** One entry for the steps since the last: means of their figures, the gradient norm of the last. */
  async #log({ step, clip }: StepResult): Promise<void> {
    const { num_input_tokens_seen, tokens_per_second, pairs_per_second, ...means } = this.figures
      .takeWindow();
    await this.#push({
      ...this.#position(),
      ...means,
      grad_norm: clip.norm,
      learning_rate: learningRate(step, this.#schedule),
      tokens_per_second,
      pairs_per_second,
      num_input_tokens_seen,
    });
  }

  /** Evaluates, and logs it; false where a signal came in between and there is no entry. */
  async #evaluate(signal?: AbortSignal): Promise<boolean> {
    const { gpu, config, prepared: { test, loss }, planned: { decoder, runner }, ranks } = this.run;
    const start = performance.now();
    const { onProgress } = this.events;
    const results = await evaluate(gpu, decoder, test!, config.perDeviceEvalBatchSize, {
      signal,
      onProgress,
      loss: runner.loss,
      unit: unitOf(loss),
      ranks,
    });
    if (!results) {
      this.#stopped = true;
      return false;
    }
    const seconds = (performance.now() - start) / 1000;
    const metrics = Object.entries({ ...summarize(results, loss), ...this.figures.tokensSeen })
      .map(([name, value]) => [`eval_${name}`, value]);
    await this.#push({
      ...this.#position(),
      ...Object.fromEntries(metrics),
      eval_runtime: seconds,
      eval_samples_per_second: results.length / seconds,
    });
    await this.#record(false);
    this.#timeLeft.addPause(
      "evaluation",
      (performance.now() - start) / 1000,
      this.figures.steps > this.#startStep,
    );
    this.figures.exclude(performance.now() - start);
    this.#lastCollect = performance.now();
    return true;
  }

  async #push(entry: LogEntry): Promise<void> {
    this.figures.history.push(entry);
    await this.run.log?.append(this.figures.history);
    this.events.onEntry?.(entry);
    if ("eval_loss" in entry) this.events.onEvaluate?.(entry);
  }

  /** Where the run stands. */
  #position(): { step: number; epoch: number } {
    const { steps } = this.figures;
    return { step: steps, epoch: epochAfter(steps, this.run.prepared.sampler) };
  }
}
