/** What a script gives to `train`, made one and checked before anything is touched. */
import { defineConfig } from "../config/parse.ts";
import { fieldOf, FIELDS, KEYS, type RunKeys, type TrainConfig } from "../config/schema.ts";
import type { Communicator } from "../distributed/communicator.ts";
import { areRows, type MemoryRows, memoryRows, type Rows } from "../data/memory.ts";
import { nearest, UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import { checkForm, checkFunction } from "../losses/check.ts";
import type { Loss } from "../losses/loss.ts";
import { lossName } from "../losses/losses.ts";
import type { Progress } from "../progress/progress.ts";
import type { LogEntry } from "../training/log_entry.ts";
import type { StepProgress } from "../training/step_progress.ts";

/** What `train` may be given beside its configuration; every field may be left out. */
export interface TrainOptions {
  /**
   * Pairs to train on in place of `dataset_mixer`'s, or `{ train, test }` with pairs to evaluate on too. They are read,
   * rendered and checked as those of a file, and kept in memory as text; messages name them `data:row 3`, from 0.
   */
  data?: Rows | { train: Rows; test?: Rows };
  /** A loss of one's own, in place of `loss_type`'s. */
  loss?: Loss;
  /** Ends the run after the step in hand, with a checkpoint. */
  signal?: AbortSignal;
  /** Any object with the WebGPU API; the runtime's own by default. */
  gpu?: GPU;
  /**
   * The line to the other ranks of the run, each of which calls `train` with the same configuration; by default it is
   * alone. Only the first rank writes files and answers prompts.
   */
  communicator?: Communicator;
  /**
   * Whether the threads that render and tokenize may read files and do nothing else. Deno wants
   * `--unstable-worker-options` for it, and ends the process without; so it is false unless said.
   */
  readsOnly?: boolean;
  /** Notes and warnings for people. */
  onLog?: (level: "debug" | "info" | "warning", message: string) => void;
  /**
   * How far everything but the steps is that may take more than a second: fetching, tokenizing, evaluating, saving...
   */
  onProgress?: (progress: Progress) => void;
  /**
   * Before every optimizer step is given to the GPU, which may block this thread until it is done. Steps count from 1;
   * `until` is when this one will be done if it takes as long as the last ones, in milliseconds as `Date.now()`, and
   * not known of the first. Where the thread is blocked it is called again in the middle of a step, with how many of
   * the step's `pairs` are done.
   */
  onSubmit?: (
    work: { step: number; totalSteps: number; until?: number; pairs?: { done: number; total: number } },
  ) => void;
  /**
   * After every optimizer step whose figures have been read: quick steps are read several at once, so that a signal
   * that is given here may end the run some steps later, unless `logging_steps` is 1.
   */
  onStep?: (progress: StepProgress) => void;
  /**
   * The times of every kernel of one step, which is profiled where this is listened to and the adapter has timestamps:
   * a table for people, and the JSON that chrome://tracing opens.
   */
  onProfile?: (profile: { table: string; trace: string }, step: number) => void;
  /** A new entry of the log history, whether of steps or of an evaluation. */
  onEntry?: (entry: LogEntry) => void;
  /** The figures of an evaluation, as its entry of the log history has them. */
  onEvaluate?: (entry: LogEntry) => void;
  /** A checkpoint is whole, in this folder; of the result's, `output_dir` itself. */
  onSave?: (folder: string) => void;
}

/**
 * The configuration of a run, from keys too, with the name of its own loss.
 * @throws {UserError} (status 2) with every mistake of the configuration, and then every one of the options.
 */
export function configOf(given: TrainConfig | RunKeys, options: TrainOptions): TrainConfig {
  const problems = isObject(options)
    ? optionProblems(options)
    : [`train: expected options as an object, found ${show(options)}`];
  if (!isObject(given)) {
    problems.unshift(
      `train: expected the keys of a run file as an object, or what readConfig made, found ${show(given)}`,
    );
  }
  if (problems.length > 0) throw new UserError(problems.join("\n"), 2);
  const { data, loss } = options;
  const isChecked = "modelNameOrPath" in given;
  const config = isChecked ? given : defineConfig(given);
  if (isChecked) problems.push(...formProblems(given));
  if (problems.length > 0) throw new UserError(problems.join("\n"), 2);
  if (!data && config.datasetMixer.length === 0) {
    problems.push(
      "dataset_mixer: missing: expected data paths with their shares, or the option data with rows",
    );
  } else if (data && config.datasetMixer.length > 0) {
    problems.push("dataset_mixer: there is the option data too: keep one");
  }
  if (data && config.doEval && !partsOf(data).test) {
    problems.push("data: expected {train, test}, as the configuration asks for evaluation, found no test");
  }
  if (loss !== undefined) {
    checkForm(loss);
    // The default cannot be told from what was written.
    const written = isChecked
      ? config.lossType !== "simper" && lossName(config.lossType)
      : given.loss_type && lossName(given.loss_type);
    if (written && written !== loss.name) {
      problems.push(`loss_type: ${written}, and the option loss is ${loss.name}: keep one`);
    }
  }
  if (problems.length > 0) throw new UserError(problems.join("\n"), 2);
  if (loss && "of" in loss) checkFunction(loss);
  // A run file names those that are there; that of a script has a name of its own.
  return loss ? { ...config, lossType: loss.name as TrainConfig["lossType"] } : config;
}

/** What is wrong with what should be a configuration that was read: its fields are not the keys of a run file. */
function formProblems(given: TrainConfig): string[] {
  const keys = Object.keys(given).filter((name) => !(FIELDS as string[]).includes(name));
  const problems = keys.map((name) =>
    fieldOf(name)
      ? `${name}: a configuration that was read has ${
        fieldOf(name)
      }: set that, or override the key where it is read`
      : `${name}: no field of a configuration`
  );
  const missing = FIELDS.find((field) => KEYS[field].default !== undefined && given[field] === undefined);
  if (missing) {
    problems.push(
      `${missing}: missing: a script gives the keys of a run file, as in model_name_or_path, or what ` +
        "defineConfig or readConfig made",
    );
  }
  return problems;
}

/** Every option, so that one that is mistyped is not passed over. */
const OPTIONS: Readonly<Record<keyof TrainOptions, true>> = {
  data: true,
  loss: true,
  signal: true,
  gpu: true,
  communicator: true,
  readsOnly: true,
  onLog: true,
  onProgress: true,
  onSubmit: true,
  onStep: true,
  onProfile: true,
  onEntry: true,
  onEvaluate: true,
  onSave: true,
};

function optionProblems({ data, ...others }: TrainOptions): string[] {
  const problems: string[] = [];
  const { signal, gpu, communicator } = others;
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    problems.push(`signal: expected an AbortSignal, found ${show(signal)}`);
  }
  if (gpu !== undefined && typeof gpu?.requestAdapter !== "function") {
    problems.push(`gpu: expected an object with the WebGPU API, found ${show(gpu)}`);
  }
  if (communicator !== undefined && typeof communicator?.allGather !== "function") {
    problems.push(`communicator: expected a line to other ranks, found ${show(communicator)}`);
  }
  for (const [name, value] of Object.entries(others)) {
    const isListener = /^on[A-Z]/.test(name) && Object.hasOwn(OPTIONS, name);
    if (isListener && value !== undefined && typeof value !== "function") {
      problems.push(`${name}: expected a function, found ${show(value)}`);
    }
  }
  const unknown = (name: string, known: readonly string[], of: string) => {
    const near = nearest(name, known);
    problems.push(`${name}: unknown ${of}${near ? `: did you mean ${near}?` : ""}`);
  };
  for (const name of Object.keys(others)) {
    if (!Object.hasOwn(OPTIONS, name)) unknown(name, Object.keys(OPTIONS), "option of train");
  }
  if (data === undefined || data === null || areRows(data)) return problems;
  if (!isObject(data)) {
    return [...problems, `data: expected rows, or {train, test} of rows, found ${show(data)}`];
  }
  const parts: Record<string, unknown> = { ...data };
  for (const [name, rows] of Object.entries({ train: undefined, ...parts })) {
    if (name !== "train" && name !== "test") {
      unknown(`data.${name}`, ["data.train", "data.test"], "part of data");
    } else if (!areRows(rows) && (name === "train" || rows !== undefined)) {
      problems.push(`data.${name}: expected rows one after the other, found ${show(rows)}`);
    }
  }
  return problems;
}

/** The rows of a script, taken. */
export async function takeData(
  data: NonNullable<TrainOptions["data"]>,
  isEvaluated: boolean,
  signal?: AbortSignal,
): Promise<{ train: MemoryRows; test?: MemoryRows }> {
  const { train, test } = partsOf(data);
  const isNamed = train !== data;
  return {
    train: await memoryRows(train, isNamed ? "data.train" : "data", signal),
    ...test && isEvaluated && { test: await memoryRows(test, "data.test", signal) },
  };
}

function partsOf(data: NonNullable<TrainOptions["data"]>): { train: Rows; test?: Rows } {
  return areRows(data) ? { train: data } : data;
}
