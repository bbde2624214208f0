import { ProgressLine, type ProgressLineOptions } from "../report/progress.ts";
import { writeError } from "./output.ts";
import { takesEscapeCodes } from "./terminal.ts";

/** Progress on stderr. */
export function progressLine(options: Pick<ProgressLineOptions, "logLevel" | "loggingSteps">): ProgressLine {
  return new ProgressLine({
    ...options,
    write: writeError,
    canRedraw: takesEscapeCodes(Deno.stderr),
    columns: () => Deno.consoleSize().columns,
  });
}
