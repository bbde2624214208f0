import { UserError } from "../errors.ts";
import { printable } from "../report/log.ts";
import { NobodyReads, writeError } from "./output.ts";
import { missingPermission } from "./permissions.ts";
import { type Stop, STOPPED } from "./stop.ts";

/** A word of the command line that belongs to the command itself, and is no key of a run file. */
export interface Option {
  /** Without its dashes. */
  readonly name: string;
  /** What its value is, as `FILE`; without it the option takes none. */
  readonly value?: string;
  /** Whether it may be given more than once, each time with another value. */
  readonly repeats?: true;
  readonly doc: string;
}

/** A command of the program; main.ts names it, says what it is for in a line, and loads it when it is asked for. */
export interface Command {
  /** What comes after its name, as `[CONFIG] [--key=value ...]`. */
  readonly usage: string;
  /** What help says below that line, where the line of all commands does not say enough. */
  readonly about?: string;
  readonly options?: readonly Option[];
  /** Whether it takes a run file and its keys; "named" where there is none by default. */
  readonly takesRunFile?: boolean | "named";
  /** The one by default, where it is not tiny.yaml. */
  readonly runFile?: string;
  /** @returns the exit status. */
  run(words: readonly string[], stop: Stop): Promise<number>;
}

/**
 * Runs a body whose result becomes the process's exit status. A mistake of the user's, or a permission that is missing,
 * prints its message alone, status 1 or 2; a signal that `stop` heard ends it with 130; anything else is a defect of
 * this program and prints its stack.
 */
export async function exitWith(body: () => Promise<number>, stop?: Stop): Promise<never> {
  try {
    Deno.exit(await body());
  } catch (thrown) {
    if (thrown instanceof NobodyReads) Deno.exit(0);
    const error = missingPermission(thrown) ?? thrown;
    const isStopped = stop?.signal.aborted && (!stop.isCareful || error === stop.signal.reason);
    if (error instanceof UserError) {
      writeError(`${isStopped ? "" : "error: "}${printable(error.message)}\n`);
    } else if (!isStopped) writeError(`${(error as Error)?.stack ?? error}\n`);
    Deno.exit(isStopped ? STOPPED : error instanceof UserError ? error.status : 1);
  }
}
