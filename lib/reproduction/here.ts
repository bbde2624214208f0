/** What there is here of what a run begins with. */
import { basename } from "node:path";
import { fingerprint, hashModel } from "../checkpoint/fingerprint.ts";
import { firstPairs, thisProgram } from "../checkpoint/provenance.ts";
import type { TrainConfig } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import { openGpu } from "../gpu/device.ts";
import { type FetchEvents, resolveSources } from "../hub/hub.ts";
import { prepare } from "../planning/prepare.ts";
import { rememberedRecord } from "../planning/tune.ts";
import { hasWeights, openCheckpoint } from "../safetensors/read.ts";
import type { Here } from "./check.ts";

/**
 * Looks at what a configuration names, and at this machine, without training. Weights of a model that are not here are not
 * fetched.
 *
 * @throws {UserError} as `prepare` does, for data or a tokenizer that cannot be read.
 */
export async function lookHere(config: TrainConfig, events: FetchEvents): Promise<Here> {
  // A model from random weights needs no others, so none are fetched.
  const sources = await resolveSources({ ...config, fromScratch: true }, events);
  const prepared = await prepare(config, { ...events, sources, readsOnly: true });
  try {
    const files = config.fromScratch ? [] : await weightFiles(sources.model);
    const run = fingerprint(config, prepared, await hashModel(sources.model, files, events.onProgress));
    const { train, test } = prepared;
    return {
      ...thisProgram(),
      ...await adapter(),
      run,
      dataFiles: [...train.files, ...test?.files ?? []].map(({ path }) => basename(path)),
      steps: prepared.totalSteps,
      trainPairs: train.length,
      pairs: await firstPairs(prepared),
    };
  } finally {
    await prepared.close();
  }
}

async function weightFiles(folder: string): Promise<string[]> {
  if (!await hasWeights(folder)) return [];
  const { files, close } = await openCheckpoint(folder);
  await close();
  return files;
}

/** The adapter, and how products would be computed on it; without one there is nothing to say. */
async function adapter(): Promise<Pick<Here, "device" | "kernels">> {
  const gpu = await openGpu().catch((error) => {
    if (error instanceof UserError) return undefined;
    throw error;
  });
  if (!gpu) return {};
  try {
    return { device: gpu.name, kernels: await rememberedRecord(gpu) };
  } finally {
    gpu.destroy();
  }
}
