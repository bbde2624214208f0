import { dirname, join, resolve } from "node:path";
import type { Best } from "../training/best.ts";
import type { CollapseAlarm } from "../training/collapse.ts";
import type { TrainConfig } from "../config/schema.ts";
import type { Communicator } from "../distributed/communicator.ts";
import type { Figures } from "../training/figures.ts";
import type { TuningRecord } from "../gpu/tuning.ts";
import { samplePosition } from "../training/sampler.ts";
import { type TrainerState, trainerStateOf } from "./trainer_state.ts";
import type { OnProgress } from "../progress/progress.ts";
import { withProgress } from "../safetensors/write.ts";
import { VERSION } from "../program/version.ts";
import type { Division } from "./division.ts";
import { type Fingerprint, FORMAT, type SavedRun } from "./state.ts";
import { checkpointName, listCheckpoints } from "./names.ts";
import type { ModelFiles } from "../hub/model_files.ts";
import { restore, savedAdapter, type Trained, withSavedSources } from "./tensors.ts";
import { CheckpointWriter } from "./write.ts";

/** A run as far as its checkpoints are about it. */
export interface CheckpointedRun extends Trained {
  config: TrainConfig;
  fingerprint: Fingerprint;
  /** The model's files beside the weights, as the run began with them. */
  modelFiles: ModelFiles;
  /** How products are computed. */
  kernels: TuningRecord;
  communicator: Communicator;
  /** How its ranks divide the work, where numbers follow from it. */
  division?: Division;
  /** Answers to `prompts` before the first step. */
  answers: string[];
}

/** The checkpoints of one run. */
export class Checkpoints {
  readonly #writer: CheckpointWriter;
  #lastStep: number;

  /**
   * @param before what the run goes on from.
   * @param saved told of each checkpoint that is on the disk.
   * @param onProgress hears how far the writing or reading of one is.
   */
  constructor(
    readonly run: CheckpointedRun,
    before: SavedRun | undefined,
    saved: (folder: string) => void,
    readonly onProgress?: OnProgress,
  ) {
    const { outputDir, saveTotalLimit } = run.config;
    const begun = before && dirname(resolve(before.folder)) === resolve(outputDir)
      ? before.state.step
      : undefined;
    this.#writer = new CheckpointWriter(outputDir, saveTotalLimit, saved, begun);
    this.#lastStep = before?.state.step ?? 0;
  }

  /** The step of the last one; 0 before the first. */
  get lastStep(): number {
    return this.#lastStep;
  }

  /** Waits until the last one is on the disk; throws what went wrong with it. */
  async finish(): Promise<void> {
    await this.#writer.finish();
  }

  /**
   * Writes a checkpoint of the run, on the first rank, after the steps that `figures` knows, unless there is one or no
   * step was made.
   * @throws {UserError} where it cannot be written or a tensor is not finite; the checkpoints before it stay.
   */
  async save(figures: Figures, alarm: CollapseAlarm, best: Best | undefined): Promise<void> {
    const { steps } = figures;
    if (steps === this.#lastStep) return;
    await this.#writer.finish();
    const { run } = this;
    const { prepared, gpu, communicator, division } = run;
    await withSavedSources(run, communicator, "all", async ({ weights, optimizer }) => {
      const tensors = withProgress(
        [...weights, ...optimizer],
        `saving ${checkpointName(steps)}`,
        this.onProgress,
      );
      await this.#writer.write({
        weights: tensors.slice(0, weights.length),
        optimizer: tensors.slice(weights.length),
        adapter: savedAdapter(run.config, prepared),
        modelFiles: run.modelFiles,
        trainerState: await this.trainerState(figures, alarm, best, steps),
        runState: {
          format: FORMAT,
          version: VERSION,
          step: steps,
          position: samplePosition(steps, prepared.sampler),
          run: run.fingerprint,
          device: gpu.name,
          kernels: run.kernels,
          ...(division && { division }),
          begunSteps: prepared.begunSteps ?? prepared.totalSteps,
          figures: figures.toJSON(),
          collapse: alarm.toJSON(),
          answers: run.answers,
        },
      });
    });
    this.#lastStep = steps;
  }

  /** The state of the run as transformers knows it; `saving` is the step that a checkpoint is being written of. */
  async trainerState(
    figures: Figures,
    alarm: CollapseAlarm,
    best: Best | undefined,
    saving?: number,
  ): Promise<TrainerState> {
    const { config, prepared } = this.run;
    const folder = best &&
      (best.step === saving
        ? join(config.outputDir, checkpointName(best.step))
        : (await listCheckpoints(config.outputDir)).find(({ step }) => step === best.step)?.folder);
    return trainerStateOf(config, prepared, figures, alarm.alarms, best, folder ?? null);
  }

  /** Puts the weights of another checkpoint in the place of the run's. */
  async loadWeights(folder: string): Promise<void> {
    await restore(folder, this.run, { weightsOnly: true, onProgress: this.onProgress });
  }
}
