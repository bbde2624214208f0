import { mkdir, open, rm, stat, utimes } from "node:fs/promises";
import { dirname } from "node:path";
import { checkStopped } from "./http.ts";

const HEARTBEAT = 1000;
/** A lock whose holder has not been heard of for so long was left behind by a process that was killed. */
const STALE = 10_000;
const POLL = 200;

/**
 * Runs `body` while no other process runs one under the same lock file. The holder touches the file every second, so
 * that a lock left behind is known by its silence. Should two processes ever run at once, nothing breaks: both write
 * the same bytes at the same places.
 *
 * @param options `onWait` is called once where another process holds the lock; `stale` is the silence, in
 * milliseconds, after which it is taken to be gone.
 */
export async function withLock<T>(
  path: string,
  body: () => Promise<T>,
  { onWait, signal, stale = STALE }: { onWait?: () => void; signal?: AbortSignal; stale?: number } = {},
): Promise<T> {
  await mkdir(dirname(path), { recursive: true });
  let heard = { at: performance.now(), touched: -1 };
  let waited = false;
  while (!await create(path)) {
    checkStopped(signal);
    if (!waited) onWait?.();
    waited = true;
    const touched = (await stat(path).catch(() => undefined))?.mtimeMs ?? -1;
    // Measured by this machine's clock alone: the file may lie on another's.
    if (touched !== heard.touched) heard = { at: performance.now(), touched };
    else if (performance.now() - heard.at > stale) await rm(path, { force: true });
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
  const beat = setInterval(() => void utimes(path, new Date(), new Date()).catch(() => {}), HEARTBEAT);
  try {
    return await body();
  } finally {
    clearInterval(beat);
    await rm(path, { force: true });
  }
}

/** Makes the file, or says that it is there already. */
async function create(path: string): Promise<boolean> {
  try {
    await (await open(path, "wx")).close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}
