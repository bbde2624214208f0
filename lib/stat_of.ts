import type { Stats } from "node:fs";
import { stat } from "node:fs/promises";

/**
 * What is at a path, links followed; undefined where nothing is.
 * @throws where it may not be looked at: of what is there a missing permission says nothing.
 */
export async function statOf(path: string): Promise<Stats | undefined> {
  return await stat(path).catch((error: Error) => {
    if (error.name === "NotCapable") throw error;
    return undefined;
  });
}
