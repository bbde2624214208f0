import type { Profile } from "../gpu/profiler.ts";
import type { LogEntry } from "./log_entry.ts";
import type { Transfer } from "../hub/snapshot.ts";

/** What a run hears of while it works; every field may be left out. */
export interface TrainEvents {
  /** Notes and warnings for people. */
  log?: (level: "debug" | "info" | "warning", message: string) => void;
  /** How far the fetching of a model or a data set from the Hub is. */
  fetched?: (progress: Transfer) => void;
  /** Rows and tokens of a split as they are tokenized. */
  tokenized?: (split: string, rows: number, tokens: number) => void;
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
  accuracy?: number;
  tokensPerSecond: number;
  pairsPerSecond: number;
}
