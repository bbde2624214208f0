import type { FailureStatus } from "../errors.ts";
import type { PairRules, TokenisedRow } from "./pair_of.ts";

/** What is said to a worker first. */
export interface WorkerStart {
  /** The model's folder. */
  folder: string;
  /** Jinja text that wins over the folder's. */
  chatTemplate?: string;
  /** What a template is told that asks for the date. */
  date?: Date;
  /** Two numbers: how many rows and prompts were begun, and what is done with the last of them, an index of `STAGES`. */
  progress: SharedArrayBuffer;
}

/** Answered in the order in which they are sent. */
export type WorkerRequest =
  | { kind: "rows"; rows: PlacedRow[]; rules: PairRules }
  | { kind: "prompt"; text: string };

export interface PlacedRow {
  row: Record<string, unknown>;
  where: string;
}

export interface WorkerAnswer {
  /** Those before the first that failed. */
  rows: TokenisedRow[];
  /** The token ids of a prompt. */
  ids?: number[];
  failure?: {
    message: string;
    /** Of a mistake that a user can mend; otherwise it is a defect of this program. */
    status?: FailureStatus;
  };
}

export const STAGES = ["loading", "rendering", "tokenising"] as const;
