/** What the commands that have models answer share. */
import { findModel, openFound } from "../adapters/model.ts";
import { positive, tokens } from "../config/counts.ts";
import { KEYS } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import { readGenerationConfig } from "../generation/generation_config.ts";
import type { PartsOptions } from "../generation/load.ts";
import { type GpuModel, loadOntoGpu } from "../generation/model.ts";
import { checkEngine, type GpuChoice, type WebgpuEngine } from "../gpu/device.ts";
import type { Sampling } from "../generation/request.ts";
import { type GenerationConfig, SAMPLING_KEYS, unusedKeys } from "../generation/sampling.ts";
import { createLogger, type Logger, type LogLevel } from "../report/log.ts";
import type { ProgressLine } from "../report/progress.ts";
import type { Option } from "./command.ts";
import { progressLine } from "./progress.ts";
import type { Stop } from "./stop.ts";
import { readValues, type Words } from "./words.ts";

/** Options of commands without a run file that compute. */
export const GPU_OPTIONS: readonly Option[] = [
  {
    name: "webgpu_engine",
    value: "ENGINE",
    doc: "deno, or dawn (npm's webgpu), as the key of run files; by default what SIMPER_WEBGPU_ENGINE says.",
  },
  { name: "gpu_id", value: "ADAPTER", doc: "Number of the adapter, from 0, or a part of its name." },
];

/** @throws {UserError} (status 2) for an engine that there is not, or that may not be loaded. */
export function readGpuWords({ options }: Words): GpuChoice {
  const { webgpu_engine: webgpuEngine, gpu_id: gpuId } = readValues<
    { webgpu_engine: WebgpuEngine; gpu_id: string }
  >(options, { webgpu_engine: KEYS.webgpuEngine.type, gpu_id: KEYS.gpuId.type });
  const choice = { webgpuEngine, gpuId };
  checkEngine(choice);
  return choice;
}

/** Of every command that has a model answer or measured. */
export const ADAPTER_OPTION: Option = {
  name: "adapter",
  value: "DIR",
  doc:
    "Folder of adapters for MODEL, as PEFT or use_peft: true saves them; MODEL may be such a folder itself.",
};

/** @throws {UserError} (status 2) for adapters of several models. */
export function adapterOf(
  { options }: Pick<Words, "options">,
  models: readonly string[],
): string | undefined {
  const adapter = options.get("adapter");
  if (adapter === undefined || models.length === 1) return adapter;
  throw new UserError(
    `--adapter: expected one MODEL with it, found ${models.length}: a folder of adapters may be a MODEL itself`,
    2,
  );
}

/** Options of both. */
export const ANSWER_OPTIONS: readonly Option[] = [
  ADAPTER_OPTION,
  { name: "system", value: "TEXT", doc: "A system message to begin with." },
  { name: "max_new_tokens", value: "N", doc: "Most tokens of an answer." },
  ...Object.values(SAMPLING_KEYS).map(({ key, doc }) => ({ name: key, value: "N", doc })),
  {
    name: "stop",
    value: "TEXT",
    repeats: true,
    doc: "End an answer before this text; may be given more than once. \\n is a line end.",
  },
  {
    name: "max_length",
    value: "N",
    doc: "Most tokens of a prompt and its answer, for which memory is set aside.",
  },
  ...GPU_OPTIONS,
  {
    name: "log_level",
    value: "LEVEL",
    doc: "Least level of messages: debug, info (the default), warning or error.",
  },
];

/** How answers are made, as the command line says; what is undefined was not said. */
export interface AnswerWords {
  sampling: Partial<Sampling>;
  stop: string[];
  system?: string;
  maxNewTokens?: number;
  maxLength?: number;
  logLevel: LogLevel;
  gpu: GpuChoice;
  /** The options that make the text of an answer what it is, as they were given. */
  given: Record<string, unknown>;
  adapter?: string;
}

