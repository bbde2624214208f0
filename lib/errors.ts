/**
 * A mistake that a user can mend: the message says what was expected, what was found, where, and what to do. The
 * command line prints it without a stack trace; every other error is a defect of this program and keeps its stack.
 *
 * Its `code` says what kind of mistake it is:
 *
 * - `CONFIG_INVALID`: a key of the configuration, or an option of the call.
 * - `DATA_INVALID`: a data file or a row, which the message begins with.
 * - `MODEL_INVALID`: the model's files, or an architecture or tokenizer that is not supported.
 * - `LOSS_INVALID`: a loss of one's own whose derivatives are not those of its values, or whose values are not finite.
 * - `NOT_FOUND`: a model or data set that is neither here nor to be had from the Hub.
 * - `NO_GPU`, `OUT_OF_MEMORY`, `GPU_FAILED`: there is no adapter; the run does not fit; the device reported an error or
 *   was lost.
 * - `NOT_FINITE`: training came upon a loss or a gradient that is infinite or not a number.
 * - `OUTPUT_REFUSED`: `output_dir` cannot be written to, or holds another run, or the checkpoint is of one.
 * - `DISPOSED`: a model or a run was used after it was disposed of.
 * - `ABORTED`: a signal stopped it.
 * - `FAILED`: anything else.
 *
 * @example
 * ```ts
 * import { UserError } from "./errors.ts";
 * import assert from "node:assert/strict";
 * const error = new UserError("max_length: expected a whole number, found 1.5", 2);
 * assert.equal(error.code, "CONFIG_INVALID");
 * ```
 */
export class UserError extends Error {
  /** `UserError` */
  override name = "UserError";
  /** What kind of mistake it is: a short text that stays, where messages may come to be worded better. */
  code:
    | "CONFIG_INVALID"
    | "DATA_INVALID"
    | "MODEL_INVALID"
    | "LOSS_INVALID"
    | "NOT_FOUND"
    | "NO_GPU"
    | "OUT_OF_MEMORY"
    | "GPU_FAILED"
    | "NOT_FINITE"
    | "OUTPUT_REFUSED"
    | "DISPOSED"
    | "ABORTED"
    | "FAILED";
  /** Exit status of the command line: 1 the run failed, 2 wrong usage or configuration, 130 a signal stopped it. */
  readonly status: 1 | 2 | 130;

  /**
   * A mistake to throw.
   *
   * @param message what people are told.
   * @param status the exit status of the command line; the code follows from it unless one is given.
   */
  constructor(message: string, status: UserError["status"] = 1, code?: UserError["code"]) {
    super(message);
    this.status = status;
    this.code = code ?? (status === 2 ? "CONFIG_INVALID" : status === 130 ? "ABORTED" : "FAILED");
  }
}

/**
 * Gives mistakes of one part of the work their code, unless one within it has said more: so that each of the places
 * that find something wrong need not.
 */
export async function inArea<T>(code: UserError["code"], work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof UserError && error.code === "FAILED") error.code = code;
    throw error;
  }
}

/** Beyond so many characters a word is no mistyped name. */
const LONGEST_TYPO = 200;

/** The candidate closest to `word` by edit distance, or undefined where none is near enough to be a likely typo. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  if (word.length > LONGEST_TYPO) return undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    // The word itself is there, and something else is wrong with it.
    if (candidate === word) continue;
    // No distance is below the difference in length, and a hostile word may be long.
    if (Math.abs(candidate.length - word.length) >= bestDistance) continue;
    const distance = editDistance(word, candidate);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, previous[j] + 1, current[j - 1] + 1));
    }
    previous = current;
  }
  return previous[b.length];
}
