import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { copyModelFiles } from "../model/folder.ts";
import { sortedJson, writeText } from "../report/files.ts";
import { type TrainerState, writeTrainerState } from "../report/trainer_state.ts";
import { saveCheckpoint, type TensorSource, writeSafetensors } from "../safetensors_write.ts";
import { beginFlush, flushFolder } from "./flush.ts";
import {
  checkpointName,
  isTemporary,
  listCheckpoints,
  OPTIMIZER,
  removedName,
  RUN_STATE,
  unfinishedName,
} from "./names.ts";
import type { RunState } from "./state.ts";

/** What a checkpoint is made of. */
export interface CheckpointContent {
  /** The weights as the model's files hold them. */
  weights: TensorSource[];
  /** Moments and float32 weights. */
  optimizer: TensorSource[];
  /** Where configuration and tokenizer are copied from. */
  modelFolder: string;
  trainerState: TrainerState;
  runState: RunState;
}

/**
 * Writes the checkpoints of a run. Each is written into a folder of another name, flushed to the disk and renamed: under its
 * name it is whole. `write` returns when the tensors have left the GPU and are with the operating system; the flush, which
 * waits for the disk, goes on beside the next step, and `finish` waits for it. Memory is bounded by one piece of 16 MiB.
 */
export class CheckpointWriter {
  #closing: Promise<void> = Promise.resolve();
  #failure?: unknown;

  /**
   * @param limit checkpoints to keep, the newest; below 1 or undefined: all.
   * @param saved told of each checkpoint that is on the disk.
   */
  constructor(
    readonly outputDir: string,
    readonly limit: number | undefined,
    readonly saved: (folder: string) => void,
  ) {}

  /** @throws {UserError} where it cannot be written; the checkpoints before it are as they were. */
  async write(content: CheckpointContent): Promise<void> {
    await this.finish();
    const { step } = content.runState;
    const folder = join(this.outputDir, unfinishedName(step));
    let flush: { done: Promise<void> };
    try {
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
      await saveCheckpoint(folder, content.weights, { flush: false });
      await copyModelFiles(content.modelFolder, folder);
      await writeSafetensors(join(folder, OPTIMIZER), content.optimizer, { flush: false });
      await writeTrainerState(folder, content.trainerState);
      await writeText(folder, RUN_STATE, sortedJson(content.runState, 2));
      flush = await beginFlush(folder);
    } catch (error) {
      throw await this.#explain(error, step);
    }
    const best = content.trainerState.best_model_checkpoint;
    this.#closing = flush.done.then(() => this.#publish(folder, step, best)).catch(async (error) => {
      this.#failure = await this.#explain(error, step);
    });
  }

  /** Waits until the last checkpoint is on the disk; throws what went wrong with it. */
  async finish(): Promise<void> {
    await this.#closing;
    if (this.#failure) throw this.#failure;
  }

  async #publish(folder: string, step: number, best: string | null): Promise<void> {
    const { outputDir } = this;
    const final = join(outputDir, checkpointName(step));
    // A run that went on from an earlier checkpoint comes by here again.
    const earlier = await retire(outputDir, step);
    await rename(folder, final);
    await flushFolder(outputDir);
    await rm(earlier, { recursive: true, force: true });
    this.saved(final);
    await rotate(outputDir, this.limit, best);
  }

  /** Removes what was written of a checkpoint, and says which one it was. */
  async #explain(error: unknown, step: number): Promise<unknown> {
    await rm(join(this.outputDir, unfinishedName(step)), { recursive: true, force: true }).catch(() => {});
    if (!(error instanceof Error) || !(error instanceof UserError || "code" in error)) return error;
    return new UserError(`${checkpointName(step)} was not written: ${error.message}`);
  }
}

/** Takes a checkpoint's name away, if there is one of this step; returns the folder that it is in now. */
async function retire(outputDir: string, step: number): Promise<string> {
  const removed = join(outputDir, removedName(step));
  await rm(removed, { recursive: true, force: true });
  await rename(join(outputDir, checkpointName(step)), removed).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  return removed;
}

/** Removes a checkpoint, its name before its files: under its name it is whole to the end. */
export async function discard(outputDir: string, step: number): Promise<void> {
  await rm(await retire(outputDir, step), { recursive: true, force: true });
}

/**
 * Removes the oldest checkpoints beyond `limit`, by transformers' rules: the newest stays to go on from, and so does the best,
 * so that with a limit of 1 there may be two.
 */
export async function rotate(
  outputDir: string,
  limit: number | undefined,
  best: string | null,
): Promise<void> {
  if (limit === undefined || limit < 1) return;
  const all = await listCheckpoints(outputDir);
  const kept = new Set([all.at(-1)?.folder, best ?? undefined]);
  let excess = all.length - Math.max(limit, all.filter(({ folder }) => kept.has(folder)).length);
  for (const { folder, step } of all) {
    if (excess <= 0) return;
    if (kept.has(folder)) continue;
    await discard(outputDir, step);
    excess--;
  }
}

/** Removes what a killed run left unfinished. */
export async function removeTemporary(outputDir: string, names: readonly string[]): Promise<void> {
  for (const name of names.filter(isTemporary)) {
    await rm(join(outputDir, name), { recursive: true, force: true });
  }
}
