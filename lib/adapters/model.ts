/** A model's folder with adapters, or without. */
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { resolveAdapter, resolveModel, type ResolveOptions } from "../hub/hub.ts";
import { netOf } from "../models/models.ts";
import { ADAPTER_CONFIG } from "../hub/model_files.ts";
import { type ModelWeights, openModel } from "../weights/weights.ts";
import { merged } from "./merge.ts";
import { checkAdapter, isAdapter, openAdapter, readAdapterConfig } from "./open.ts";

/** Where a model is on this machine. */
export interface ModelFolder {
  /** Of its weights, configuration and tokenizer. */
  folder: string;
  /** The folder of its adapters. */
  adapter?: string;
}

/** How a model is looked for. */
export interface FindOptions extends ResolveOptions {
  /** Folder of adapters (PEFT) for it, or their name on the Hub. */
  adapter?: string;
}

/**
 * Looks for a model, and for its adapters; `name` may also be a folder of adapters, whose base model is then taken.
 * @throws {UserError} as `resolveModel`, and for adapters that name no base model.
 */
export async function findModel(
  name: string,
  { adapter, ...options }: FindOptions = {},
): Promise<ModelFolder> {
  if (adapter !== undefined) {
    if (await isAdapter(name)) {
      throw new UserError(`${name}: MODEL is itself a folder of adapters: name their base model`, 2);
    }
    return {
      folder: await resolveModel(name, options),
      adapter: await resolveAdapter(adapter, { ...options, revision: undefined }),
    };
  }
  if (!await isAdapter(name)) return { folder: await resolveModel(name, options) };
  const { base, record } = await readAdapterConfig(name);
  if (base === undefined) {
    throw new UserError(
      `${
        join(name, ADAPTER_CONFIG)
      }: base_model_name_or_path: expected the model that the adapters are for, found nothing: ` +
        `name the model, and --adapter=${name}`,
    );
  }
  if (await isAdapter(base)) {
    throw new UserError(
      `${join(name, ADAPTER_CONFIG)}: base_model_name_or_path: ${base} is itself a folder of adapters: ` +
        `name their base model, and --adapter=${name}`,
    );
  }
  const revision = typeof record.revision === "string" ? record.revision : undefined;
  return { folder: await resolveModel(base, { ...options, revision }), adapter: name };
}

/**
 * As `openModel`, with adapters merged into the weights, in float32.
 * @throws {UserError} as `openModel` and `openAdapter`, and for adapters of another model.
 */
export async function openFound(
  { folder, adapter: of }: ModelFolder,
  warn?: (message: string) => void,
): Promise<ModelWeights> {
  const model = await openModel(folder, warn);
  if (of === undefined) return model;
  try {
    const adapter = await openAdapter(of);
    const close = async () => {
      await model.close();
      await adapter.close();
    };
    try {
      checkAdapter(adapter, netOf(model.model));
    } catch (error) {
      await adapter.close();
      throw error;
    }
    return { ...model, ...merged(model, adapter), files: [...model.files, ...adapter.files], close };
  } catch (error) {
    await model.close();
    throw error;
  }
}
