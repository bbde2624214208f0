import { join } from "node:path";
import process from "node:process";
import { UserError } from "../errors.ts";

/**
 * The folder for what can be made again: SIMPER_CACHE, or `simper` in XDG_CACHE_HOME, or ~/.cache/simper. It may be deleted
 * at any time.
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
