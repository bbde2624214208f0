import { UserError } from "../errors.ts";
import { printable } from "../report/log.ts";

/**
 * Runs a task of the command line: its exit status becomes the process's. A mistake of the user's prints its message
 * alone, status 1 or 2; anything else is a defect of this program and prints its stack.
 */
export async function main(task: () => Promise<number>): Promise<never> {
  try {
    Deno.exit(await task());
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(`error: ${printable(error.message)}`);
    Deno.exit(error.status);
  }
}
