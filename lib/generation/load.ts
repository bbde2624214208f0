/** A model's folder onto the GPU, without gradients. */
import { findModel, openFound } from "../adapters/model.ts";
import { MOST_TOKENS } from "../config/counts.ts";
import { type PoolOptions, TokenizerPool } from "../data/pool.ts";
import { inArea, UserError } from "../errors.ts";
import { type Gpu, type GpuChoice, openGpu } from "../gpu/device.ts";
import { MemoryPlan } from "../gpu/memory_plan.ts";
import { Pipelines } from "../gpu/program.ts";
import { deviceClass } from "../gpu/tuning.ts";
import { Decoder } from "../graph/decoder.ts";
import { show } from "../text/json.ts";
import { wgslOf } from "../losses/loss.ts";
import { losses } from "../losses/losses.ts";
import { netOf } from "../models/models.ts";
import { parameterCount } from "../parameters/parameter.ts";
import { Parameters } from "../parameters/parameters.ts";
import { adapterOf, logitsBudget } from "../planning/plan.ts";
import { rememberedTiles } from "../planning/tune.ts";
import type { Progress } from "../progress/progress.ts";
import { contextOf } from "../weights/context.ts";
import { storageOf } from "../weights/storage.ts";
import { readGenerationConfig } from "./generation_config.ts";
import { GpuGenerator } from "./gpu_generator.ts";
import type { GenerationConfig } from "./sampling.ts";
import { Turns } from "./turns.ts";

/** How a model is loaded; every field may be left out. */
export interface LoadOptions extends GpuChoice {
  /**
   * Folder of adapters (PEFT) for the model, or their name on the Hub; where the model is named, theirs alone will do
   * too.
   */
  adapter?: string;
  /**
   * Most tokens of a prompt and its answer, or of a prompt and a response: 1,024, and no more than the positions that
   * the model was made for.
   */
  maxLength?: number;
  /** Most answers that are made at a time, each with room for `maxLength`; others wait: 1. */
  answers?: number;
  /** As `train`'s. */
  readsOnly?: boolean;
  /** Notes and warnings for people. */
  onLog?: (level: "debug" | "info" | "warning", message: string) => void;
  /** How far fetching, loading and compiling are. */
  onProgress?: (progress: Progress) => void;
  /** Ends the loading. */
  signal?: AbortSignal;
}

/** What only the program asks for besides. */
export interface PartsOptions extends LoadOptions {
  /** In the place of 1,024. */
  usualLength?: number;
  /** Most pairs of one pass; without any the model is not measured, and memory for it is not set aside. */
  pairs: number;
  /** Without any the model does not answer. */
  answers: number;
  /** Branch, tag or commit on the Hub. */
  revision?: string;
  /** Of the tokenizer, besides `readsOnly`. */
  tokenizer?: Pick<PoolOptions, "chatTemplate" | "date">;
}

/** A model that is loaded; to be disposed of. */
export interface Parts extends AsyncDisposable {
  folder: string;
  maxLength: number;
  /** Rows of its embedding. */
  vocabSize: number;
  pool: TokenizerPool;
  gpu: Gpu;
  /** What measures, where that was asked for. */
  decoder?: Decoder;
  /** What answers, where that was asked for, over the same weights and plan. */
  generator?: GpuGenerator;
  generationConfig: GenerationConfig;
  /** Tokens that end an answer: the tokenizer's own too, though generation_config.json may name others alone. */
  eosTokenIds: number[];
  /** Of both: what each leaves is read before the other works. */
  turns: Turns;
}

const USUAL_LENGTH = 1024;

/** Where a model that only answers does not fit. */
const ADVICE = "lower max_length, or have fewer answers made at a time";

/**
 * Loads a model's folder, or what the Hub has under `owner/name`.
 *
 * @throws {UserError} where it cannot be had, is not supported, or the GPU has not enough memory.
 */
