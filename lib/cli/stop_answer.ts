/** Signals, and what they are answered: by this thread, or by one that hears them while this one is blocked. */
import { formatDuration } from "../report/progress.ts";
import { writeError } from "./output.ts";

export const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Milliseconds within which a signal that comes again is the first one. */
export const SAME_SIGNAL = 250;

/** What is said to the first signal; without a text nothing. */
export interface Answer {
  text?: string;
  /** When what is in hand will be done, in milliseconds as `Date.now()`. */
  until?: number;
}

/**
 * What the thread is told: what to answer, where it is noted that a signal was answered, that it is to stop, and that
 * what was stopped is over.
 */
export type ToThread = Int32Array | Answer | "stop" | "again";

/** Answers a signal, unless the other thread has, as `answered` says. */
export function sayOnce({ text, until }: Answer, answered: Int32Array): void {
  if (Atomics.exchange(answered, 0, 1) || !text) return;
  const seconds = until === undefined ? 0 : (until - Date.now()) / 1000;
  const left = seconds >= 1 ? `, which takes about ${formatDuration(seconds)} more` : "";
  writeError(`${text}${left}; another signal stops at once\n`);
}
