import type { TrainConfig } from "./config/schema.ts";
import { loadPairs, type PairStatistics } from "./data/pairs.ts";
import { chatTemplateOf } from "./data/mistral_template.ts";
import type { Pair } from "./data/tokenize.ts";
import { losses } from "./loss/losses.ts";
import type { Loss } from "./loss/loss.ts";
import { type ModelConfig, readModelConfig } from "./model/config.ts";
import { samplerOf } from "./plan.ts";
import { type SamplerOptions, totalSteps } from "./sampler.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizer.ts";

/** Everything of a run that is known before the GPU is touched. */
export interface Prepared {
  model: ModelConfig;
  tokenizer: Tokenizer;
  loss: Loss;
  /** The splits that were read: of training and, where the run evaluates, of test. */
  splits: string[];
  train: { pairs: Pair[]; statistics: PairStatistics };
  test?: { pairs: Pair[]; statistics: PairStatistics };
  /** Prompts to answer before and after, as token ids. */
  prompts: { text: string; ids: number[] }[];
  sampler: SamplerOptions;
  totalSteps: number;
}

/** Reads model configuration, tokenizer and data. `onProgress` hears of rows and tokens as they are tokenised. */
export async function prepare(
  config: TrainConfig,
  onProgress?: (split: string, rows: number, tokens: number) => void,
): Promise<Prepared> {
  const folder = config.modelNameOrPath;
  const model = await readModelConfig(folder);
  const tokenizer = await loadTokenizer(folder, { chatTemplate: chatTemplateOf(config) });
  const loss = losses[config.lossType];
  const splits: string[] = [];
  const load = (kind: "train" | "test") => {
    const split = config.datasetSplits.find((name) => name.includes(kind)) ?? kind;
    splits.push(split);
    return loadPairs({
      mixer: config.datasetMixer,
      split,
      tokenizer,
      vocabSize: model.vocabSize,
      usesRejected: loss.usesRejected,
      autoInsertEmptySystemMsg: config.autoInsertEmptySystemMsg,
      maxLength: config.maxLength,
      maxPromptLength: config.maxPromptLength,
      truncationMode: config.truncationMode,
      onProgress: (rows, tokens) => onProgress?.(split, rows, tokens),
    });
  };
  const train = await load("train");
  const test = config.doEval ? await load("test") : undefined;
  const sampler = samplerOf(config, train.pairs.length);
  const prompts = config.prompts.map((text) => ({ text, ids: promptIds(text, tokenizer) }));
  return { model, tokenizer, loss, splits, train, test, prompts, sampler, totalSteps: totalSteps(sampler) };
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
