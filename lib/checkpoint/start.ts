/** Where a run begins: anew, or from a checkpoint. */
import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { TrainConfig } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import { checkConfig } from "./fingerprint.ts";
import { isTemporary, listCheckpoints } from "./names.ts";
import { readSavedRun, type SavedRun } from "./state.ts";
import { discard, removeTemporary } from "./write.ts";

/** Written last by `saveRun`: an output folder that has it holds a finished run. */
const LAST_FILE = "trainer_state.json";

/**
 * Looks at `output_dir` and `resume_from_checkpoint` and says where the run begins; nothing is changed yet.
 *
 * @returns the checkpoint to go on from, whose run had the same configuration where it matters; undefined to begin anew.
 * @throws {UserError} (status 2) for a folder that holds something else, a finished run or another run.
 */
export async function findStart(config: TrainConfig): Promise<SavedRun | undefined> {
  const { outputDir, overwriteOutputDir, resumeFromCheckpoint } = config;
  const found = await stat(outputDir).catch(() => undefined);
  if (found && !found.isDirectory()) {
    throw new UserError(`output_dir: ${outputDir} is a file, expected a folder`, 2);
  }
  const folder = await checkpointFolder(config);
  if (folder !== undefined) {
    const saved = await readSavedRun(folder);
    checkConfig(config, saved);
    return saved;
  }
  const [first] = found ? (await readdir(outputDir)).filter((name) => !isTemporary(name)) : [];
  if (first !== undefined && !overwriteOutputDir) {
    const why = resumeFromCheckpoint === false ? ", and resume_from_checkpoint is false" : "";
    throw new UserError(
      `output_dir: ${outputDir} is not empty (it holds ${first}${why}): name another folder, or give ` +
        "--overwrite_output_dir to replace what a run left there",
      2,
    );
  }
}

async function checkpointFolder(
  { outputDir, overwriteOutputDir, resumeFromCheckpoint }: TrainConfig,
): Promise<string | undefined> {
  if (typeof resumeFromCheckpoint === "string") return resumeFromCheckpoint;
  const last = (await listCheckpoints(outputDir)).at(-1)?.folder;
  if (resumeFromCheckpoint) {
    if (last !== undefined) return last;
    throw new UserError(`resume_from_checkpoint: ${outputDir} holds no checkpoint-N to go on from`, 2);
  }
  if (resumeFromCheckpoint === false || overwriteOutputDir) return undefined;
  const isFinished = await stat(join(outputDir, LAST_FILE)).catch(() => undefined);
  return isFinished ? undefined : last;
}

/** Makes `output_dir` ready for the steps of a run: what killed runs left half-written goes, and before a new run all checkpoints. */
export async function prepareOutput(outputDir: string, isResumed: boolean): Promise<void> {
  const names = await readdir(outputDir).catch(() => []);
  await removeTemporary(outputDir, names);
  await rm(join(outputDir, LAST_FILE), { force: true });
  if (isResumed) return;
  for (const { step } of await listCheckpoints(outputDir)) await discard(outputDir, step);
}
