import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { UserError } from "../errors.ts";

/** Whoever has not written to a temporary file for so long was killed. */
const ORPHANED_MS = 24 * 3600 * 1000;

/** Removes the temporary files of killed processes from a folder of the cache; what cannot be removed stays. */
export async function removeOrphans(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.endsWith(".tmp")) continue;
    const path = join(folder, name);
    const written = (await stat(path).catch(() => undefined))?.mtimeMs ?? Infinity;
    // Another start may remove it too.
    if (Date.now() - written > ORPHANED_MS) await rm(path, { force: true }).catch(() => {});
  }
}

/**
 * The folder for what can be made again: SIMPER_CACHE, or `simper` in XDG_CACHE_HOME, or ~/.cache/simper. It may be
 * deleted at any time.
 *
 * @throws {UserError} where the environment names no home either.
 */
export function cacheFolder(): string {
  const { SIMPER_CACHE, XDG_CACHE_HOME, HOME, USERPROFILE } = process.env;
  if (SIMPER_CACHE) return SIMPER_CACHE;
  if (XDG_CACHE_HOME) return join(XDG_CACHE_HOME, "simper");
  const home = HOME || USERPROFILE;
  if (home) return join(home, ".cache", "simper");
  throw new UserError("expected a folder for the cache, found no home: set SIMPER_CACHE to one");
}