const FIELDS = Object.entries(SAMPLING_KEYS) as [keyof Sampling, (typeof SAMPLING_KEYS)[keyof Sampling]][];

/** @throws {UserError} (status 2) naming every value that is none. */
export function readAnswerWords(words: Words): AnswerWords {
  const { options, lists, positionals } = words;
  const adapter = adapterOf({ options }, positionals);
  const numbers = readValues<Record<string, number>>(options, {
    max_new_tokens: positive,
    ...Object.fromEntries(FIELDS.map(([, { key, type }]) => [key, type])),
  });
  const { max_length: maxLength, log_level: logLevel = "info" } = readValues<
    { max_length: number; log_level: LogLevel }
  >(options, { max_length: tokens(2), log_level: KEYS.logLevel.type });
  const stop = (lists.get("stop") ?? []).map((text) => text.replaceAll("\\n", "\n"));
  const system = options.get("system");
  const sampling = Object.fromEntries(
    FIELDS.flatMap(([field, { key }]) => key in numbers ? [[field, numbers[key]]] : []),
  );
  return {
    sampling,
    stop,
    system,
    maxNewTokens: numbers.max_new_tokens,
    maxLength,
    logLevel,
    gpu: readGpuWords(words),
    given: {
      ...numbers,
      ...stop.length > 0 && { stop },
      ...system !== undefined && { system },
      ...adapter !== undefined && { adapter },
    },
    adapter,
  };
}

/** Messages and progress of a command. */
export interface Log {
  progress: ProgressLine;
  log: Logger;
}

/** On stderr. */
export function openLog(logLevel: LogLevel): Log {
  const progress = progressLine({ logLevel });
  return { progress, log: createLogger(logLevel, (text) => progress.write(text)) };
}

/**
 * Sees to it that each model is here, fetched where it is on the Hub, and can be loaded, before the first of them is
 * asked.
 * @param asked what is given of the drawing of tokens, and how many answers each prompt is to have.
 * @throws {UserError} for one that cannot be had, or is no model; for one that would give the same answer several
 * times.
 */
export async function findModels(
  names: readonly string[],
  { progress, log }: Log,
  stop: Stop,
  { count, adapter, ...given }: Partial<Sampling> & { count: number; adapter?: string },
): Promise<void> {
  for (const name of names) {
    const found = await findModel(name, {
      adapter,
      log: (level, message) => log[level](message),
      onProgress: (done) => progress.update(done),
      signal: stop.signal,
    }).finally(() => progress.finish());
    await (await openFound(found)).close();
    const { doSample } = await readGenerationConfig(found.folder);
    if (count > 1 && !doSample && given.temperature === undefined) {
      throw new UserError(
        `--num_return_sequences: ${name} takes the most likely token each time, so that ${count} answers ` +
          "would be the same one: give a --temperature with it",
        2,
      );
    }
    warnOfUnused(given, { doSample }, name, log);
  }
}

/** Says what of it changes nothing. */
export function warnOfUnused(
  given: Partial<Sampling>,
  config: Pick<GenerationConfig, "doSample">,
  name: string,
  log: Logger,
): void {
  const unused = unusedKeys(given, config);
  if (unused.length === 0) return;
  log.warning(
    `${name}: ${unused.join(" and ")}: without effect, since the most likely token is taken each time: ` +
      "a temperature above 0 has tokens drawn",
  );
}

/** Loads a model, and shows how far that is. */
export async function loadShown(
  name: string,
  options: Pick<PartsOptions, "maxLength" | "usualLength" | "answers" | "adapter"> & GpuChoice,
  { progress, log }: Log,
  stop: Stop,
): Promise<GpuModel> {
  return await loadOntoGpu(name, {
    ...options,
    pairs: 0,
    readsOnly: true,
    onLog: (level, message) => log[level](message),
    onProgress: (done) => progress.update(done),
    signal: stop.signal,
  }).finally(() => progress.finish());
}
