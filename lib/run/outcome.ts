import type { ModelFiles } from "../hub/model_files.ts";
import type { Provenance } from "../checkpoint/provenance.ts";
import type { TrainerState } from "../checkpoint/trainer_state.ts";
import type { TrainConfig } from "../config/schema.ts";
import type { Communicator } from "../distributed/communicator.ts";
import type { HashedFile } from "../data/hash.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Planned } from "../planning/plan.ts";
import type { Prepared } from "../planning/prepare.ts";
import type { LogEntry } from "../training/log_entry.ts";
import type { ModelWeights } from "../weights/weights.ts";

/**
 * A trained model, still on the GPU, and what its training measured. Disposing of it gives the GPU back, and
 * `output_dir` to other runs.
 */
export interface TrainRun extends AsyncDisposable {
  /** As it was checked. */
  readonly config: TrainConfig;
  /** The log's entries, in order. */
  readonly history: readonly LogEntry[];
  /** The config's `prompts`, answered by the model that the run began with and by the trained one. */
  readonly answers: readonly { prompt: string; before: string; after: string }[];
  /** Whether a signal stopped the run, which goes on from its last checkpoint when it is started again. */
  readonly isStopped: boolean;
  /** Whether there is a checkpoint after the last step. */
  readonly isKept: boolean;
  /** The step of the weights: the last, or with `load_best_model_at_end` the best. */
  readonly weightsStep: number;
  /** Steps done, by the runs that this one goes on with too, as all the figures below. */
  readonly steps: number;
  /** Passes over the training pairs. */
  readonly epoch: number;
  /** Seconds of the training loop, evaluation in it included. */
  readonly seconds: number;
  /** Pairs trained on, each time they were. */
  readonly pairs: number;
  /** Tokens of the packed rows. */
  readonly tokens: number;
  /** Mean loss over all steps. */
  readonly trainLoss: number;
  /** Floating-point operations of the model's matrix products and attention, forward and backward. */
  readonly flops: number;
  /**
   * Writes all that a run leaves into `output_dir`: the model in the source's form, figures, model card, report.
   *
   * @param options `signal` ends it where the run can go on from its last checkpoint; without one, the result is
   * written whatever comes.
   * @returns the figures of the whole run, as all_results.json has them; of another rank than the first, which writes
   * nothing, none.
   * @throws {UserError} where a file cannot be written; the signal's reason.
   */
  save(options?: { signal?: AbortSignal }): Promise<Record<string, number>>;
}

/** What saving works with. */
export interface RunParts {
  /** What the training measured. */
  outcome: Omit<TrainRun, "save" | typeof Symbol.asyncDispose>;
  /** The run as trainer_state.json has it. */
  state: TrainerState;
  gpu: Gpu;
  planned: Planned;
  prepared: Prepared;
  /** The weights that it began with; absent where they were random. */
  checkpoint?: ModelWeights;
  /** The model's files that the run began with. */
  modelFiles: readonly HashedFile[];
  /** The model's files beside the weights, as they were when the run began. */
  files: ModelFiles;
  /** What the weights follow from. */
  provenance: Provenance;
  communicator: Communicator;
}
