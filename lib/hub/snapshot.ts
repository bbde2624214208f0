import { mkdir, rename, statfs } from "node:fs/promises";
import { UserError } from "../errors.ts";
import { formatBytes } from "../text/format_bytes.ts";
import { show } from "../text/json.ts";
import { RepoCache, sizeOf } from "./cache.ts";
import type { OnProgress } from "../progress/progress.ts";
import { checkStopped } from "./http.ts";
import type { RemoteFile } from "./listing.ts";
import { withLock } from "./lock.ts";
import { isPortable, type Repo, repoLabel } from "./repo.ts";
import type { HubSettings } from "./settings.ts";
import { diskError, download } from "./transfer.ts";

/** What fetching tells of itself; every field may be left out. */
export interface FetchEvents {
  /** Notes for people. */
  log?: (level: "debug" | "info" | "warning", message: string) => void;
  /** How far it is, in bytes of what was missing. */
  onProgress?: OnProgress;
  /** Stops the fetching; what came until then is kept. */
  signal?: AbortSignal;
}

/** Files at a time, as Python's huggingface_hub has it. */
const PARALLEL = 8;

/**
 * Sees to it that the snapshot of a commit holds `files`, and fetches those that it does not. Another process that
 * fetches from the same repository is waited for.
 *
 * @returns the snapshot's folder.
 */
export async function fetchFiles(
  repo: Repo,
  commit: string,
  files: readonly RemoteFile[],
  settings: HubSettings,
  events: FetchEvents = {},
): Promise<string> {
  const odd = files.find(({ path }) => !isPortable(path));
  if (odd) {
    throw new UserError(
      `${repoLabel(repo)}: a file named ${
        show(odd.path)
      } cannot be kept on every system: nothing was fetched`,
    );
  }
  const cache = new RepoCache(settings.cache, repo);
  const missing = async () => {
    const present = await Promise.all(files.map((file) => cache.has(file, commit)));
    return files.filter((_, i) => !present[i]);
  };
  const folder = cache.snapshot(commit);
  try {
    await cache.rememberCommit(commit);
    if ((await missing()).length === 0) return folder;
    const onWait = () =>
      events.log?.("info", `${repoLabel(repo)}: another process is fetching it; waiting for ${cache.lock}`);
    await withLock(cache.lock, async () => {
      await fetchMissing(cache, commit, await missing(), settings, events);
    }, { onWait, signal: events.signal });
  } catch (error) {
    throw error instanceof UserError ? error : diskError(error as NodeJS.ErrnoException, repoLabel(repo));
  }
  return folder;
}

async function fetchMissing(
  cache: RepoCache,
  commit: string,
  files: RemoteFile[],
  settings: HubSettings,
  { log, onProgress, signal }: FetchEvents,
): Promise<void> {
  const { repo } = cache;
  await mkdir(cache.blobs, { recursive: true });
  await checkRoom(cache, files);
  let total = files.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  let filesDone = 0;
  const report = () => {
    // The last bytes are there before their file has its name.
    const isDone = filesDone === files.length;
    if (isDone || done < total) {
      onProgress?.({ what: `fetching ${repo.name}`, done, total: isDone ? done : total, unit: "bytes" });
    }
  };
  const received = (bytes: number) => {
    done += bytes;
    report();
  };
  /** Of bytes that an earlier start left nothing is fetched. */
  const kept = (bytes: number) => {
    total -= bytes;
    report();
  };
  const stop = new AbortController();
  const onStop = () => stop.abort();
  signal?.addEventListener("abort", onStop);
  // Two names may have the same content.
  const blobs = new Map<string, Promise<void>>();
  const fetchBlob = async (file: RemoteFile) => {
    const blob = cache.blob(file);
    if (await sizeOf(blob) === file.size) return kept(file.size);
    const partial = cache.partial(file);
    await download(repo, commit, file, partial, settings, { kept, received }, stop.signal);
    await rename(partial, blob);
  };
  const queue = [...files];
  let failure: unknown;
  const worker = async () => {
    for (let file; failure === undefined && (file = queue.shift());) {
      try {
        checkStopped(signal);
        let fetched = blobs.get(file.hash);
        if (!fetched) blobs.set(file.hash, fetched = fetchBlob(file));
        else await fetched.then(() => kept(file!.size));
        await fetched;
        await cache.link(file, commit);
        filesDone++;
        report();
      } catch (error) {
        // The others stop too, but the first failure is the one to tell.
        failure ??= error;
        stop.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, files.length) }, worker));
  signal?.removeEventListener("abort", onStop);
  if (failure !== undefined) throw failure;
  log?.(
    "info",
    `fetched ${repo.name}: ${formatBytes(done)}, ${files.length} file${files.length > 1 ? "s" : ""}`,
  );
}

/** Refuses to begin what cannot end: the disk must have room for what is missing. */
async function checkRoom(cache: RepoCache, files: RemoteFile[]): Promise<void> {
  const needed = await Promise.all(
    files.map(async (file) =>
      file.size - (await sizeOf(cache.partial(file)) ?? await sizeOf(cache.blob(file)) ?? 0)
    ),
  );
  const bytes = needed.reduce((sum, size) => sum + size, 0);
  // Where the file system does not tell, the disk itself will.
  const found = await statfs(cache.folder).catch(() => undefined);
  if (!found || bytes <= found.bavail * found.bsize) return;
  throw new UserError(
    `${repoLabel(cache.repo)}: ${formatBytes(bytes)} to fetch, and ${
      formatBytes(found.bavail * found.bsize)
    } free at ` +
      `${cache.folder}: make room, or point HF_HOME to another disk`,
  );
}
