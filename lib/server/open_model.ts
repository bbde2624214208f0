import { loadParts } from "../generation/load.ts";
import type { GpuChoice } from "../gpu/device.ts";
import type { FetchEvents } from "../hub/hub.ts";
import type { ServedModel } from "./served_model.ts";

/** How a model is opened to be served. */
export interface OpenOptions extends FetchEvents, GpuChoice {
  /** As `loadModel`'s. */
  adapter?: string;
  /** Most tokens of a prompt and its answer; by default the model's own most, and `USUAL_LENGTH`. */
  maxLength?: number;
  /** Answers at a time. */
  answers: number;
  /** As `train`'s. */
  readsOnly?: boolean;
}

/** More take memory for each answer, whether they are asked for or not. */
export const USUAL_LENGTH = 2048;

/**
 * Opens a model's folder, or what the Hub has under `owner/name`, on a GPU of its own.
 *
 * @throws {UserError} where it cannot be had, is not supported, or the GPU has not enough memory.
 */
export async function openServedModel(
  name: string,
  { log, ...options }: OpenOptions,
): Promise<ServedModel & AsyncDisposable> {
  const parts = await loadParts(name, { ...options, onLog: log, usualLength: USUAL_LENGTH, pairs: 0 });
  return {
    name,
    generator: parts.generator!,
    tokenizer: parts.pool,
    sampling: parts.generationConfig.sampling,
    eosTokenIds: parts.eosTokenIds,
    [Symbol.asyncDispose]: () => parts[Symbol.asyncDispose](),
  };
}
