/** Which tensors a run saves, and how they come back. */
import { join } from "node:path";
import { ADAPTER_WEIGHTS } from "../hub/model_files.ts";
import { PREFIX } from "../adapters/open.ts";
import type { SavedAdapter } from "../adapters/save.ts";
import type { TrainConfig } from "../config/schema.ts";
import type { Communicator } from "../distributed/communicator.ts";
import { withSources } from "../distributed/sources.ts";
import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import { architectureOf } from "../models/models.ts";
import type { Parameters } from "../parameters/parameters.ts";
import type { ParameterTensor, SavedTensor } from "../parameters/saved_tensor.ts";
import { chunksOf, type ModelWeights, renamed } from "../weights/weights.ts";
import type { Planned } from "../planning/plan.ts";
import type { Prepared } from "../planning/prepare.ts";
import type { OnProgress } from "../progress/progress.ts";
import type { FloatDtype } from "../safetensors/dtype.ts";
import { openCheckpoint, openSafetensors, overlaid, withPrefix } from "../safetensors/read.ts";
import type { TensorSource } from "../safetensors/write.ts";
import { OPTIMIZER } from "./names.ts";

/** Weights in float32, where the model's files hold them narrower. */
const MASTER = "master.";

/**
 * A run whose tensors are on the GPU, or on those of all its ranks, each with `decoder.parameters` of `whole`; `source` is the model
 * that it began with, if not with random weights.
 */
export interface Trained {
  gpu: Gpu;
  planned: Planned;
  prepared: Prepared;
  source?: Pick<ModelWeights, "saved" | "tensors" | "readBytes">;
}

const FILE_TYPES: Record<string, FloatDtype> = { bfloat16: "BF16", float16: "F16", float32: "F32" };

/**
 * The weights as the model's files hold them: a model that began from random weights, in the dtype that config.json
 * names. Of a run with adapters those alone, as PEFT saves them.
 */
function savedTensors({ planned: { whole: parameters }, prepared, source }: Trained): SavedTensor[] {
  if (prepared.adapter) {
    return parameters.names.filter((name) => parameters.isTrained(name)).map((parameter) => ({
      name: PREFIX + parameter,
      parameter,
      dtype: "F32",
      shape: parameters.shape(parameter),
    }));
  }
  if (source) return source.saved;
  const dtype = FILE_TYPES[prepared.model.dtype ?? "float32"];
  const { otherNames = {} } = architectureOf(prepared.model);
  return parameters.names.map((parameter) => {
    const name = otherNames[parameter] ?? parameter;
    return { name, parameter, dtype, shape: parameters.shape(parameter) };
  });
}

/** The tensors that parameters are read from again: a tied embedding may be saved twice. */
function savedParameters(trained: Trained): Map<string, ParameterTensor> {
  const all = savedTensors(trained).filter((saved): saved is ParameterTensor => "parameter" in saved);
  return new Map(all.toReversed().map((saved) => [saved.parameter, saved]));
}

/** What a run saves: the weights as the model's files hold them, and moments and float32 weights beside those. */
export interface SavedSources {
  weights: TensorSource[];
  optimizer: TensorSource[];
}

/**
 * Runs `write`, on the first rank, with what a run saves, of which the other ranks may have a part.
 *
 * @param what whether what is beside the weights is saved too.
 */
export async function withSavedSources(
  trained: Trained,
  communicator: Communicator,
  what: "weights" | "all",
  write: (sources: SavedSources) => Promise<void>,
): Promise<void> {
  const { whole, decoder: { parameters } } = trained.planned;
  const sourcesOf = (parameters: Parameters): SavedSources => ({
    weights: weightSources(trained, parameters),
    optimizer: what === "all"
      ? [
        ...masterSources(trained, parameters),
        ...trained.planned.optimizer.state(trained.gpu, parameters),
      ]
      : [],
  });
  const all = sourcesOf(whole);
  if (whole === parameters) {
    if (communicator.rank === 0) await write(all);
    return;
  }
  const listOf = ({ weights, optimizer }: SavedSources) => [...weights, ...optimizer];
  await withSources(communicator, listOf(all), listOf(sourcesOf(parameters)), (tensors) =>
    write({
      weights: tensors.slice(0, all.weights.length),
      optimizer: tensors.slice(all.weights.length),
    }));
}

