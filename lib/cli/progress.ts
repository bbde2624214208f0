import { ProgressLine, type ProgressLineOptions } from "../report/progress.ts";
import { writeError } from "./output.ts";

/** Progress on stderr. */
export function progressLine(options: Pick<ProgressLineOptions, "logLevel" | "loggingSteps">): ProgressLine {
  return new ProgressLine({
    ...options,
    write: writeError,
    isTerminal: Deno.stderr.isTerminal(),
    columns: () => Deno.consoleSize().columns,
  });
}
