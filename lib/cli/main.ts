import { UserError } from "../errors.ts";
import { printable } from "../report/log.ts";
import { NobodyReads, writeError } from "./output.ts";
import { Stop, STOPPED } from "./stop.ts";

/**
 * Runs a task of the command line: its exit status becomes the process's. A mistake of the user's prints its message
 * alone, status 1 or 2; a signal ends it with 130; anything else is a defect of this program and prints its stack.
 */
export async function main(task: (stop: Stop) => Promise<number>): Promise<never> {
  const stop = new Stop();
  try {
    Deno.exit(await task(stop));
  } catch (error) {
    if (error instanceof NobodyReads) Deno.exit(0);
    const isStopped = stop.signal.aborted && (!stop.isCareful || error === stop.signal.reason);
    if (error instanceof UserError) {
      writeError(`${isStopped ? "" : "error: "}${printable(error.message)}\n`);
    } else if (!isStopped) writeError(`${(error as Error)?.stack ?? error}\n`);
    Deno.exit(isStopped ? STOPPED : error instanceof UserError ? error.status : 1);
  }
}
