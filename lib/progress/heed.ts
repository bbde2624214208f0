/**
 * Lets other work of this thread have its turn, the handler of a signal among it, and obeys the signal: what computes
 * for long without waiting for anything else calls this now and then.
 *
 * @throws the signal's reason, once it is aborted.
 */
export async function heed(signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return;
  await new Promise((resolve) => setTimeout(resolve));
  signal.throwIfAborted();
}

/**
 * The promise's value, or the signal's reason where that comes first: for what may never come, such as a script's next
 * row.
 *
 * @throws the signal's reason, once it is aborted; what the promise is rejected with.
 */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return await promise;
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
