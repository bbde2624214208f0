import { mkdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { type SavedAdapter, saveWeights } from "../adapters/save.ts";
import { UserError } from "../errors.ts";
import { type ModelFiles, writeModelFiles } from "../hub/model_files.ts";
import { sortedJson } from "../text/json.ts";
import { writeWhole } from "../files/whole_file.ts";
import { type TrainerState, writeTrainerState } from "./trainer_state.ts";
import { type TensorSource, writeSafetensors } from "../safetensors/write.ts";
import { beginFlush, flushFolder } from "./flush.ts";
import {
  checkpointName,
  listCheckpoints,
  OPTIMIZER,
  removedName,
  replacedName,
  RUN_STATE,
  unfinishedName,
} from "./names.ts";
import type { RunState } from "./state.ts";

/** What a checkpoint is made of. */
export interface CheckpointContent {
  /** The weights as the model's files hold them. */
  weights: TensorSource[];
  /** Where they are adapters: what is saved beside them. */
  adapter?: SavedAdapter;
  /** Moments and float32 weights. */
  optimizer: TensorSource[];
  /** Configuration and tokenizer. */
  modelFiles: ModelFiles;
  trainerState: TrainerState;
  runState: RunState;
}

/**
 * Writes the checkpoints of a run. Each is written into a folder of another name, flushed to the disk and renamed:
 * under its name it is whole. `write` returns when the tensors have left the GPU and are with the operating system;
 * the flush, which waits for the disk, goes on beside the next step, and `finish` waits for it. Memory is bounded by
 * one piece of 16 MiB.
 */
export class CheckpointWriter {
  #closing: Promise<void> = Promise.resolve();
  #failure?: unknown;
  /** Steps of the checkpoints that this run has, in the order in which it got them. */
  readonly #own: number[] = [];

  /**
   * @param limit checkpoints to keep, the newest; below 1 or undefined: all.
   * @param saved told of each checkpoint that is on the disk.
   * @param begun the step of the checkpoint in `outputDir` that the run goes on from.
   */
  constructor(
    readonly outputDir: string,
    readonly limit: number | undefined,
    readonly saved: (folder: string) => void,
    begun?: number,
  ) {
    if (begun !== undefined) this.#own.push(begun);
  }

  /** @throws {UserError} where it cannot be written; the checkpoints before it are as they were. */
  async write(content: CheckpointContent): Promise<void> {
    await this.finish();
    const { step } = content.runState;
    const folder = join(this.outputDir, unfinishedName(step));
    let flush: { done: Promise<void> };
    try {
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
      await saveWeights(folder, content.weights, content.adapter, { flush: false });
      await writeModelFiles(content.modelFiles, folder);
      await writeSafetensors(join(folder, OPTIMIZER), content.optimizer, { flush: false });
      await writeTrainerState(folder, content.trainerState);
      await writeWhole(folder, RUN_STATE, sortedJson(content.runState, 2));
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
    const earlier = await retire(outputDir, step, replacedName(step));
    await rename(folder, final);
    await flushFolder(outputDir);
    await rm(earlier, { recursive: true, force: true });
    this.#own.push(step);
    this.saved(final);
    await rotate(outputDir, this.limit, best, this.#own);
  }

  /** Removes what was written of a checkpoint, and says which one it was. */
  async #explain(error: unknown, step: number): Promise<unknown> {
    await rm(join(this.outputDir, unfinishedName(step)), { recursive: true, force: true }).catch(() => {});
    if (!(error instanceof Error) || !(error instanceof UserError || "code" in error)) return error;
    return new UserError(`${checkpointName(step)} was not written: ${error.message}`);
  }
}

/** Takes a checkpoint's name away, if there is one of this step; returns the folder that it is in now. */
async function retire(outputDir: string, step: number, name: string): Promise<string> {
  const retired = join(outputDir, name);
  await rm(retired, { recursive: true, force: true });
  await rename(join(outputDir, checkpointName(step)), retired).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  return retired;
}

/** Removes a checkpoint, its name before its files: under its name it is whole to the end. */
export async function discard(outputDir: string, step: number): Promise<void> {
  await rm(await retire(outputDir, step, removedName(step)), { recursive: true, force: true });
}

/**
 * Removes the oldest checkpoints beyond `limit`, by transformers' rules: the newest stays to go on from, and so does
 * the best, so that with a limit of 1 there may be two. Age is time, not steps: a run that went on from an earlier
 * checkpoint finds later ones there, which are older than its own.
 *
 * @param own steps of the run's own checkpoints, the newest last; the clock orders those that were there before.
 */
export async function rotate(
  outputDir: string,
  limit: number | undefined,
  best: string | null,
  own: readonly number[],
): Promise<void> {
  if (limit === undefined || limit < 1) return;
  const found = await Promise.all((await listCheckpoints(outputDir)).map(async (saved) => ({
    ...saved,
    place: own.lastIndexOf(saved.step),
    time: (await stat(saved.folder)).mtimeMs,
  })));
  const all = found.sort((a, b) => a.place - b.place || a.time - b.time || a.step - b.step);
  const kept = new Set([all.at(-1)?.folder, best ?? undefined]);
  let excess = all.length - Math.max(limit, all.filter(({ folder }) => kept.has(folder)).length);
  for (const { folder, step } of all) {
    if (excess <= 0) return;
    if (kept.has(folder)) continue;
    await discard(outputDir, step);
    excess--;
  }
}
