/**
 * What the command line writes: that nobody takes it any more is no reason to lose a run, and no defect of this
 * program.
 */
import { UserError } from "../errors.ts";

const encoder = new TextEncoder();

function writeAll(stream: { writeSync(bytes: Uint8Array): number }, text: string): void {
  for (let bytes = encoder.encode(text); bytes.length > 0;) bytes = bytes.subarray(stream.writeSync(bytes));
}

/** Writes to stderr; where that is closed or full, the text is lost. */
export function writeError(text: string): void {
  try {
    writeAll(Deno.stderr, text);
  } catch {
    // There is no other place to say it.
  }
}

/** Who read stdout has closed it, as `head` does: there is nothing left to do. */
export class NobodyReads extends Error {}

/** Writes a line to stdout, as `printText`. */
export function print(text: string): void {
  printText(`${text}\n`);
}

/**
 * Writes to stdout.
 * @throws {NobodyReads} where its reader is gone; {UserError} where it cannot be written.
 */
export function printText(text: string): void {
  try {
    writeAll(Deno.stdout, text);
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    if (code === "EPIPE") throw new NobodyReads();
    throw new UserError(`standard output: cannot be written: ${message}`);
  }
}
