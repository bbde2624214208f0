import type { OpenAdapter } from "../adapters/open.ts";
import type { AdapterPlan } from "../adapters/settings.ts";
import { keyOf, type TrainConfig } from "../config/schema.ts";
import { localSources, type Sources } from "../hub/hub.ts";
import { cacheFolder } from "../files/cache_folder.ts";
import { chatTemplateOf } from "../data/mistral_template.ts";
import { openPairs, type PairOptions } from "../data/pairs.ts";
import { TokenizerPool } from "../data/pool.ts";
import type { PairStore } from "../data/store.ts";
import type { MemoryRows } from "../data/memory.ts";
import { lossOf } from "../losses/losses.ts";
import { inArea, UserError } from "../errors.ts";
import type { Net } from "../graph/net.ts";
import { isJudged, type Loss, usesReference, usesRejected } from "../losses/loss.ts";
import type { ModelConfig } from "../models/architecture.ts";
import type { OnProgress } from "../progress/progress.ts";
import { readModelConfig } from "../weights/config_file.ts";
import { storeAs, storeFrozen } from "./frozen_storage.ts";
import { trainedNet } from "./roles.ts";
import { type ReferenceModel, samplerOf } from "./plan.ts";
import { netOf } from "../models/models.ts";
import { readModel } from "../weights/weights.ts";
import { checkVocabulary } from "./same_vocabulary.ts";
import { type SamplerOptions, totalSteps } from "../training/sampler.ts";
import { readDate } from "../text/calendar_date.ts";
import type { Vocabulary } from "../tokenizer/tokenizer.ts";

/** Everything of a run that is known before the GPU is touched. */
export interface Prepared {
  sources: Sources;
  model: ModelConfig;
  /** What it computes, with the roles of its parameters. */
  net: Net;
  /** The adapters that it trains, where it trains those. */
  adapter?: AdapterPlan;
  tokenizer: Vocabulary;
  /** The tokenizer itself, for texts of token ids. */
  pool: TokenizerPool;
  loss: Loss;
  /** The model that the loss compares with, where it needs one. */
  reference?: ReferenceModel;
  /** The splits that were read: of training and, where the run evaluates, of test. */
  splits: string[];
  train: PairStore;
  test?: PairStore;
  /** Prompts to answer before and after, as token ids. */
  prompts: { text: string; ids: number[] }[];
  sampler: SamplerOptions;
  totalSteps: number;
  begunSteps?: number;
  /** Gives the files of tokenized pairs back, and ends the tokenizer. */
  close(): Promise<void>;
}

/** Where `prepare` finds things, what it tells while it works, and what stops it. */
export interface PrepareOptions {
  /** Where model and data are, as `resolveSources` gives them; by default on this machine. */
  sources?: Sources;
  /** The shape of the model, as `openModel` gives it with its weights; by default config.json's. */
  model?: ModelConfig;
  /** The adapters of `adapter_name_or_path`. */
  adapter?: OpenAdapter;
  /** Rows of a script, in place of those of `dataset_mixer`. */
  data?: { train: MemoryRows; test?: MemoryRows };
  /** By default that of `loss_type`. */
  loss?: Loss;
  /** How far hashing and tokenizing are. */
  onProgress?: OnProgress;
  /** See `PoolOptions`. */
  readsOnly?: boolean;
  /** Notes for people. */
  log?: (level: "debug" | "info" | "warning", message: string) => void;
  /** The date of the run that this one goes on with, as `Vocabulary.templateDate`. */
  date?: string;
  /** See `Workload`. */
  begunSteps?: number;
  signal?: AbortSignal;
}

