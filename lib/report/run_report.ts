import { basename } from "node:path";
import type { TrainConfig } from "../config/schema.ts";
import { configEntries } from "../config/write.ts";
import type { Provenance } from "../checkpoint/provenance.ts";
import type { HashedFile } from "../data/hash.ts";
import { lossName } from "../losses/losses.ts";
import type { TrainerState } from "../checkpoint/trainer_state.ts";
import type { LogEntry } from "../training/log_entry.ts";

/** A prompt with the greedy answers of the model as it was and as it is. */
export interface Answer {
  /** As the configuration has it. */
  prompt: string;
  /** The answer of the model that the run began with. */
  before: string;
  /** That of the trained one. */
  after: string;
}

/** What report.html and the model card tell of a run. */
export interface RunReport {
  /** As it was checked. */
  config: TrainConfig;
  /** The content of trainer_state.json. */
  state: TrainerState;
  /** The content of all_results.json. */
  results: Record<string, number>;
  /** The answers to the config's `prompts`. */
  answers: Answer[];
  /** The files that the run began with. */
  modelFiles: HashedFile[];
  /** The files of both splits. */
  dataFiles: HashedFile[];
  /** What the run takes of the GPU's memory, as it was planned. */
  memoryBytes: number;
  /** The GPU, in words. */
  device: string;
  /** This program's version. */
  version: string;
  /** What the weights follow from. */
  provenance?: Provenance;
}

/**
 * What a run knows of itself from its beginning on: the content of report.json, beside which its log and results stand.
 */
export interface RunFacts {
  name: string;
  lossType: string;
  device: string;
  version: string;
  /** Pairs of an optimizer step. */
  pairsPerStep: number;
  /** The keys of the run file, with their values as text. */
  settings: [key: string, value: string][];
  answers: (Omit<Answer, "after"> & Partial<Answer>)[];
  modelFiles: HashedFile[];
  dataFiles: HashedFile[];
  /** Of the GPU, planned and allocated. */
  memoryBytes: number;
  provenance?: Provenance;
}

/** What report.json says of a run; `answers` have no `after` before it has ended. */
export function runFacts(
  { config, answers, modelFiles, dataFiles, memoryBytes, device, version, provenance }:
    & Omit<RunReport, "state" | "results" | "answers">
    & Pick<RunFacts, "answers">,
): RunFacts {
  return {
    name: runName(config),
    lossType: lossName(config.lossType),
    device,
    version,
    pairsPerStep: config.perDeviceTrainBatchSize * config.gradientAccumulationSteps * config.numGpus,
    settings: configEntries(config).map(([key, value]) => [key, settingText(value)]),
    answers,
    modelFiles,
    dataFiles,
    memoryBytes,
    ...(provenance && { provenance }),
  };
}

/** Whether what report.json holds is what runs write; one of an earlier version says nothing of its memory. */
export function isFacts(value: unknown): value is RunFacts {
  const { name, lossType, device, version, pairsPerStep, settings, answers, modelFiles, dataFiles } =
    value as RunFacts;
  return texts(name, lossType, device, version) && typeof pairsPerStep === "number" &&
    listOf(settings, (pair) => texts(...pair)) &&
    listOf(answers, ({ prompt, before, after }) => texts(prompt, before, after ?? "")) &&
    [modelFiles, dataFiles].every((files) => listOf(files, ({ path, sha256 }) => texts(path, sha256)));
}

const texts = (...values: unknown[]) => values.every((value) => typeof value === "string");

/** Whether a value is a list of what is right. */
export const listOf = <T>(value: readonly T[], isRight: (item: T) => boolean): boolean =>
  Array.isArray(value) && value.every(isRight);

/** A value of a key as reports show it. */
export function settingText(value: unknown): string {
  if (value instanceof Map) return [...value].map(([key, item]) => `${key}: ${item}`).join("\n");
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** The name that the reports give to a run: run_name, or the last part of output_dir. */
export function runName(config: TrainConfig): string {
  return config.runName ?? basename(config.outputDir);
}

/**
 * The figures before and after training, as text; `before` is empty where there was no evaluation at step 0.
 */
export interface Figure {
  name: string;
  before: string;
  after: string;
}

/**
 * The final figures: each of results, and beside those of the last evaluation what the evaluation before the
 * first step found.
 */
export function finalFigures(log: readonly LogEntry[], results: Readonly<Record<string, number>>): Figure[] {
  const start = log.find((entry) => entry.step === 0 && "eval_loss" in entry);
  return Object.entries(results).map(([name, value]) => ({
    name,
    before: start && name.startsWith("eval_") && name in start ? formatFigure(start[name]) : "",
    after: formatFigure(value),
  }));
}

/** A number with five significant digits at most, in powers of ten where it is very small or large. */
export function formatFigure(value: number): string {
  if (!Number.isFinite(value)) return "not a number";
  // -0 + 0 is 0.
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return (value + 0).toLocaleString("en-US");
  const magnitude = Math.abs(value);
  if (magnitude < 1e-3 || magnitude >= 1e9) return value.toExponential(3).replace(/\.?0+e/, "e");
  return magnitude >= 1e5 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(5)));
}
