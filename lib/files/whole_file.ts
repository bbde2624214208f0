import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { temporaryName } from "./temporary.ts";

/** The largest published tokenizer.json has some 35 MB. */
const LARGEST_FILE = 2 ** 27;

/**
 * Text of a file of a model's folder, for `readFile(path, "utf8")`: a link of a hostile folder may lead to a device
 * that has no end, and bytes that are no text are not to be read as something else.
 *
 * @throws what `open` does; Error for what is no file, is larger than any such file, or is not UTF-8.
 */
export async function readTextFile(path: string): Promise<string> {
  const file = await open(path);
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw new Error("it is no file");
    if (stats.size > LARGEST_FILE) {
      throw new Error(`it has ${stats.size} bytes, and ${LARGEST_FILE} is the most that is read`);
    }
    const bytes = await file.readFile();
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      throw new Error("it is not text in UTF-8");
    }
  } finally {
    await file.close();
  }
}

/**
 * Sees to it that files can be written to a folder, which is made if it is missing.
 * @throws {UserError} where they cannot.
 */
export async function checkFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    const trial = temporaryName(join(folder, "trial"));
    await (await open(trial, "w")).close();
    await rm(trial);
  } catch (error) {
    throw new UserError(`${folder}: cannot be written to: ${(error as Error).message}`);
  }
}

/**
 * Writes a file under a temporary name, synchronises it to the disk unless `flush` is false, and renames it: it is
 * never half a file. The folder is made if it is missing.
 *
 * @throws UserError where it cannot be written.
 */
export async function writeWhole(
  folder: string,
  name: string,
  content: string | Uint8Array,
  { flush = true }: { flush?: boolean } = {},
): Promise<void> {
  const path = join(folder, name);
  const temporary = temporaryName(path);
  try {
    await mkdir(folder, { recursive: true });
    const file = await open(temporary, "w");
    try {
      await file.writeFile(content);
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
 * Writes a file a piece at a time, as `writeWhole`; its folder has to be there. Nothing is left of it where `body`
 * fails.
 *
 * @param body is given what writes bytes.
 * @throws UserError where it cannot be written, and what `body` throws.
 */
export async function writeStreamed(
  path: string,
  flush: boolean,
  body: (write: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<void> {
  const temporary = temporaryName(path);
  const handle = await open(temporary, "w").catch(throwUnwritable(path));
  try {
    await body((bytes) => writeAll(handle, bytes).catch(throwUnwritable(path)));
    if (flush) await handle.sync().catch(throwUnwritable(path));
    await handle.close();
    await rename(temporary, path).catch(throwUnwritable(path));
  } catch (error) {
    await handle.close().catch(() => {});
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Deno's write() takes a 32-bit length. */
const MAX_WRITE = 2 ** 30;

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(bytes.length - done, MAX_WRITE));
    done += bytesWritten;
  }
}

/** For `catch`: what went wrong with writing `path`, as a UserError. */
export function throwUnwritable(path: string): (error: Error) => never {
  return (error) => {
    throw new UserError(`${path}: cannot be written: ${error.message}`);
  };
}
