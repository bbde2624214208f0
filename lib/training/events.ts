import type { Profile } from "../gpu/profiler.ts";
import type { LogEntry } from "./log_entry.ts";
import type { OnProgress } from "../progress.ts";

/** What a run hears of while it works; every field may be left out. */
export interface TrainEvents {
  /** Notes and warnings for people. */
  onLog?: (level: "debug" | "info" | "warning", message: string) => void;
  /** How far everything but the steps is that may take more than a second: fetching, tokenizing, evaluating, saving... */
  onProgress?: OnProgress;
  /** Before every optimizer step is given to the GPU, which may block this thread until it is done. */
  onSubmit?: (work: Work) => void;
  /**
   * After every optimizer step whose figures have been read: quick steps are read several at once, so that a signal that is given
   * here may end the run some steps later, unless `logging_steps` is 1.
   */
  onStep?: (progress: StepProgress) => void;
  /** The times of every kernel of one step, which is profiled where this is listened to and the adapter has timestamps. */
  onProfile?: (profile: Profile, step: number) => void;
  /** A new entry of the log history, whether of steps or of an evaluation. */
  onEntry?: (entry: LogEntry) => void;
  /** The figures of an evaluation, as its entry of the log history has them. */
  onEvaluate?: (entry: LogEntry) => void;
  /** A checkpoint is whole, in this folder; of the result's, `output_dir` itself. */
  onSave?: (folder: string) => void;
}

/** What a run is at. */
export interface Work {
  /** From 1. */
  step: number;
  /** Those of the whole run. */
  totalSteps: number;
  /** When this step will be done if it takes as long as the last ones, in milliseconds as `Date.now()`; not known of the first. */
  until?: number;
}

/** Where a run stands after an optimizer step, with the step's means over pairs. */
export interface StepProgress {
  /** From 1. */
  step: number;
  /** Steps that were done before, by a run that this one goes on with. */
  startStep: number;
  /** Those of the whole run. */
  totalSteps: number;
  /** Mean over the step's pairs. */
  loss: number;
  /** The part of the pairs, from 0 to 1, whose chosen response has the higher reward. */
  accuracy?: number;
  /** Reward of the chosen response less that of the rejected one, mean over the pairs. */
  margin?: number;
  /** Of all gradients together, before they are clipped. */
  gradNorm: number;
  /** That of this step. */
  learningRate: number;
  /** Tokens of packed rows, over the steps read together with this one. */
  tokensPerSecond: number;
  /** Likewise. */
  pairsPerSecond: number;
  /** Until the last step is done, with the evaluations and checkpoints on the way as far as one of each was measured. */
  secondsLeft?: number;
}
