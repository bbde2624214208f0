/**
 * How far a piece of work is that may take more than a second. The last event of each has `done` equal to `total`;
 * those without a total are over when another begins.
 */
export interface Progress {
  /** What is done, in words that name one piece of work, as "loading weights". */
  what: string;
  /** How much of it. */
  done: number;
  /** How much there is, where that is known. */
  total?: number;
  /** What `done` counts, as "pairs"; "bytes" are shown in units of them. */
  unit?: string;
}

/** Hears of progress, which comes more often than it needs to be shown. */
export type OnProgress = (progress: Progress) => void;
