import type { TrainConfig } from "./config/schema.ts";
import { localSources, type Sources } from "./hub/hub.ts";
import { cacheFolder } from "./data/cache_folder.ts";
import { chatTemplateOf } from "./data/mistral_template.ts";
import { openPairs } from "./data/pairs.ts";
import type { PairStore } from "./data/store.ts";
import { losses } from "./loss/losses.ts";
import type { Loss } from "./loss/loss.ts";
import { type ModelConfig, readModelConfig } from "./model/config.ts";
import { samplerOf } from "./plan.ts";
import { type SamplerOptions, totalSteps } from "./sampler.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizer.ts";

/** Everything of a run that is known before the GPU is touched. */
export interface Prepared {
  sources: Sources;
  model: ModelConfig;
  tokenizer: Tokenizer;
  loss: Loss;
  /** The splits that were read: of training and, where the run evaluates, of test. */
  splits: string[];
  train: PairStore;
  test?: PairStore;
  /** Prompts to answer before and after, as token ids. */
  prompts: { text: string; ids: number[] }[];
  sampler: SamplerOptions;
  totalSteps: number;
  /** Gives the files of tokenised pairs back. */
  close(): Promise<void>;
}

/** Where `prepare` finds things, what it tells while it works, and what stops it. */
export interface PrepareOptions {
  /** Where model and data are, as `resolveSources` gives them; by default on this machine. */
  sources?: Sources;
  /** Rows and tokens of a split as they are tokenised. */
  tokenised?: (split: string, rows: number, tokens: number) => void;
  /** Notes for people. */
  log?: (level: "info" | "warning", message: string) => void;
  signal?: AbortSignal;
}

/** Reads model configuration, tokenizer and data. */
export async function prepare(
  config: TrainConfig,
  { sources = localSources(config), tokenised, log, signal }: PrepareOptions = {},
): Promise<Prepared> {
  const folder = sources.model;
  const model = await readModelConfig(folder);
  const tokenizer = await loadTokenizer(folder, { chatTemplate: chatTemplateOf(config) });
  const loss = losses[config.lossType];
  const splits: string[] = [];
  const load = (kind: "train" | "test") => {
    const split = config.datasetSplits.find((name) => name.includes(kind)) ?? kind;
    splits.push(split);
    return openPairs({
      mixer: sources.mixer,
      split,
      tokenizer,
      vocabSize: model.vocabSize,
      usesRejected: loss.usesRejected,
      autoInsertEmptySystemMsg: config.autoInsertEmptySystemMsg,
      maxLength: config.maxLength,
      maxPromptLength: config.maxPromptLength,
      truncationMode: config.truncationMode,
      cache: cacheFolder(),
      overwriteCache: config.overwriteCache,
      onProgress: (rows, tokens) => tokenised?.(split, rows, tokens),
      log,
      signal,
    });
  };
  const train = await load("train");
  const test = config.doEval ? await load("test") : undefined;
  const sampler = samplerOf(config, train.length);
  const prompts = config.prompts.map((text) => ({ text, ids: promptIds(text, tokenizer) }));
  return {
    sources,
    model,
    tokenizer,
    loss,
    splits,
    train,
    test,
    prompts,
    sampler,
    totalSteps: totalSteps(sampler),
    close: async () => {
      await train.close();
      await test?.close();
    },
  };
}

/** A user's message as the model sees it before it answers. */
function promptIds(text: string, tokenizer: Tokenizer): number[] {
  const rendered = tokenizer.chatTemplate
    ? tokenizer.applyChatTemplate([{ role: "user", content: text }], { addGenerationPrompt: true })
    : text;
  const ids = tokenizer.encode(rendered);
  const bos = tokenizer.bosTokenId;
  return bos !== undefined && ids[0] !== bos ? [bos, ...ids] : ids;
}
