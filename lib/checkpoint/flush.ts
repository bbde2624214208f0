import { type FileHandle, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { isLock } from "./names.ts";

/**
 * Asks for every file of a folder to be put on the disk.
 *
 * @returns as soon as that is under way, in threads of its own, which go on while this one is blocked by the GPU;
 * `done` comes when the files, and then the folder's list of them, are there.
 */
export async function beginFlush(folder: string): Promise<{ done: Promise<void> }> {
  const entries = await readdir(folder, { withFileTypes: true });
  // Closing the lock's file would let go of the lock.
  const files = entries.filter((entry) => entry.isFile() && !isLock(entry.name)).map(({ name }) =>
    join(folder, name)
  );
  const handles = await Promise.all(files.map((file) => open(file, "r")));
  return { done: Promise.all(handles.map(flush)).then(() => flushFolder(folder)) };
}

/**
 * Waits until a folder's list of names is on the disk: only then does a renamed file keep its name after a power cut.
 */
export async function flushFolder(folder: string): Promise<void> {
  // Windows opens no folders, and keeps names in its journal.
  if (process.platform !== "win32") await flush(await open(folder, "r"));
}

async function flush(handle: FileHandle): Promise<void> {
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
