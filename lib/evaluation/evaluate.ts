/** Measures models on pairs and on a text, one after the other. */
import { findModel, openFound } from "../adapters/model.ts";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readDate } from "../text/calendar_date.ts";
import type { TrainConfig } from "../config/schema.ts";
import type { DatasetShare } from "../config/values.ts";
import type { HashedFile } from "../data/hash.ts";
import { chatTemplateOf } from "../data/mistral_template.ts";
import type { Pair } from "../data/pair.ts";
import { UserError } from "../errors.ts";
import { type GpuModel, loadOntoGpu } from "../generation/model.ts";
import { type FetchEvents, localSources, resolveDataset } from "../hub/hub.ts";
import { hasJudgedRows } from "../data/unpaired.ts";
import { openSplit } from "../planning/prepare.ts";
import { frameOf } from "../tokenizer/post_processor.ts";
import { readTextFile } from "../files/whole_file.ts";
import { evaluate } from "../training/evaluate.ts";
import type { PairResult } from "../training/metrics.ts";
import { comparePreferences, type Measured, type Preferences } from "./preferences.ts";
import { type TextFigures, textFigures, textWindows } from "./text.ts";

/** What models are measured on besides the pairs of the configuration, and how. */
export interface EvaluationOptions extends FetchEvents {
  /** Of the data; by default the one of `dataset_splits` with "test" in its name. */
  split?: string;
  /** A file of plain text. */
  text?: string;
  /** Tokens from one window of the text to the next; by default half of `max_length`. */
  stride?: number;
  /** Of the one model. */
  adapter?: string;
  /** See `PoolOptions`. */
  readsOnly?: boolean;
}

/** What was found; each part where it was asked for. */
export interface Evaluation {
  device: string;
  split?: string;
  dataFiles: readonly HashedFile[];
  preferences?: Preferences;
  text?: { file: string; stride: number; models: { name: string; figures: TextFigures }[] };
}

/**
 * Measures each model on the pairs of `dataset_mixer`, where there are any, and on the text, where one is given. One
 * model at a time is on the GPU; all of them are looked for before the first is loaded.
 *
 * @throws {UserError} as `loadModel` and `openPairs`, and where models cannot be compared since they read other rows.
 */
export async function evaluateModels(
  names: readonly string[],
  config: TrainConfig,
  options: EvaluationOptions,
): Promise<Evaluation> {
  const { maxLength } = config;
  const stride = options.stride ?? Math.ceil(maxLength / 2);
  const split = options.split ?? config.datasetSplits.find((name) => name.includes("test")) ?? "test";
  const text = options.text === undefined ? undefined : await readText(options.text);
  const { mixer, revisionOf } = await find(names, config, split, options);
  const found: Evaluation = { device: "", dataFiles: [] };
  const measured: Measured[] = [];
  const isJudged = mixer.length > 0 && await hasJudgedRows(mixer, split);
  let judged: Preferences["judged"];
  const texts: { name: string; figures: TextFigures }[] = [];
  let places: string[] | undefined;
  for (const name of names) {
    await using model = await loadToMeasure(name, config, { ...options, revision: revisionOf(name) });
    found.device = model.parts.gpu.name;
    if (mixer.length > 0) {
      const of = await measurePairs(model, config, { name, split, mixer, isJudged }, options);
      places ??= of.places;
      if (of.places.length !== places.length || of.places.some((place, i) => place !== places![i])) {
        throw new UserError(`${name}: reads other rows than ${names[0]}: the data changed meanwhile`);
      }
      found.dataFiles = of.files;
      judged = of.judged;
      measured.push({ name, results: of.results });
    }
    if (text !== undefined) {
      const figures = await measureText(model, text, options.text!, { length: maxLength, stride }, options);
      texts.push({ name, figures });
    }
  }
  return {
    ...found,
    ...(measured.length > 0 && { split, preferences: comparePreferences(measured, judged) }),
    ...(text !== undefined && { text: { file: options.text!, stride, models: texts } }),
  };
}

/** Loads a model with room for pairs of the configuration, and for `answers` at a time, by default none. */
export function loadToMeasure(
  name: string,
  config: TrainConfig,
  { answers = 0, revision, ...options }:
    & FetchEvents
    & Pick<EvaluationOptions, "readsOnly" | "adapter">
    & { answers?: number; revision?: string },
): Promise<GpuModel> {
  return loadOntoGpu(name, {
    webgpuEngine: config.webgpuEngine,
    gpuId: config.gpuId,
    maxLength: config.maxLength,
    pairs: config.perDeviceEvalBatchSize,
    answers,
    adapter: options.adapter,
    revision,
    tokenizer: {
      chatTemplate: chatTemplateOf(config),
      ...(config.chatTemplateDate !== undefined && { date: readDate(config.chatTemplateDate) }),
    },
    readsOnly: options.readsOnly,
    onLog: options.log,
    onProgress: options.onProgress,
    signal: options.signal,
  });
}

