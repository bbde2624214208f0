import { TransferBar } from "../report/transfer_bar.ts";

const encoder = new TextEncoder();

/** A bar for transfers on stderr. */
export function transferBar(): TransferBar {
  const isTerminal = Deno.stderr.isTerminal();
  return new TransferBar({
    write: (text) => void Deno.stderr.writeSync(encoder.encode(text)),
    isTerminal,
    columns: isTerminal ? Deno.consoleSize().columns : undefined,
  });
}

/** A signal that SIGINT and SIGTERM set, so that no lock is left behind; a second one ends the process. */
export function stopOnSignal(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    const onSignal = () => {
      stop.abort();
      Deno.removeSignalListener(signal, onSignal);
    };
    Deno.addSignalListener(signal, onSignal);
  }
  return stop.signal;
}
