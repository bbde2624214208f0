/** One run at a time in an output folder. */
import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { UserError } from "../errors.ts";
import { hostName } from "../program/host_name.ts";
import { isObject } from "../text/json.ts";
import { readTextFile, writeWhole } from "../files/whole_file.ts";
import { HOLDER, LOCK } from "./names.ts";

/** A folder that no other run can have. */
export interface FolderLock {
  release(): Promise<void>;
}

/** Within it a run that has just got the lock says who it is. */
const INTRODUCTION = 200;

/**
 * Keeps `folder` to this run. The lock is the operating system's, on a file in the folder, and ends with its process
 * however that ends: what a killed run or a power cut leaves behind holds nothing, and of two that come at once one
 * gets it. Of Node's modules `node:sqlite` is the one that reaches such a lock: the file is an empty database that
 * nobody may read meanwhile. No file of this name may be opened by the same process in another way, since closing it
 * would give the lock back (POSIX).
 *
 * @param warn told where the file system has no locks: then there is none, and the run goes on.
 * @throws {UserError} (status 2) naming the run that has the folder.
 */
export async function lockFolder(folder: string, warn: (message: string) => void): Promise<FolderLock> {
  const path = join(folder, LOCK);
  let file: { close(): void } | undefined;
  try {
    while (!file) file = await openLocked(path);
  } catch (error) {
    const { message } = error as Error;
    if (!/locked|busy/i.test(message)) {
      warn(`output_dir: ${folder} cannot be locked (${message}): another run in it would not be noticed`);
      return { release: async () => {} };
    }
    await new Promise((resolve) => setTimeout(resolve, INTRODUCTION));
    const holder = await readHolder(folder);
    const who = holder
      ? `process ${holder.pid} on ${holder.host}, since ${holder.since}`
      : "which has not said who it is";
    throw new UserError(
      `output_dir: ${folder} is in use by another run (${who}): wait until it has ended, or name another folder`,
      2,
    );
  }
  const holder = { pid: process.pid, host: hostName(), since: new Date().toISOString() };
  await writeWhole(folder, HOLDER, `${JSON.stringify(holder)}\n`, { flush: false });
  return {
    release: async () => {
      await rm(join(folder, HOLDER), { force: true }).catch(() => {});
      // Under the lock, so that no run takes it in between; Windows removes no open file.
      await rm(path, { force: true }).catch(() => {});
      file?.close();
      file = undefined;
      if (process.platform === "win32") await rm(path, { force: true }).catch(() => {});
    },
  };
}

/**
 * The locked file; undefined where it was not under its name all the time: the run before removes it at its end, and
 * a lock on a file without a name would keep nobody out.
 *
 * @throws {Error} "database is locked" where another run, of this process too, has it.
 */
async function openLocked(path: string): Promise<{ close(): void } | undefined> {
  // Not every runtime has it: then there is no lock.
  const { DatabaseSync } = await import("node:sqlite");
  const before = await inode(path);
  const database = new DatabaseSync(path);
  try {
    // So long as isLocked() may take.
    database.exec("PRAGMA busy_timeout = 50; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    if (before !== undefined && await inode(path) === before) return database;
  } catch (error) {
    database.close();
    throw error;
  }
  database.close();
}

const inode = async (path: string) => (await stat(path).catch(() => undefined))?.ino;

/** What a run says of itself; undefined where it has not said yet, or cannot. */
async function readHolder(folder: string): Promise<Record<string, unknown> | undefined> {
  try {
    const found: unknown = JSON.parse(await readTextFile(join(folder, HOLDER)));
    if (isObject(found)) return found;
  } catch {
    // Nobody has it.
  }
}

/**
 * The process of the run that has `folder` now, or undefined where none has; its `pid` is known where it is one of this
 * machine. Not for the process that has the folder, whose lock this would give back.
 */
export async function lockHolder(folder: string): Promise<{ pid?: number } | undefined> {
  if (!await isLocked(join(folder, LOCK))) return;
  const { pid, host } = await readHolder(folder) ?? {};
  return {
    pid: host === hostName() && Number.isSafeInteger(pid) && Number(pid) > 1 ? Number(pid) : undefined,
  };
}

async function isLocked(path: string): Promise<boolean> {
  if (await inode(path) === undefined) return false;
  const { DatabaseSync } = await import("node:sqlite");
  let file: { close(): void } | undefined;
  try {
    const database = new DatabaseSync(path, { readOnly: true });
    file = database;
    database.exec("PRAGMA busy_timeout = 0; SELECT * FROM sqlite_master");
    return false;
  } catch (error) {
    return /locked|busy/i.test((error as Error).message);
  } finally {
    file?.close();
  }
}
