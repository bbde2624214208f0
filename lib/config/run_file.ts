import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { nearest, UserError } from "../errors.ts";

/** Where the run files that ship with this program are: a URL of a folder, or of a web server. */
const SHIPPED = new URL("../../configs/", import.meta.url);

/** A run file's text, and the path where it was found. */
export interface RunFile {
  path: string;
  text: string;
}

/**
 * Reads the run file `name`, or the one of that name in `configs/` where there is no such file.
 *
 * @throws {UserError} (status 2) where neither exists, with the nearest name in `configs/`, or it cannot be read.
 */
export async function readRunFile(name: string): Promise<RunFile> {
  const path = await find(name);
  try {
    return { path, text: await readFile(path, "utf8") };
  } catch (error) {
    throw new UserError(`${path}: the run file cannot be read: ${(error as Error).message}`, 2);
  }
}

async function find(name: string): Promise<string> {
  const exists = (path: string) => stat(path).then(() => true, () => false);
  if (await exists(name)) return name;
  const folder = SHIPPED.protocol === "file:" ? fileURLToPath(SHIPPED) : undefined;
  const shipped = folder ? (await readdir(folder)).filter((file) => file.endsWith(".yaml")) : [];
  if (folder && shipped.includes(name)) return join(folder, name);
  const near = nearest(basename(name), shipped);
  const known = near ? `did you mean ${near}?` : `configs/ has ${shipped.sort().join(", ")}`;
  throw new UserError(
    `${name}: the run file cannot be read: no such file, neither here nor in configs/` +
      (shipped.length > 0 ? `; ${known}` : ""),
    2,
  );
}
