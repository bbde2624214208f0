/** The files and folders of a run's output folder. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { ADAPTER_CONFIG, MODEL_FILES } from "../hub/model_files.ts";
import { isTemporaryFile } from "../files/temporary.ts";

/** What a resumed run needs beside what transformers reads; written last. */
export const RUN_STATE = "run_state.json";
/** Moments, and float32 weights where the model's files are narrower. */
export const OPTIMIZER = "optimizer.safetensors";
/** The run as transformers knows it: there from before the first step. */
export const TRAINER_STATE = "trainer_state.json";
/** The log of the run, a line an entry: there from before the first step. */
export const METRICS = "metrics.jsonl";
/** What the run is and what its model answers: there from before the first step. */
export const REPORT = "report.json";
/**
 * The figures of a finished run: written last of all, so that a folder that has it, and the state, holds a whole
 * result.
 */
export const RESULTS = "all_results.json";
/** The folder of TensorBoard's files, as transformers names it. */
export const RUNS = "runs";
/** What a run holds while it goes on, and who it is. */
export const LOCK = ".simper-lock";
export const HOLDER = ".simper-lock.json";

const WRITTEN: ReadonlySet<string> = new Set([
  TRAINER_STATE,
  METRICS,
  REPORT,
  RESULTS,
  HOLDER,
  "README.md",
  "report.html",
  "model.safetensors.index.json",
  ADAPTER_CONFIG,
  ...MODEL_FILES,
]);

/** Whether a run writes a file of this name into its output folder. */
export const isWritten = (name: string) => WRITTEN.has(name) || name.endsWith(".safetensors");

export const checkpointName = (step: number) => `checkpoint-${step}`;
export const isCheckpointName = (name: string) => /^checkpoint-\d+$/.test(name);

/** Of this process: where a file system has no locks, two runs still do not write into one folder. */
const ID = crypto.randomUUID().slice(0, 8);
/** A checkpoint on its way to its name, and one on its way out: neither is whole for certain. */
export const unfinishedName = (step: number) => `tmp-checkpoint-${step}-${ID}`;
export const removedName = (step: number) => `tmp-removed-checkpoint-${step}-${ID}`;
/**
 * A checkpoint that another one of the same step takes the name of: whole for as long as there is none under that
 * name.
 */
export const replacedName = (step: number) => `tmp-replaced-checkpoint-${step}-${ID}`;

/** The name of the checkpoint that a replaced one was, or undefined. */
export const nameBeforeReplaced = (name: string) => /^tmp-replaced-(checkpoint-\d+)-/.exec(name)?.[1];

/** Whether a name is of what a run left behind when it was killed. */
export const isTemporary = (name: string) =>
  /^tmp-((old|removed|replaced)-)?checkpoint-\d+(-[0-9a-f]{8})?$/.test(name) ||
  isTemporaryFile(name, isWritten);

/** Whether a name says nothing of what is in a folder. */
export const isLock = (name: string) => name === LOCK || name === HOLDER;

/** A checkpoint's folder and the optimizer steps that it has behind it. */
export interface SavedStep {
  folder: string;
  step: number;
}

/** The checkpoints in `outputDir`, by step; none where there is no such folder. */
export async function listCheckpoints(outputDir: string): Promise<SavedStep[]> {
  const entries = await readdir(outputDir, { withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => isCheckpointName(entry.name) && entry.isDirectory())
    .map(({ name }) => ({ folder: join(outputDir, name), step: Number(name.slice("checkpoint-".length)) }))
    .sort((a, b) => a.step - b.step);
}
