/** What ships with the program besides its code: run files, and the model and data of the default run. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import FILES from "../../configs/shipped.json" with { type: "json" };
import { cacheFolder } from "../files/cache_folder.ts";
import { UserError } from "../errors.ts";
import { writeWhole } from "../files/whole_file.ts";
import { VERSION } from "./version.ts";

/** A folder, or where the program was imported from. */
const ROOT = new URL("../../", import.meta.url);

/** Milliseconds for a file, of which the largest has 2 MB. */
const PATIENCE = 60_000;

/** The run files that ship, by their names in `configs/`. */
export const RUN_FILES: readonly string[] = Object.keys(FILES).map((path) => path.slice("configs/".length))
  .filter((name) => name.endsWith(".yaml"));

/**
 * Where a file or folder that ships with the program is on this machine: beside the program, or in the cache where the
 * program came from a URL, fetched from there with hashes checked.
 *
 * @param path as the shipped run files write it: `configs/tiny/model`.
 * @returns undefined where none of that name ships.
 * @throws {UserError} where a file cannot be fetched, or is another than this version's.
 */
export async function shippedPath(path: string): Promise<string | undefined> {
  const name = path.replaceAll("\\", "/").replace(/^(\.\/)+/, "").replace(/\/+$/, "");
  const files = Object.entries(FILES).filter(([file]) => file === name || file.startsWith(`${name}/`));
  if (files.length === 0) return;
  if (ROOT.protocol === "file:") return fileURLToPath(new URL(name, ROOT));
  const folder = join(cacheFolder(), "shipped", VERSION);
  for (const [file, sha256] of files) await fetchFile(new URL(file, ROOT), join(folder, file), sha256);
  return join(folder, name);
}

const sha256Of = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** Fetches a file, unless it is there. */
async function fetchFile(url: URL, path: string, sha256: string): Promise<void> {
  const there = await readFile(path).catch(() => undefined);
  if (there && sha256Of(there) === sha256) return;
  const bytes = await download(url);
  if (sha256Of(bytes) !== sha256) {
    throw new UserError(
      `${url}: another file than version ${VERSION} of this program ships: install it anew`,
    );
  }
  await writeWhole(dirname(path), basename(path), bytes, { flush: false });
}

async function download(url: URL): Promise<Uint8Array> {
  let problem: string;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(PATIENCE) });
    if (response.ok) return await response.bytes();
    problem = `the server answers ${response.status}`;
    await response.body?.cancel();
  } catch (error) {
    // A permission that is missing is no failure of the network.
    if ((error as Error).name === "NotCapable") throw error;
    problem = (error as Error).message;
  }
  throw new UserError(`${url}: cannot be fetched: ${problem}`);
}
