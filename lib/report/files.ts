import { mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { temporaryName } from "../temporary.ts";

/**
 * Writes a text file under a temporary name, synchronises it to the disk unless `flush` is false, and renames it: it is never
 * half a file. The folder is made if it is missing.
 *
 * @throws UserError where it cannot be written.
 */
export async function writeText(
  folder: string,
  name: string,
  text: string,
  { flush = true }: { flush?: boolean } = {},
): Promise<void> {
  const path = join(folder, name);
  const temporary = temporaryName(path);
  try {
    await mkdir(folder, { recursive: true });
    const file = await open(temporary, "w");
    try {
      await file.writeFile(text);
      if (flush) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw new UserError(`${path}: cannot be written: ${(error as Error).message}`);
  }
}

/**
 * JSON with sorted keys at the top, as Python's `json.dumps(sort_keys=True)`; what is no finite number
 * becomes null.
 */
export function sortedJson(values: object, indent: number): string {
  const sorted = Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify(Object.fromEntries(sorted), null, indent) + "\n";
}