/**
 * The weights as they are saved, as far as they are among `parameters`; those that are frozen as they are in the
 * source, whatever they are stored as here.
 */
function weightSources(trained: Trained, parameters: Parameters): TensorSource[] {
  const { gpu, planned: { whole }, source } = trained;
  const isFrozen = (saved: SavedTensor): saved is ParameterTensor =>
    "parameter" in saved && !whole.isTrained(saved.parameter);
  const isHere = (saved: SavedTensor) =>
    source && isFrozen(saved) || !("parameter" in saved) || parameters.has(saved.parameter);
  const saved = savedTensors(trained).filter(isHere).map((saved): SavedTensor => {
    if (!source || !isFrozen(saved)) return saved;
    const { name, dtype, shape, parameter } = saved;
    return { name, dtype, shape, chunks: () => chunksOf(source, parameter) };
  });
  return parameters.sources(gpu, saved);
}

/** What is saved beside the weights, where they are adapters. */
export const savedAdapter = (
  { modelNameOrPath, modelRevision }: TrainConfig,
  { adapter }: Prepared,
): SavedAdapter | undefined =>
  adapter && { record: adapter.record, base: modelNameOrPath, revision: modelRevision };

/**
 * Whether `weightSources` rounds nothing of a parameter: one that is frozen is as it was, and others may be stored no
 * wider than it saves them.
 */
const isExact = (
  { source, planned: { whole: parameters } }: Trained,
  { parameter, dtype }: ParameterTensor,
): boolean =>
  dtype === "F32" || dtype === parameters.dtype(parameter) ||
  source !== undefined && !parameters.isTrained(parameter);

/** The tensors that `weightSources` rounds. */
export const roundedTensors = (trained: Trained): ParameterTensor[] =>
  [...savedParameters(trained).values()].filter((saved) => !isExact(trained, saved));

/** The float32 weights that `weightSources` rounds: with the moments, what is kept beside the model's files. */
function masterSources(trained: Trained, parameters: Parameters): TensorSource[] {
  const rounded = new Set(roundedTensors(trained).map(({ parameter }) => MASTER + parameter));
  const masters = parameters.newSources(trained.gpu, "F32", "weights", MASTER);
  return masters.filter(({ name }) => rounded.has(name));
}

/**
 * Uploads weights and, unless `weightsOnly`, moments of a checkpoint, bit for bit as they were; frozen weights beside
 * adapters are in none.
 * @throws {UserError} where its tensors are not those of this model.
 */
export async function restore(
  folder: string,
  trained: Trained,
  { weightsOnly = false, onProgress }: { weightsOnly?: boolean; onProgress?: OnProgress } = {},
): Promise<void> {
  const { gpu, planned: { decoder: { parameters }, optimizer } } = trained;
  const { adapter } = trained.prepared;
  const model = adapter ? await openSafetensors(join(folder, ADAPTER_WEIGHTS)) : await openCheckpoint(folder);
  const saved = await openSafetensors(join(folder, OPTIMIZER));
  try {
    const files = savedParameters(trained);
    const names = [...files].map(([parameter, { name }]) => [parameter, name] as const);
    const weights = overlaid(renamed(model, new Map(names)), withPrefix(saved, MASTER));
    const restored = adapter ? parameters.names.filter((name) => files.has(name)) : parameters.names;
    parameters.check(weights, `${folder} does not fit the model`, "weights", restored);
    for (const name of restored) {
      const { dtype, file } = weights.tensors.get(name)!;
      if (dtype !== "F32" && !(dtype === files.get(name)!.dtype && isExact(trained, files.get(name)!))) {
        throw new UserError(
          `${file}: ${name} is ${dtype}, and ${OPTIMIZER} lacks ${MASTER}${name}: was it changed?`,
        );
      }
    }
    await parameters.load(gpu, weights, "weights", onProgress, restored);
    if (!weightsOnly) await optimizer.restore(gpu, saved, onProgress);
  } finally {
    await model.close();
    await saved.close();
  }
}
