import type { Stats } from "node:fs";
import { stat } from "node:fs/promises";

/**
 * What is at a path, links followed; undefined where nothing is.
 * @throws where it may not be looked at: of what is there a missing permission says nothing.
 */
export async function statOf(path: string): Promise<Stats | undefined> {
  return await stat(path).catch((error: Error) => {
    // What Deno guards by itself, /proc for one, no permission opens: whoever uses it says so in its place.
    if (error.name === "NotCapable" && !/--allow-all flag/.test(error.message)) throw error;
    return undefined;
  });
}
