/** What there is here of what a run begins with. */
import { basename } from "node:path";
import { openAdapter } from "../adapters/open.ts";
import { cacheFolder } from "../files/cache_folder.ts";
import { fingerprint, hashModel } from "../checkpoint/fingerprint.ts";
import { firstPairs, thisProgram } from "../checkpoint/provenance.ts";
import type { TrainConfig } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import { openGpu } from "../gpu/device.ts";
import { suits, type TuningRecord } from "../gpu/tuning.ts";
import { type FetchEvents, resolveModel, resolveSources } from "../hub/hub.ts";
import { precisionOn } from "../planning/precision.ts";
import { prepare } from "../planning/prepare.ts";
import { rememberTuning } from "../planning/remembered_tuning.ts";
import { rememberedRecord } from "../planning/tune.ts";
import { hasWeights, openCheckpoint } from "../safetensors/read.ts";
import type { Here } from "./check.ts";

/** Besides what fetching tells of itself. */
export interface LookOptions extends FetchEvents {
  /** How this adapter is to compute products from now on, where it can. */
  tiles?: TuningRecord;
}

/**
 * Looks at what a configuration names, and at this machine, without training. Weights of a model that are not here
 * are not fetched.
 *
 * @throws {UserError} as `prepare` does, for data or a tokenizer that cannot be read.
 */
export async function lookHere(
  config: TrainConfig,
  { tiles, ...events }: LookOptions = {},
): Promise<Here> {
  // As if it began from random weights, so that none are fetched.
  const sources = await resolveSources({ ...config, fromScratch: true, refModel: undefined }, events);
  if (config.refModel !== undefined) {
    sources.reference = await resolveModel(config.refModel, { ...events, weights: false });
  }
  await using held = new AsyncDisposableStack();
  const adapter = sources.adapter === undefined ? undefined : await openAdapter(sources.adapter);
  held.defer(() => adapter?.close());
  const prepared = await prepare(config, { ...events, sources, adapter, readsOnly: true });
  held.defer(() => prepared.close());
  const hashes = async (folder: string, isRandom = false, more: readonly string[] = []) =>
    await hashModel(folder, [...isRandom ? [] : await weightFiles(folder), ...more], events.onProgress);
  const { folder: reference } = prepared.reference ?? {};
  const run = fingerprint(
    config,
    prepared,
    await hashes(sources.model, config.fromScratch, adapter?.files),
    reference === undefined ? undefined : await hashes(reference),
  );
  const { train, test } = prepared;
  return {
    ...thisProgram(),
    ...await adapterOf(config, tiles, events.log),
    run,
    dataFiles: [...train.files, ...test?.files ?? []].map(({ path }) => basename(path)),
    steps: prepared.totalSteps,
    trainPairs: train.length,
    pairs: await firstPairs(prepared),
  };
}

async function weightFiles(folder: string): Promise<string[]> {
  if (!await hasWeights(folder)) return [];
  const { files, close } = await openCheckpoint(folder);
  await close();
  return files;
}

/** The GPU, and how products would be computed on it; without one there is nothing to say. */
async function adapterOf(
  config: TrainConfig,
  tiles: TuningRecord | undefined,
  log: FetchEvents["log"],
): Promise<Pick<Here, "device" | "kernels">> {
  const gpu = await openGpu().catch((error) => {
    if (error instanceof UserError) return undefined;
    throw error;
  });
  if (!gpu) return {};
  try {
    if (tiles && suits(tiles, gpu)) await rememberTuning(gpu, cacheFolder(), tiles);
    else if (tiles) {
      log?.("warning", `--take_tiles: ${gpu.name} cannot compute products as the pack's run did`);
    }
    // Where there are no matrices for it, that is a difference to tell of.
    const precision = gpu.matrices && precisionOn(gpu, config);
    return { device: gpu.name, kernels: await rememberedRecord(gpu, precision) };
  } finally {
    gpu.destroy();
  }
}
