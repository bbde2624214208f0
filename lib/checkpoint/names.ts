/** The files and folders of checkpoints. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";

/** What a resumed run needs beside what transformers reads; written last. */
export const RUN_STATE = "run_state.json";
/** Moments, and float32 weights where the model's files are narrower. */
export const OPTIMIZER = "optimizer.safetensors";

export const checkpointName = (step: number) => `checkpoint-${step}`;
/** A checkpoint on its way to its name, and one on its way out: neither is whole for certain. */
export const unfinishedName = (step: number) => `tmp-checkpoint-${step}`;
export const removedName = (step: number) => `tmp-old-checkpoint-${step}`;

/** Whether a name is of a folder that a run left behind when it was killed. */
export const isTemporary = (name: string) => /^tmp-(old-)?checkpoint-\d+$/.test(name);

/** A checkpoint's folder and the optimizer steps that it has behind it. */
export interface SavedStep {
  folder: string;
  step: number;
}

/** The checkpoints in `outputDir`, by step; none where there is no such folder. */
export async function listCheckpoints(outputDir: string): Promise<SavedStep[]> {
  const entries = await readdir(outputDir, { withFileTypes: true }).catch(() => []);
  return entries
    .map((entry) => ({ entry, match: /^checkpoint-(\d+)$/.exec(entry.name) }))
    .filter(({ entry, match }) => match && entry.isDirectory())
    .map(({ entry, match }) => ({ folder: join(outputDir, entry.name), step: Number(match![1]) }))
    .sort((a, b) => a.step - b.step);
}
