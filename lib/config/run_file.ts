import { access, readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { nearest, UserError } from "../errors.ts";

/** Where the run files that ship with this program are: a URL of a folder, or of a web server. */
const SHIPPED = new URL("../../configs/", import.meta.url);

/**
 * The path of a run file: `name` itself where there is such a file, else the one of that name in `configs/`.
 *
 * @throws {UserError} (status 2) where neither exists, with the nearest name in `configs/`.
 */
export async function findRunFile(name: string): Promise<string> {
  const exists = (path: string) => access(path).then(() => true, () => false);
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

/** Reads the run file at `path`; see `findRunFile`. */
export async function readRunFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new UserError(`${path}: the run file cannot be read: ${(error as Error).message}`, 2);
  }
}
