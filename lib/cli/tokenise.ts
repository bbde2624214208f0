import { TokeniseLine } from "../report/tokenise_line.ts";

const encoder = new TextEncoder();

/** A line for tokenising on stderr. */
export function tokeniseLine(): TokeniseLine {
  const isTerminal = Deno.stderr.isTerminal();
  return new TokeniseLine({
    write: (text) => void Deno.stderr.writeSync(encoder.encode(text)),
    isTerminal,
    columns: isTerminal ? Deno.consoleSize().columns : undefined,
  });
}
