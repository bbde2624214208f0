import { TokeniseLine } from "../report/tokenise_line.ts";
import { writeError } from "./output.ts";

/** A line for tokenising on stderr. */
export function tokeniseLine(): TokeniseLine {
  const isTerminal = Deno.stderr.isTerminal();
  return new TokeniseLine({
    write: writeError,
    isTerminal,
    columns: isTerminal ? Deno.consoleSize().columns : undefined,
  });
}
