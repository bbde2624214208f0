/** The folder that a run writes into: its place, and that it can be written to. */
import { mkdir, readdir, realpath, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import type { TrainConfig } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import type { Sources } from "../hub/hub.ts";
import { statOf } from "../files/stat_of.ts";
import { temporaryName } from "../files/temporary.ts";
import { lockFolder } from "./lock.ts";
import { isCheckpointName, isTemporary, isWritten, nameBeforeReplaced, removedName } from "./names.ts";

/** An output folder that this run alone writes into, until `close`. */
export interface OutputFolder {
  close(): Promise<void>;
}

/**
 * Makes `output_dir`, writes to it, and keeps it to this run; a checkpoint that another one was about to take the
 * name of, when its run was killed, has its name again. Closed before anything else was written, a folder that was
 * made goes too.
 *
 * @param warn told of a file system without locks.
 * @throws {UserError} (status 2) where the folder cannot be made or written to, holds something where the run writes,
 * or is another run's.
 */
export async function openOutput(outputDir: string, warn: (message: string) => void): Promise<OutputFolder> {
  const made = await makeFolder(outputDir);
  const undo = async () => {
    // Those that hold something by now stay.
    for (let folder = resolve(outputDir); made !== undefined; folder = dirname(folder)) {
      if (!await rmdir(folder).then(() => true, () => false) || folder === made) return;
    }
  };
  try {
    await checkWritable(outputDir);
    const lock = await lockFolder(outputDir, warn);
    await mendNames(outputDir);
    return {
      close: async () => {
        await lock.release();
        await undo();
      },
    };
  } catch (error) {
    await undo();
    throw error;
  }
}

/** The outermost folder that had to be made, if any. */
async function makeFolder(outputDir: string): Promise<string | undefined> {
  const found = await statOf(outputDir);
  if (found && !found.isDirectory()) throw refusal(outputDir, "is a file, expected a folder");
  try {
    const made = await mkdir(outputDir, { recursive: true });
    return made === undefined ? undefined : resolve(made);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // Of what Deno guards by itself it asks for a permission that nobody should give.
    const why = /--allow-all flag/.test(message)
      ? "the system keeps that place for itself"
      : code === "EEXIST"
      ? "there is a link of that name to what does not exist, or a file"
      : message;
    throw refusal(outputDir, `cannot be made: ${why}`);
  }
}

/** Names in folders of checkpoints are the longest that a run writes. */
const LONGEST_NAMES = [removedName(10_000_000), "model-00001-of-00001.safetensors"] as const;

async function checkWritable(outputDir: string): Promise<void> {
  for (const entry of await readdir(outputDir, { withFileTypes: true }).catch(throwNotWritable(outputDir))) {
    const isFolder = entry.isDirectory();
    if (isFolder ? isWritten(entry.name) : isCheckpointName(entry.name) && entry.isFile()) {
      throw refusal(
        outputDir,
        `holds ${entry.name} as a ${isFolder ? "folder" : "file"}, where a run writes a ${
          isFolder ? "file" : "folder"
        }: ` + "move it away, or name another folder",
      );
    }
  }
  const [folder, file] = [join(outputDir, LONGEST_NAMES[0]), LONGEST_NAMES[1]];
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(temporaryName(join(folder, file)), "\n");
  } catch (error) {
    throwNotWritable(outputDir)(error as Error);
  } finally {
    await rm(folder, { recursive: true, force: true }).catch(() => {});
  }
}

function throwNotWritable(outputDir: string): (error: Error) => never {
  return (error) => {
    throw refusal(outputDir, `cannot be written to: ${error.message}`);
  };
}

const refusal = (outputDir: string, what: string) =>
  new UserError(`output_dir: ${outputDir} ${what}`, 2, "OUTPUT_REFUSED");

async function mendNames(outputDir: string): Promise<void> {
  const names = await readdir(outputDir);
  for (const name of names) {
    const before = nameBeforeReplaced(name);
    if (before !== undefined && !names.includes(before)) {
      await rename(join(outputDir, name), join(outputDir, before));
    }
  }
}

/**
 * Refuses an `output_dir` in which the run would write over what it reads: links are followed.
 *
 * @param sources where model and data are.
 * @throws {UserError} (status 2) naming the key.
 */
export async function checkPlaces(
  { outputDir, resumeFromCheckpoint }: Pick<TrainConfig, "outputDir" | "resumeFromCheckpoint">,
  { model, adapter, reference, mixer }: Pick<Sources, "model" | "adapter" | "reference" | "mixer">,
): Promise<void> {
  const output = await realPath(outputDir);
  const read: [key: string, path: string][] = [
    ["model_name_or_path", model],
    ...adapter === undefined ? [] : [["adapter_name_or_path", adapter] as [string, string]],
    ...reference === undefined ? [] : [["ref_model", reference] as [string, string]],
    ...mixer.map(({ path }): [string, string] => ["dataset_mixer", path]),
  ];
  if (typeof resumeFromCheckpoint === "string") {
    read.push(["resume_from_checkpoint", resumeFromCheckpoint]);
  }
  for (const [key, path] of read) {
    if (!await statOf(path)) continue;
    const place = await realPath(path);
    const within = partsFrom(place, output);
    if (within) {
      throw refusal(
        outputDir,
        `is ${
          within.length ? "inside" : "the same as"
        } ${key} (${path}), which the run reads: name another folder`,
      );
    }
    const below = partsFrom(output, place);
    if (!below) continue;
    // A checkpoint to go on from is where it belongs.
    const isOwn = isCheckpointName(below[0]) && key !== "resume_from_checkpoint";
    if (isOwn || isTemporary(below[0]) || (below.length === 1 && isWritten(below[0]))) {
      throw refusal(
        outputDir,
        `holds ${key} (${path}) in a place where the run writes and removes: name another folder, or move ${
          basename(place)
        } out of it`,
      );
    }
  }
}

/** The names that lead from `folder` to `path`; undefined where it is not in it. */
function partsFrom(folder: string, path: string): string[] | undefined {
  const way = relative(folder, path);
  if (way === "") return [];
  const parts = way.split(sep);
  return parts[0] === ".." || way === resolve(way) ? undefined : parts;
}

/** A path without links, of something that need not be there yet. */
export async function realPath(path: string): Promise<string> {
  const whole = resolve(path);
  const found = await realpath(whole).catch(() => undefined);
  if (found !== undefined || dirname(whole) === whole) return found ?? whole;
  return join(await realPath(dirname(whole)), basename(whole));
}
