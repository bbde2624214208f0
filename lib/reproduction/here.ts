/** What there is here of what a run begins with. */
import { basename } from "node:path";
import { openAdapter } from "../adapters/open.ts";
import { cacheFolder } from "../files/cache_folder.ts";
import { statOf } from "../files/stat_of.ts";
import { fingerprint, hashModel } from "../checkpoint/fingerprint.ts";
import { firstPairs, thisProgram } from "../checkpoint/provenance.ts";
import type { TrainConfig } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import { openGpu } from "../gpu/device.ts";
import { suits, type TuningRecord } from "../gpu/tuning.ts";
import { type FetchEvents, resolveModel, resolveSources, type Sources } from "../hub/hub.ts";
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
  /** The keys as a pack has them, whose names may stand for places of another machine. */
  packed?: Readonly<Record<string, unknown>>;
}

/**
 * Looks at what a configuration names, and at this machine, without training. Weights of a model that are not here
 * are not fetched.
 *
 * @throws {UserError} as `prepare` does, for data or a tokenizer that cannot be read.
 */
export async function lookHere(
  config: TrainConfig,
  { tiles, packed, ...events }: LookOptions = {},
): Promise<Here> {
  // As if it began from random weights, so that none are fetched.
  const sources = await resolveSources({ ...config, fromScratch: true, refModel: undefined }, events);
  if (config.refModel !== undefined) {
    sources.reference = await resolveModel(config.refModel, { ...events, weights: false });
  }
  if (packed) await checkNames(config, sources, packed);
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

/**
 * Of a model or data that were no repository of the Hub, a pack has the name alone.
 * @throws {UserError} (status 2) with every such name that is nothing here, and the key that says where it lies.
 */
async function checkNames(
  { modelNameOrPath, adapterNameOrPath, refModel, datasetMixer }: TrainConfig,
  { model, adapter, reference, mixer }: Sources,
  packed: Readonly<Record<string, unknown>>,
): Promise<void> {
  const problems: string[] = [];
  const lacks = async (name?: string, path?: string) =>
    path !== undefined && name === path && !await statOf(path);
  for (
    const [key, what, name, path] of [
      ["model_name_or_path", "model", modelNameOrPath, model],
      ["adapter_name_or_path", "adapters", adapterNameOrPath, adapter],
      ["ref_model", "reference", refModel, reference],
    ] as const
  ) {
    if (name === packed[key] && await lacks(name, path)) {
      problems.push(
        `of the ${what} the pack has the name only (${name}): say where it lies here: --${key}=FOLDER`,
      );
    }
  }
  const sets = datasetMixer.map(({ path, share }) => [path, share] as const);
  if (JSON.stringify(sets) === JSON.stringify(packed.dataset_mixer)) {
    const areMissing = await Promise.all(sets.map(([name], i) => lacks(name, mixer[i].path)));
    if (areMissing.includes(true)) {
      const here = sets.map(([name, share], i) => [areMissing[i] ? `FOLDER/${name}` : name, share]);
      problems.push(
        `of the data the pack has the name only (${
          sets.filter((_, i) => areMissing[i]).map(([name]) => name).join(", ")
        }` +
          `): say where it lies here: --dataset_mixer='${JSON.stringify(Object.fromEntries(here))}'`,
      );
    }
  }
  if (problems.length > 0) throw new UserError(problems.join("\n"), 2, "NOT_FOUND");
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
