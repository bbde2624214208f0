import { join } from "node:path";
import { TokenizerPool } from "../data/pool.ts";
import { inArea } from "../errors.ts";
import { readGenerationConfig } from "../generation/generation_config.ts";
import { GpuGenerator } from "../generation/gpu_generator.ts";
import { openGpu } from "../gpu/device.ts";
import { MemoryPlan } from "../gpu/memory_plan.ts";
import { Pipelines } from "../gpu/program.ts";
import { deviceClass } from "../gpu/tuning.ts";
import { type FetchEvents, resolveModel } from "../hub/hub.ts";
import { netOf } from "../models/models.ts";
import { Parameters } from "../parameters/parameters.ts";
import { adapterOf } from "../planning/plan.ts";
import { rememberedTiles } from "../planning/tune.ts";
import { storageOf } from "../weights/storage.ts";
import { openModel } from "../weights/weights.ts";
import { readTextFile } from "../whole_file.ts";
import type { ServedModel } from "./served_model.ts";

/** How a model is opened to be served. */
export interface OpenOptions extends FetchEvents {
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
  options: OpenOptions,
): Promise<ServedModel & AsyncDisposable> {
  const { answers, readsOnly, log = () => {}, onProgress, signal } = options;
  await using held = new AsyncDisposableStack();
  const folder = await inArea("NOT_FOUND", () => resolveModel(name, options));
  await using opened = new AsyncDisposableStack();
  const weights = opened.adopt(
    await inArea("MODEL_INVALID", () => openModel(folder, (message) => log("warning", message))),
    (weights) => weights.close(),
  );
  const { sampling, eosTokenIds } = await readGenerationConfig(folder);
  const pool = await inArea("MODEL_INVALID", () => TokenizerPool.open(folder, { readsOnly }));
  held.defer(() => pool.close());
  const { eosTokenId } = pool.vocabulary;
  const gpu = held.adopt(await openGpu(), (gpu) => gpu.destroy());
  const adapter = { ...adapterOf(gpu), tiles: await rememberedTiles(gpu) };
  const net = netOf(weights.model);
  const plan = held.adopt(new MemoryPlan(), (plan) => plan.destroy());
  const stored = storageOf(weights, net.parameters);
  const parameters = new Parameters(plan, net.parameters, adapter.largestBuffer, {
    training: false,
    weights: gpu.isSoftware ? "f32" : stored,
  });
  const positions = options.maxLength ?? Math.min(await longest(folder), USUAL_LENGTH);
  const generator = new GpuGenerator(
    net,
    parameters,
    { ...adapter, positions, answers, device: deviceClass(gpu), isBfloat16: stored === "bf16" },
    plan,
  );
  plan.share(generator.calls, adapter.largestBuffer);
  const pipelines = new Pipelines(gpu, signal, onProgress);
  pipelines.expect(generator.calls);
  await plan.allocate(gpu);
  await generator.compile(gpu, pipelines);
  await parameters.load(gpu, weights, "weights", onProgress);
  const ends = new Set([...eosTokenIds, ...eosTokenId === undefined ? [] : [eosTokenId]]);
  const moved = held.move();
  return {
    name,
    generator,
    tokenizer: pool,
    sampling,
    eosTokenIds: [...ends],
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

/** The positions that a model was made for, as its config.json says. */
async function longest(folder: string): Promise<number> {
  const { max_position_embeddings: most } = JSON.parse(await readTextFile(join(folder, "config.json")));
  return Number.isSafeInteger(most) && most > 1 ? most : Infinity;
}
