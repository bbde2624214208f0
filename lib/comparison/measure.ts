/** What is measured of the model that a run has left, and kept beside its folder. */
import { findModel } from "../adapters/model.ts";
import { basename, dirname } from "node:path";
import type { TrainConfig } from "../config/schema.ts";
import type { DatasetShare } from "../config/values.ts";
import { sha256 } from "../data/file_hash.ts";
import type { HashedFile } from "../data/hash.ts";
import { chatTemplateOf } from "../data/mistral_template.ts";
import { RULES } from "../data/pairs.ts";
import { UserError } from "../errors.ts";
import { loadToMeasure, measurePairs, measureText } from "../evaluation/evaluate.ts";
import { modelHash } from "../evaluation/model_hash.ts";
import type { TextFigures } from "../evaluation/text.ts";
import { generate } from "../generation/generate.ts";
import type { GpuModel } from "../generation/model.ts";
import type { FetchEvents } from "../hub/hub.ts";
import { isObject } from "../text/json.ts";
import { openSplit } from "../planning/prepare.ts";
import type { PairResult } from "../training/metrics.ts";
import { VERSION } from "../program/version.ts";
import { readTextFile, writeWhole } from "../files/whole_file.ts";

/** Prompts of the test split that are answered: of so many the length of answers is known well enough. */
const MOST_PROMPTS = 64;

/** How every model of a comparison is measured. */
export interface Measuring {
  /** The keys that all runs have. */
  config: TrainConfig;
  split: string;
  mixer: readonly DatasetShare[];
  /** The files of the split. */
  files: readonly HashedFile[];
  text?: { content: string; file: string };
  /** Most tokens of an answer. */
  maxNewTokens: number;
}

/** A greedy answer. */
export interface GreedyAnswer {
  text: string;
  tokens: number;
  /** Whether it came to its end by itself. */
  ended: boolean;
}

/** What was found of a model. */
export interface Measurement {
  /** Of each pair of the split, in order. */
  results: PairResult[];
  text?: TextFigures;
  /** To the configuration's `prompts`, in order. */
  answers: GreedyAnswer[];
  /** To prompts of the split. */
  lengths: Pick<GreedyAnswer, "tokens" | "ended">[];
}

/**
 * Measures the model in `folder`, unless the file `path` has what was found of the same weights in the same way.
 *
 * @throws {UserError} as `loadModel` and `openPairs`, and where `path` cannot be written.
 */
export async function measureModel(
  folder: string,
  path: string,
  measuring: Measuring,
  events: FetchEvents & { adapter?: string; readsOnly?: boolean },
): Promise<Measurement> {
  const { config, split, mixer, files, text, maxNewTokens } = measuring;
  const key = sha256(JSON.stringify({
    version: VERSION,
    rules: RULES,
    model: await modelHash(
      await findModel(folder, { adapter: events.adapter }),
      chatTemplateOf(config),
      events.onProgress,
    ),
    files: files.map(({ sha256 }) => sha256),
    text: text && sha256(text.content),
    config: Object.fromEntries(MEASURED_BY.map((field) => [field, config[field] ?? null])),
    maxNewTokens,
  }));
  const known = await readMeasurement(path, key);
  if (known) return known;
  await using model = await loadToMeasure(folder, config, {
    ...events,
    answers: config.perDeviceEvalBatchSize,
  });
  const { results } = await measurePairs(model, config, { name: folder, split, mixer }, events);
  const stride = Math.ceil(config.maxLength / 2);
  const measurement = {
    results,
    ...(text && {
      text: await measureText(
        model,
        text.content,
        text.file,
        { length: config.maxLength, stride },
        events,
      ),
    }),
    ...await answers(model, measuring, events),
  };
  await writeWhole(dirname(path), basename(path), `${JSON.stringify({ key, measurement })}\n`);
  return measurement;
}

/** What the figures follow from, besides the files. */
const MEASURED_BY = [
  ...["maxLength", "maxPromptLength", "truncationMode", "autoInsertEmptySystemMsg"] as const,
  ...["labelGenerationPrompt", "chatTemplateDate", "prompts", "perDeviceEvalBatchSize"] as const,
];

async function readMeasurement(path: string, key: string): Promise<Measurement | undefined> {
  try {
    const value: unknown = JSON.parse(await readTextFile(path));
    // Whatever else has the right key was written here.
    return isObject(value) && value.key === key ? value.measurement as Measurement : undefined;
  } catch {
    return undefined;
  }
}

/** Greedy answers to the configuration's prompts and to those of the split. */
async function answers(
  model: GpuModel,
  { config, split, mixer, maxNewTokens }: Measuring,
  { log, onProgress, signal }: FetchEvents,
): Promise<Pick<Measurement, "answers" | "lengths">> {
  const { pool, vocabSize, eosTokenIds } = model.parts;
  const generator = model.parts.generator!;
  // Then a prompt is what stands before the answer, its header with it.
  const store = await openSplit({ ...config, labelGenerationPrompt: false }, split, {
    ...{ mixer, pool, vocabSize, usesRejected: true, onProgress, log, signal },
  });
  let held: number[][];
  try {
    const pairs = await store.read(Array.from({ length: store.length }, (_, i) => i));
    const prompts = pairs.map(({ chosen: { ids, promptLength } }) => ids.slice(0, promptLength));
    held = [...new Map(prompts.map((ids) => [ids.join(), ids])).values()]
      .filter(({ length }) => length > 0).slice(0, MOST_PROMPTS);
  } finally {
    await store.close();
  }
  const shown = await Promise.all(config.prompts.map((prompt) => pool.promptIds(prompt)));
  const long = shown.findIndex(({ length }) => length >= generator.positions);
  if (long >= 0) {
    throw new UserError(
      `prompts: ${JSON.stringify(config.prompts[long])} has ${
        shown[long].length
      } tokens, and max_length is ` +
        `${generator.positions}: an answer has no room`,
    );
  }
  const all = [...shown, ...held];
  let done = 0;
  const report = () => onProgress?.({ what: "answering", done, total: all.length, unit: "prompts" });
  report();
  const made = await Promise.all(all.map(async (ids) => {
    const answer = await generate(generator, ids, { maxNewTokens, eosTokenIds, signal });
    done++;
    report();
    return { ids: answer, ended: answer.length < Math.min(maxNewTokens, generator.positions - ids.length) };
  }));
  const texts = await pool.texts(made.map(({ ids }) => ids), "an answer", { skipSpecialTokens: true });
  const found = made.map(({ ids, ended }, i) => ({ text: texts[i].trim(), tokens: ids.length, ended }));
  return {
    answers: found.slice(0, shown.length),
    lengths: found.slice(shown.length).map(({ tokens, ended }) => ({ tokens, ended })),
  };
}