/** Reads model configuration, tokenizer and data. */
export async function prepare(
  config: TrainConfig,
  options: PrepareOptions = {},
): Promise<Prepared> {
  const { sources = localSources(config), model: known, data, loss = lossOf(config) } = options;
  const { onProgress, readsOnly, log, date, signal } = options;
  for (const field of ["refModel", "precomputeRefBatchSize"] as const) {
    if (config[field] === undefined || usesReference(loss)) continue;
    throw new UserError(`${keyOf(field)}: the loss ${loss.name} has no reference: remove it`, 2);
  }
  const folder = sources.model;
  const model = known ??
    await inArea("MODEL_INVALID", () => readModelConfig(folder, (message) => log?.("warning", message)));
  const { net, adapter } = trainedNet(model, config, options.adapter);
  storeFrozen(net, model, config);
  const splits: string[] = [];
  const begun = config.chatTemplateDate ?? date;
  onProgress?.({ what: "opening the tokenizer", done: 0 });
  const pool = await inArea("MODEL_INVALID", () =>
    TokenizerPool.open(folder, {
      chatTemplate: chatTemplateOf(config),
      readsOnly,
      ...(begun !== undefined && { date: readDate(begun) }),
    }));
  reportDate(config, pool.vocabulary, log);
  const load = (kind: "train" | "test") => {
    const split = config.datasetSplits.find((name) => name.includes(kind)) ?? kind;
    splits.push(split);
    const rows = data?.[kind];
    return openSplit(config, split, {
      mixer: rows ? [{ path: rows.path, share: 1, columns: config.columnMapping, rows }] : sources.mixer,
      pool,
      vocabSize: model.vocabSize,
      ...isJudged(loss)
        ? { usesRejected: false, judgedPerBatch: usesRejected(loss) ? config.perDeviceTrainBatchSize : 0 }
        : { usesRejected: usesRejected(loss) },
      onProgress,
      log,
      signal,
    });
  };
  let reference: ReferenceModel | undefined;
  let train: PairStore | undefined;
  let test: PairStore | undefined;
  const prompts: Prepared["prompts"] = [];
  try {
    if (usesReference(loss)) {
      // As TRL has it: the adapters that a run goes on from are there in its reference too; new ones change nothing
      // yet.
      const start = options.adapter
        ? { net: trainedNet(model, config, options.adapter).net, isAdapted: true }
        : { net: netOf(model) };
      reference = await referenceOf(sources, model, pool.vocabulary, start);
      storeAs(net, reference.net);
    }
    train = await load("train");
    test = config.doEval ? await load("test") : undefined;
    for (const text of config.prompts) prompts.push({ text, ids: await pool.promptIds(text) });
  } catch (error) {
    await train?.close();
    await test?.close();
    pool.close();
    throw error;
  }
  pool.rest();
  const sampler = samplerOf(config, train.length);
  return {
    sources,
    model,
    net,
    adapter,
    tokenizer: pool.vocabulary,
    pool,
    loss,
    reference,
    splits,
    train,
    test,
    prompts,
    sampler,
    totalSteps: totalSteps(sampler),
    begunSteps: options.begunSteps,
    close: async () => {
      pool.close();
      await train.close();
      await test?.close();
    },
  };
}

async function referenceOf(
  { model: folder, reference }: Sources,
  model: ModelConfig,
  vocabulary: Vocabulary,
  start: ReferenceModel,
): Promise<ReferenceModel> {
  if (reference === undefined) return start;
  if (reference === folder) return { net: netOf(model) };
  const other = await inArea("MODEL_INVALID", () => readModel(reference));
  await inArea("MODEL_INVALID", () => checkVocabulary(reference, other, model, vocabulary));
  return { net: netOf(other), folder: reference };
}

/** The pairs of a split of `mixer`, as the configuration has them cut. */
export function openSplit(
  config: TrainConfig,
  split: string,
  { pool, ...options }:
    & Pick<
      PairOptions,
      "mixer" | "vocabSize" | "usesRejected" | "judgedPerBatch" | "onProgress" | "log" | "signal"
    >
    & {
      pool: TokenizerPool;
    },
): Promise<PairStore> {
  const { autoInsertEmptySystemMsg, labelGenerationPrompt, maxLength, maxPromptLength, truncationMode } =
    config;
  return inArea("DATA_INVALID", () =>
    openPairs({
      ...{ autoInsertEmptySystemMsg, labelGenerationPrompt, maxLength, maxPromptLength, truncationMode },
      ...options,
      split,
      tokenizer: pool,
      cache: cacheFolder(),
      overwriteCache: config.overwriteCache,
    }));
}

function reportDate(
  { chatTemplateDate }: TrainConfig,
  { templateDate }: Vocabulary,
  log: PrepareOptions["log"],
): void {
  if (templateDate !== undefined && chatTemplateDate === undefined) {
    log?.(
      "info",
      `the chat template asks for the date, and is told ${templateDate}; --chat_template_date=${
        templateDate.slice(0, 10)
      } makes that so on every day`,
    );
  } else if (templateDate === undefined && chatTemplateDate !== undefined) {
    log?.("info", "chat_template_date: ignored: the chat template does not ask for the date");
  }
}
