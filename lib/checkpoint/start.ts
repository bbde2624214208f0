/** Where a run begins: anew, or from a checkpoint. */
import { readdir, rm } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import type { TrainConfig } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from "../hub/model_files.ts";
import { statOf } from "../files/stat_of.ts";
import { readTextFile } from "../files/whole_file.ts";
import { checkConfig } from "./fingerprint.ts";
import {
  isCheckpointName,
  isLock,
  isTemporary,
  listCheckpoints,
  METRICS,
  REPORT,
  RESULTS,
  RUNS,
  TRAINER_STATE,
} from "./names.ts";
import { readSavedRun, type SavedRun } from "./state.ts";
import { discard } from "./write.ts";

/**
 * Whether all that a folder has is what a run leaves that ended before its first checkpoint: nothing to go on from,
 * or to keep.
 */
async function isLogOnly({ outputDir, loggingDir }: TrainConfig, names: readonly string[]): Promise<boolean> {
  const events = loggingDir === undefined ? RUNS : relative(outputDir, loggingDir).split(sep)[0];
  const logs = [TRAINER_STATE, METRICS, REPORT, events];
  if (!names.every((name) => logs.includes(name))) return false;
  try {
    const state = JSON.parse(await readTextFile(join(outputDir, TRAINER_STATE)));
    return Number.isSafeInteger(state.global_step) && Number.isSafeInteger(state.max_steps);
  } catch {
    return false;
  }
}

/**
 * Looks at `output_dir` and `resume_from_checkpoint` and says where the run begins; nothing is changed yet.
 *
 * @returns the checkpoint to go on from, whose run had the same configuration where it matters; undefined to begin
 * anew.
 * @throws {UserError} (status 2) for a folder that holds something else, a finished run or another run.
 */
export async function findStart(config: TrainConfig): Promise<SavedRun | undefined> {
  const { outputDir, overwriteOutputDir, resumeFromCheckpoint } = config;
  const names = await namesIn(outputDir);
  const isFinished = isOfFinished(names);
  const folder = await checkpointFolder(config, isFinished);
  if (folder !== undefined) {
    const saved = await readSavedRun(folder);
    checkConfig(config, saved);
    return saved;
  }
  if (!overwriteOutputDir && !await isLogOnly(config, names)) {
    refuseContent(
      outputDir,
      names,
      resumeFromCheckpoint === false ? ", and resume_from_checkpoint is false" : "",
    );
  }
}

/** What a folder holds but for what a process that was killed, or works, has there. */
async function namesIn(folder: string): Promise<string[]> {
  const found = await statOf(folder);
  if (found && !found.isDirectory()) {
    throw new UserError(`output_dir: ${folder} is a file, expected a folder`, 2, "OUTPUT_REFUSED");
  }
  return found ? (await readdir(folder)).filter((name) => !isTemporary(name) && !isLock(name)) : [];
}

/** Either alone is of an unfinished run, or of something else. */
const isOfFinished = (names: readonly string[]) =>
  [TRAINER_STATE, RESULTS].every((name) => names.includes(name));

function refuseContent(outputDir: string, names: readonly string[], why = ""): void {
  if (names.length === 0) return;
  const what = isOfFinished(names) ? "a finished run" : names[0];
  throw new UserError(
    `output_dir: ${outputDir} is not empty (it holds ${what}${why}): name another folder, or give ` +
      "--overwrite_output_dir to replace what a run left there",
    2,
    "OUTPUT_REFUSED",
  );
}

/** @throws {UserError} (status 2) for an output folder that holds anything. */
export async function checkEmpty(outputDir: string): Promise<void> {
  refuseContent(outputDir, await namesIn(outputDir));
}

/** @throws {UserError} (status 2) for a folder with adapters, which a model's weights there would be the end of. */
export async function checkNoAdapters(outputDir: string): Promise<void> {
  const names = await namesIn(outputDir);
  const found = [ADAPTER_CONFIG, ADAPTER_WEIGHTS].find((name) => names.includes(name));
  if (found === undefined) return;
  throw new UserError(
    `output_dir: ${outputDir} holds adapters (${found}), which would go: name another folder, or remove this one`,
    2,
    "OUTPUT_REFUSED",
  );
}

/** @throws {UserError} (status 2) for a folder with a run, whose figures would stand beside another model. */
export async function checkNoRun(outputDir: string): Promise<void> {
  const ofRun = (await namesIn(outputDir)).find((name) =>
    [TRAINER_STATE, METRICS, REPORT, RESULTS].includes(name) || isCheckpointName(name)
  );
  if (ofRun === undefined) return;
  throw new UserError(
    `output_dir: ${outputDir} holds a run (${ofRun}), whose card and figures are not those of the model that would ` +
      "stand beside them: name another folder, or remove this one",
    2,
    "OUTPUT_REFUSED",
  );
}

async function checkpointFolder(
  { outputDir, overwriteOutputDir, resumeFromCheckpoint }: TrainConfig,
  isFinished: boolean,
): Promise<string | undefined> {
  if (typeof resumeFromCheckpoint === "string") return resumeFromCheckpoint;
  const last = (await listCheckpoints(outputDir)).at(-1)?.folder;
  if (resumeFromCheckpoint) {
    if (last !== undefined) return last;
    throw new UserError(`resume_from_checkpoint: ${outputDir} holds no checkpoint-N to go on from`, 2);
  }
  return resumeFromCheckpoint === false || overwriteOutputDir || isFinished ? undefined : last;
}

/**
 * Makes `output_dir`, which no other run may have, ready for the steps of a run: from now on it is unfinished, what
 * killed runs left half-written goes, and before a new run all checkpoints.
 */
export async function prepareOutput(outputDir: string, isResumed: boolean): Promise<void> {
  for (const name of (await readdir(outputDir)).filter(isTemporary)) {
    await rm(join(outputDir, name), { recursive: true, force: true });
  }
  await rm(join(outputDir, RESULTS), { force: true });
  if (isResumed) return;
  for (const { step } of await listCheckpoints(outputDir)) await discard(outputDir, step);
}
