import type { Profile } from "../gpu/profiler.ts";
import type { LogEntry } from "./log_entry.ts";
import type { OnProgress } from "../progress.ts";

/** What a run hears of while it works; every field may be left out. */
export interface TrainEvents {
  /** Notes and warnings for people. */
  log?: (level: "debug" | "info" | "warning", message: string) => void;
  /** How far everything but the steps is that may take more than a second: fetching, tokenizing, evaluating, saving... */
  onProgress?: OnProgress;
  /** Before every optimizer step is given to the GPU, which may block this thread until it is done. */
  working?: (work: Work) => void;
  /** After every optimizer step whose figures have been read. */
  stepped?: (progress: StepProgress) => void;
  /** The times of every kernel of one step, which is profiled where this is listened to and the adapter has timestamps. */
  profiled?: (profile: Profile, step: number) => void;
  /** A new entry of the log history. */
  logged?: (entry: LogEntry) => void;
}

/** What a run is at. */
export interface Work {
  step: number;
  totalSteps: number;
  /** When this step will be done if it takes as long as the last ones, in milliseconds as `Date.now()`; not known of the first. */
  until?: number;
}

export interface StepProgress {
  step: number;
  /** Steps that were done before, by a run that this one goes on with. */
  startStep: number;
  totalSteps: number;
  loss: number;
  /** The part of the pairs, from 0 to 1, whose chosen response has the higher reward. */
  accuracy?: number;
  /** Reward of the chosen response less that of the rejected one, mean over the pairs. */
  margin?: number;
  gradNorm: number;
  learningRate: number;
  tokensPerSecond: number;
  pairsPerSecond: number;
  /** Until the last step is done, with the evaluations and checkpoints on the way as far as one of each was measured. */
  secondsLeft?: number;
}
