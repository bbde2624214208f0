import { TokenizeLine } from "../report/tokenize_line.ts";
import { writeError } from "./output.ts";

/** A line for tokenizing on stderr. */
export function tokenizeLine(): TokenizeLine {
  const isTerminal = Deno.stderr.isTerminal();
  return new TokenizeLine({
    write: writeError,
    isTerminal,
    columns: isTerminal ? Deno.consoleSize().columns : undefined,
  });
}
