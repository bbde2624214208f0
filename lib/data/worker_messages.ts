import type { UserError } from "../errors.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import type { PairRules, TokenizedRow } from "./pair_of.ts";

/** What is said to a worker first. */
export interface WorkerStart {
  /** The model's folder. */
  folder: string;
  /** Jinja text that wins over the folder's. */
  chatTemplate?: string;
  /** What a template is told that asks for the date. */
  date?: Date;
  /** Of the tokenizer files as they were when the run read them, and the chat template that it found. */
  fingerprint: string;
  foundTemplate?: string;
  /**
   * Three numbers: how many rows, prompts and lists of ids were begun; what is done with the last of them, an index of
   * `STAGES`; and milliseconds of processor time.
   */
  progress: SharedArrayBuffer;
}

/** Answered in the order in which they are sent. */
export type WorkerRequest =
  | { kind: "rows"; rows: PlacedRow[]; rules: PairRules }
  | { kind: "prompt"; prompt: string | readonly Message[] }
  | { kind: "ids"; texts: readonly string[]; addSpecialTokens: boolean }
  | { kind: "texts"; lists: number[][]; skipSpecialTokens: boolean };

/** How many rows, prompts, texts and lists of ids a request has. */
export function itemsOf(request: WorkerRequest): number {
  switch (request.kind) {
    case "rows":
      return request.rows.length;
    case "ids":
      return request.texts.length;
    case "texts":
      return request.lists.length;
    case "prompt":
      return 1;
  }
}

export interface PlacedRow {
  row: Record<string, unknown>;
  where: string;
}

export interface WorkerAnswer {
  /** Those before the first that failed. */
  rows: TokenizedRow[];
  /** The token ids of a prompt. */
  ids?: number[];
  /** The token ids of each text. */
  lists?: number[][];
  /** What the lists of ids say. */
  texts?: string[];
  failure?: {
    message: string;
    /** Of a mistake that a user can mend; otherwise it is a defect of this program. */
    status?: UserError["status"];
  };
}

export const STAGES = ["loading", "rendering", "tokenizing", "decoding"] as const;
