import { createHash } from "node:crypto";
import { mkdir, readFile, realpath, rename, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { UserError } from "../errors.ts";
import { type HashedFile, hashFile } from "./hash.ts";
import { isObject } from "../text/json.ts";
import type { OnProgress } from "../progress/progress.ts";

/** A file that changed this short a time ago may change again with the same time stamp. */
const TIME_STAMP_MS = 2000;

/** SHA-256 of files' bytes: see `rememberedHash`. `onProgress` hears of those that are read again. */
export async function rememberedHashes(
  paths: readonly string[],
  cacheFolder: string,
  what: string,
  onProgress?: OnProgress,
): Promise<HashedFile[]> {
  const sizes = await Promise.all(paths.map((path) => stat(path).then(({ size }) => size, () => 0)));
  let total = sizes.reduce((sum, size) => sum + size, 0);
  let done = 0;
  const found: HashedFile[] = [];
  for (const [i, path] of paths.entries()) {
    const before = done;
    const sha256 = await rememberedHash(path, cacheFolder, (bytes) => {
      done += bytes;
      onProgress?.({ what, done, total, unit: "bytes" });
    });
    found.push({ path, sha256 });
    // Of one that was known nothing is read.
    total += done - before - sizes[i];
  }
  if (done > 0) onProgress?.({ what, done, total: done, unit: "bytes" });
  return found;
}

/**
 * SHA-256 of a file's bytes. It is remembered in `cacheFolder`, so a file whose size and times are as they were is
 * not read again.
 *
 * @throws {UserError} for a file that cannot be read.
 */
async function rememberedHash(
  path: string,
  cacheFolder: string,
  onRead?: (bytes: number) => void,
): Promise<string> {
  try {
    const before = await stateOf(path);
    const note = join(cacheFolder, "hashes", `${sha256(await realpath(path))}.json`);
    const known = await readNote(note);
    if (known?.state === before.text) return known.sha256;
    const hash = (await hashFile(path, onRead)).sha256;
    const isSettled = Date.now() - before.changed > TIME_STAMP_MS &&
      (await stateOf(path)).text === before.text;
    if (isSettled) await writeNote(note, { state: before.text, sha256: hash });
    return hash;
  } catch (error) {
    throw new UserError(`${path}: cannot be read: ${(error as Error).message}`);
  }
}

/** @throws {UserError} where a file is no longer what it was when it was hashed. */
export async function checkUnchanged(files: readonly HashedFile[], cacheFolder: string): Promise<void> {
  for (const { path, sha256 } of files) {
    if (await rememberedHash(path, cacheFolder) !== sha256) throw changed(path);
  }
}

export const changed = (path: string) =>
  new UserError(
    `${path}: changed while it was tokenized, so nothing was kept of it: let nothing write there, and start again`,
  );

/** SHA-256 of text or bytes, in hexadecimal. */
export const sha256 = (content: string | Uint8Array) => createHash("sha256").update(content).digest("hex");

interface Note {
  state: string;
  sha256: string;
}

async function stateOf(path: string): Promise<{ text: string; changed: number }> {
  const stats = await stat(path);
  // A device need not end, and a pipe can be read once.
  if (!stats.isFile()) throw new Error("it is no file");
  const { ino, size, mtimeMs, ctimeMs } = stats;
  return { text: [ino, size, mtimeMs, ctimeMs].join(" "), changed: Math.max(mtimeMs, ctimeMs ?? 0) };
}

async function readNote(path: string): Promise<Note | undefined> {
  try {
    const note = JSON.parse(await readFile(path, "utf8"));
    return isObject(note) && typeof note.sha256 === "string" ? note as unknown as Note : undefined;
  } catch {
    return undefined;
  }
}

/** A note that cannot be written costs time on the next start, and nothing else. */
async function writeNote(path: string, note: Note): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(temporary, JSON.stringify(note));
    await rename(temporary, path);
  } catch {
    // Nothing depends on it.
  }
}
