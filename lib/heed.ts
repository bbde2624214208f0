/**
 * Lets other work of this thread have its turn, the handler of a signal among it, and obeys the signal: what computes for long
 * without waiting for anything else calls this now and then.
 *
 * @throws the signal's reason, once it is aborted.
 */
export async function heed(signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return;
  await new Promise((resolve) => setTimeout(resolve));
  signal.throwIfAborted();
}
