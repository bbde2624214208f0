import { open } from "node:fs/promises";
import { basename } from "node:path";
import { nearest, UserError } from "../errors.ts";
import { RUN_FILES, shippedPath } from "../program/shipped.ts";
import { statOf } from "../files/stat_of.ts";

/** Those that ship have 2 KB; a chat template may be a part of one. */
const LARGEST_FILE = 2 ** 18;

/** A run file's text, and the path where it was found. */
export interface RunFile {
  path: string;
  text: string;
}

/**
 * Reads the run file `name`, or the one of that name that ships in `configs/` where there is no such file here.
 *
 * @throws {UserError} (status 2) where neither exists, with the nearest name in `configs/`, or it cannot be read.
 */
export async function readRunFile(name: string): Promise<RunFile> {
  const path = await find(name);
  try {
    return { path, text: await readText(path) };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === "EISDIR" ? "it is a folder: expected a YAML file, such as tiny.yaml" : message;
    throw new UserError(`${path}: the run file cannot be read: ${why}`, 2);
  }
}

/** The file's text; of one without an end (a device, a pipe) no more than its beginning is read. */
async function readText(path: string): Promise<string> {
  const file = await open(path);
  try {
    const bytes = new Uint8Array(LARGEST_FILE + 1);
    let length = 0;
    for (let read = -1; read !== 0 && length < bytes.length; length += read) {
      read = (await file.read(bytes, length, bytes.length - length)).bytesRead;
    }
    if (length > LARGEST_FILE) throw new Error(`it has more than ${LARGEST_FILE} bytes`);
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, length));
  } finally {
    await file.close();
  }
}

async function find(name: string): Promise<string> {
  if (await statOf(name)) return name;
  const shipped = name.replace(/^(\.\/)?configs\//, "");
  if (RUN_FILES.includes(shipped)) return (await shippedPath(`configs/${shipped}`))!;
  const near = nearest(basename(name), RUN_FILES);
  const known = near ? `did you mean ${near}?` : `configs/ has ${RUN_FILES.join(", ")}`;
  throw new UserError(
    `${name}: the run file cannot be read: no such file, neither here nor in configs/; ${known}`,
    2,
  );
}