export async function loadParts(name: string, options: PartsOptions): Promise<Parts> {
  const { answers, pairs, revision, usualLength = USUAL_LENGTH } = options;
  const { onLog: log = () => {}, onProgress, signal } = options;
  checkLength(options.maxLength ?? usualLength);
  await using held = new AsyncDisposableStack();
  // Where there is none, or not that one, it is told before anything is fetched.
  const gpu = held.adopt(await openGpu(options, true), (gpu) => gpu.destroy());
  const found = await inArea(
    "NOT_FOUND",
    () => findModel(name, { log, onProgress, signal, revision, adapter: options.adapter }),
  );
  const { folder } = found;
  const warn = (message: string) => log("warning", message);
  await using opened = new AsyncDisposableStack();
  const weights = opened.adopt(
    await inArea("MODEL_INVALID", () => openFound(found, warn)),
    (weights) => weights.close(),
  );
  const context = await contextOf(folder);
  const { maxLength = Math.min(usualLength, context) } = options;
  if (answers > 0 && maxLength > context) {
    warn(`${name}: was made for ${context} positions, and is asked for up to ${maxLength} (max_length)`);
  }
  const generationConfig = await readGenerationConfig(folder, answers > 0 ? warn : undefined);
  const pool = await inArea(
    "MODEL_INVALID",
    () => TokenizerPool.open(folder, { ...options.tokenizer, readsOnly: options.readsOnly }),
  );
  held.defer(() => pool.close());
  const { eosTokenId } = pool.vocabulary;
  const adapter = adapterOf(gpu, await rememberedTiles(gpu));
  const net = netOf(weights.model);
  const stored = storageOf(weights, net.parameters);
  // Reading them and turning them into float32 is free on a GPU, and costs time on the processor.
  const kept = { training: false, weights: gpu.isSoftware ? "f32" : stored } as const;
  const decoder = pairs === 0 ? undefined : new Decoder(net, {
    // The two responses of a pair that share nothing.
    tokens: 2 * pairs * maxLength,
    labels: 2 * pairs * maxLength,
    pairs,
    positions: maxLength,
    logitsBytes: logitsBudget(4 * parameterCount(net.parameters), adapter.largestBuffer),
    checkpointing: false,
  }, { ...adapter, ...kept, loss: wgslOf(losses.simper), eosTokenId });
  const plan = held.adopt(decoder?.plan ?? new MemoryPlan(ADVICE), (plan) => plan.destroy());
  const parameters = decoder?.parameters ??
    new Parameters(plan, net.parameters, adapter.largestBuffer, kept);
  const turns = new Turns();
  const generator = answers === 0 ? undefined : new GpuGenerator(net, parameters, {
    ...{ ...adapter, positions: maxLength, answers, device: deviceClass(gpu) },
    isBfloat16: stored === "bf16",
    inTurn: (work) => turns.run(work),
  }, plan);
  const calls = [...decoder?.forward ?? [], ...generator?.calls ?? []];
  plan.share(calls, adapter.largestBuffer);
  const pipelines = new Pipelines(gpu, signal, onProgress);
  pipelines.expect(calls);
  if (decoder) await decoder.allocate(gpu, pipelines);
  else await plan.allocate(gpu);
  await generator?.compile(gpu, pipelines);
  await parameters.load(gpu, weights, "weights", onProgress);
  const moved = held.move();
  return {
    ...{ folder, maxLength, vocabSize: weights.model.vocabSize },
    ...{ pool, gpu, decoder, generator, generationConfig, turns },
    eosTokenIds: [
      ...new Set([...generationConfig.eosTokenIds, ...eosTokenId === undefined ? [] : [eosTokenId]]),
    ],
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

function checkLength(maxLength: number): void {
  if (!Number.isInteger(maxLength) || maxLength < 2 || maxLength > MOST_TOKENS) {
    throw new UserError(
      `maxLength: expected a whole number from 2 to ${MOST_TOKENS}, found ${show(maxLength)}`,
      2,
    );
  }
}
