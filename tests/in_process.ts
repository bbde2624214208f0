/** Golden runs in the process of the test. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { listCheckpoints } from "../lib/checkpoint/names.ts";
import { readSavedRun } from "../lib/checkpoint/state.ts";
import { readConfig } from "../lib/config/parse.ts";
import { UserError } from "../lib/errors.ts";
import { openCheckpoint, openSafetensors } from "../lib/safetensors/read.ts";
import type { TrainOptions } from "../lib/run/options.ts";
import type { TrainRun } from "../lib/run/outcome.ts";
import { train } from "../lib/run/train.ts";
// Sets the cache.
import "./command.ts";
import { usualEngine } from "../lib/gpu/device.ts";
import { GOLDEN } from "./golden_run.ts";
import { sharedGpu } from "./shared_gpu.ts";

/** Trains and saves the golden run, for 12 steps with a checkpoint every 4. */
export async function run(
  out: string,
  overrides: string[] = [],
  options: TrainOptions = {},
): Promise<TrainRun> {
  const { config } = await readConfig(`${GOLDEN}/run.yaml`, [
    `--output_dir=${out}`,
    "--max_steps=12",
    "--save_steps=4",
    ...overrides,
  ]);
  const isOwn = (config.webgpuEngine ?? usualEngine()) === "deno";
  await using outcome = await train(config, { ...isOwn && { gpu: sharedGpu }, ...options });
  if (!outcome.isStopped) await outcome.save();
  return outcome;
}

/** Trains until `step` steps are done, and is stopped there as by a signal. */
export async function stopAt(step: number, out: string, overrides: string[] = []): Promise<void> {
  const stop = new AbortController();
  // By the time that a step's figures are told, a GPU has the next.
  const onSubmit = (submitted: { step: number }) => submitted.step >= step && stop.abort();
  assert.ok(
    (await run(out, ["--logging_steps=1", ...overrides], { onSubmit, signal: stop.signal })).isStopped,
  );
}

/** The message of the UserError that must come. */
export async function refusal(body: Promise<unknown>, status = 2): Promise<string> {
  const error = await body.then(() => assert.fail("no error"), (error) => error);
  assert.ok(error instanceof UserError, error.stack);
  assert.equal(error.status, status, error.message);
  return error.message;
}

/** Reads all of every folder that is named as a checkpoint; returns their steps. */
export async function wholeCheckpoints(out: string): Promise<number[]> {
  const all = await listCheckpoints(out);
  for (const { folder, step } of all) {
    assert.equal((await readSavedRun(folder)).state.step, step);
    const optimizer = await openSafetensors(join(folder, "optimizer.safetensors"));
    for (const file of [await openCheckpoint(folder), optimizer]) {
      for (const name of file.tensors.keys()) await file.readBytes(name);
      await file.close();
    }
  }
  return all.map(({ step }) => step);
}

/** Names in a folder, in order; none where there is no such folder. */
export function ls(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  } catch {
    return [];
  }
}

export const weightsOf = (folder: string) => Deno.readFile(join(folder, "model.safetensors"));