/**
 * What a model makes of the pairs of a split, in their order, and where their rows stand; with `isJudged` of single
 * responses that were judged, and how many have which label.
 */
export async function measurePairs(
  model: GpuModel,
  config: TrainConfig,
  { name, split, mixer, isJudged = false }: {
    name: string;
    split: string;
    mixer: readonly DatasetShare[];
    isJudged?: boolean;
  },
  options: FetchEvents,
): Promise<
  { results: PairResult[]; places: string[]; files: readonly HashedFile[]; judged?: Preferences["judged"] }
> {
  const store = await openSplit(config, split, {
    ...{ mixer, pool: model.parts.pool, vocabSize: model.parts.vocabSize },
    ...isJudged ? { usesRejected: false, judgedPerBatch: 0 } : { usesRejected: true },
    ...{ onProgress: options.onProgress, log: options.log, signal: options.signal },
  });
  try {
    const { truncated, truncatedResponses, judged } = store.statistics;
    const unit = judged ? "responses" : "pairs";
    if (truncated > 0) {
      options.log?.(
        "warning",
        `${name}: ${truncated} of ${store.length} ${unit} were cut to fit max_length ${config.maxLength}, ` +
          `${truncatedResponses} of them in a response`,
      );
    }
    const places = Array.from({ length: store.length }, (_, i) => store.where(i));
    // Both responses of a pair stand in its row.
    const parted = places.length - new Set(places).size;
    if (judged && parted > 0) {
      options.log?.(
        "warning",
        `${name}: rows that are pairs, and not responses with a label: ${parted}; each counts as two responses, ` +
          "chosen as desirable and rejected as not",
      );
    }
    return {
      results: await resultsOf(model, store, config.perDeviceEvalBatchSize, { ...options, unit }),
      places,
      files: store.files,
      judged,
    };
  } finally {
    await store.close();
  }
}

/** Looks for everything before anything is loaded. */
async function find(
  names: readonly string[],
  config: TrainConfig,
  split: string,
  events: FetchEvents & { adapter?: string },
) {
  // What the run file says of its own model's revision is not the others'.
  const revisionOf = (name: string) => name === config.modelNameOrPath ? config.modelRevision : undefined;
  const mixer: DatasetShare[] = [];
  for (const set of localSources(config).mixer) {
    const path = await resolveDataset(set.path, { ...events, splits: [split], config: set.config });
    mixer.push({ ...set, path });
  }
  for (const name of names) {
    const found = await findModel(name, { ...events, revision: revisionOf(name) });
    await (await openFound(found)).close();
  }
  return { mixer, revisionOf };
}

async function resultsOf(
  { parts: { gpu, decoder } }: GpuModel,
  pairs: Parameters<typeof evaluate>[2],
  perBatch: number,
  { signal, onProgress, unit }: FetchEvents & { unit?: string },
) {
  const results = await evaluate(gpu, decoder!, pairs, perBatch, { signal, onProgress, unit });
  if (!results) throw signal!.reason;
  return results;
}

/** What a model makes of a text. */
export async function measureText(
  model: GpuModel,
  text: string,
  file: string,
  { length, stride }: { length: number; stride: number },
  events: FetchEvents,
): Promise<TextFigures> {
  const { pool } = model.parts;
  const path = join(model.folder, "tokenizer.json");
  const [own] = await pool.idsOf([text], file);
  const ids = [...frameOf({ json: JSON.parse(await readTextFile(path)), path }).before, ...own];
  if (ids.length < 2) {
    throw new UserError(`${file}: expected a text of two tokens or more, found ${ids.length}`);
  }
  const outside = ids.find((id) => id >= model.parts.vocabSize);
  if (outside !== undefined) {
    throw new UserError(`${file}: token id ${outside} is none of the model's ${model.parts.vocabSize}`);
  }
  const windows: Pair[] = textWindows(ids, length, stride, file);
  const read = (indices: readonly number[]) => Promise.resolve(indices.map((i) => windows[i]));
  return textFigures(
    text,
    ids.length,
    await resultsOf(model, { length: windows.length, read }, 1, { ...events, unit: "windows" }),
  );
}

/** A text that is to be measured. */
export async function readText(path: string): Promise<string> {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await readFile(path));
  } catch (error) {
    throw new UserError(`${path}: the text cannot be read: ${(error as Error).message}`, 2);
  }
}
