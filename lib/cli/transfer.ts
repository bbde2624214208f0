import { TransferBar } from "../report/transfer_bar.ts";
import { writeError } from "./output.ts";

/** A bar for transfers on stderr. */
export function transferBar(): TransferBar {
  const isTerminal = Deno.stderr.isTerminal();
  return new TransferBar({
    write: writeError,
    isTerminal,
    columns: isTerminal ? Deno.consoleSize().columns : undefined,
  });
}
