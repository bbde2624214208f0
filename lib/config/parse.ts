import { nearest, UserError } from "../errors.ts";
import { isObject } from "../text/json.ts";
import { type Entries, type Entry, readEntries } from "./entries.ts";
import { COMPARISON_KEYS } from "./comparison_keys.ts";
import { expandMixture, MIXTURE } from "./mixture.ts";
import { IGNORED, ignoredBecause, keyCalled, REFUSED } from "./other_keys.ts";
import { applyOverrides } from "./overrides.ts";
import { complete, conflicts, overruled, type PartialConfig } from "./rules.ts";
import { readRunFile } from "./run_file.ts";
import { fieldOf, FIELDS, followedKeys, keyOf, KEYS, type RunKeys, type TrainConfig } from "./schema.ts";
import type { Key } from "./key.ts";
import { boolean, describe, withoutTokens } from "./values.ts";

/** Mistakes that are told; a file that is no run file may have any number of them. */
const MOST_PROBLEMS = 40;

/** A run file, read and checked. */
export interface ParsedConfig {
  /** What it says, with defaults. */
  config: TrainConfig;
  /**
   * A line for each key that was given and does nothing: `beta: ignored: simper and sft have no such
   * parameter`.
   */
  ignored: string[];
}

/**
 * Reads a YAML run file and the command line's overrides of it.
 *
 * @param text the file's content; keys are the Alignment Handbook's and transformers', see `KEYS`.
 * @param file its name for messages.
 * @param overrides `--key=value`, `--key value`, `--flag` or `--dataset_mixer.PATH=SHARE`; they win over the
 * file.
 * @throws UserError (status 2) with every mistake at once, a line each: file, line and column (or `--key`),
 * what was expected and what was found.
 */
export function parseConfig(text: string, file: string, overrides: readonly string[] = []): ParsedConfig {
  return check(readEntries(text, file), file, overrides);
}

/**
 * A configuration from the keys of a run file, for scripts. `dataset_mixer` may be left out where `train` is given
 * `data`.
 *
 * @throws UserError (status 2) as `parseConfig`.
 *
 * @example
 * ```ts
 * import { defineConfig } from "./parse.ts";
 * import assert from "node:assert/strict";
 * const config = defineConfig({
 *   model_name_or_path: "HuggingFaceTB/SmolLM2-135M-Instruct",
 *   dataset_mixer: { "data/pairs": 1 },
 *   learning_rate: 1e-5,
 * });
 * assert.equal(config.learningRate, 1e-5);
 * assert.equal(config.lossType, "simper");
 * ```
 */
export function defineConfig(keys: RunKeys): TrainConfig {
  if (!isObject(keys)) {
    throw new UserError(`${SCRIPT}: expected keys as an object, found ${describe(keys)}`, 2);
  }
  const entries = Object.entries(keys).filter(([, value]) => value !== undefined).map(([key, value]) => ({
    key,
    value: isObject(value) ? new Map(Object.entries(value)) : value,
    at: key,
    valueAt: key,
  }));
  return check({ entries, problems: [] }, SCRIPT, []).config;
}

/** A configuration from a command line alone, for what may be done without `dataset_mixer`. */
export const readOverrides = (overrides: readonly string[], words: readonly string[]): ParsedConfig =>
  check({ entries: [], problems: [] }, COMMAND_LINE, overrides, words);

/** What messages call the keys of a script or of a command line, where one is missing. */
const [SCRIPT, COMMAND_LINE] = ["defineConfig", "the command line"];

/** Checks what was read of the run file `file`, with the command line's overrides. */
function check(
  read: Entries,
  file: string,
  overrides: readonly string[],
  words: readonly string[] = [],
): ParsedConfig {
  const { entries, problems, ignored } = merge(read, overrides);
  const formIsWrong = read.entries.length === 0 && read.problems.length > 0;
  const checked = checkEntries(entries, file, words, formIsWrong);
  refuse([...problems, ...checked.problems]);
  return { config: checked.config!, ignored: [...ignored, ...checked.ignored] };
}

/** The keys of a file with the command line's in their place. */
export function merge(read: Entries, overrides: readonly string[]): Entries & { ignored: string[] } {
  const expanded = expandMixture(read.entries);
  const merged = applyOverrides(expanded.entries, overrides);
  return {
    entries: merged.entries,
    problems: [...read.problems, ...twins(read.entries), ...expanded.problems, ...merged.problems],
    ignored: expanded.ignored,
  };
}

/** @throws {UserError} (status 2) with the problems, where there are any. */
export function refuse(problems: readonly string[]): void {
  if (problems.length === 0) return;
  const shown = problems.slice(0, MOST_PROBLEMS);
  if (problems.length > MOST_PROBLEMS) shown.push(`and ${problems.length - MOST_PROBLEMS} more problems`);
  throw new UserError(withoutTokens(shown.join("\n")), 2);
}

/**
 * The configuration that keys make, or all that is wrong with them.
 *
 * @param formIsWrong whether the file has no keys at all, so that it lacks none.
 */
export function checkEntries(
  entries: readonly Entry[],
  file: string,
  words: readonly string[],
  formIsWrong = false,
): { config?: TrainConfig; ignored: string[]; problems: string[] } {
  const problems: string[] = [];
  const ignored: string[] = [];
  const written = new Map<string, Entry>();
  for (const entry of entries) {
    const field = fieldOf(entry.key);
    if (field) written.set(field, entry);
    else readOther(entry, ignored, problems, words);
  }
  const config: PartialConfig = {};
  for (const field of FIELDS) {
    // A script may have rows of its own, and a text may be all that a command measures.
    const mayLack = field === "datasetMixer" && [SCRIPT, COMMAND_LINE].includes(file);
    if (mayLack && !written.has(field)) continue;
    const problem = readField(field, written.get(field), config, file);
    if (problem && !(formIsWrong && !written.has(field))) problems.push(problem);
  }
  problems.push(...conflicts(config, written));
  if (problems.length > 0) return { ignored, problems };
  const completed = complete({ datasetMixer: [], ...config });
  return { config: completed, ignored: [...ignored, ...overruled(completed, written)], problems };
}

/**
 * Reads the run file `name`, as `parseConfig`; a name that is no file here is looked for in `configs/`.
 *
 * @param overrides as `parseConfig`'s.
 * @param words what else the command line takes, without dashes: one of them may have been meant by an unknown key.
 * @returns the configuration, and a line for each key that was given and does nothing.
 * @throws UserError (status 2) where the file cannot be read, besides `parseConfig`'s.
 */
export async function readConfig(
  name: string,
  overrides: readonly string[] = [],
  words: readonly string[] = [],
): Promise<{ config: TrainConfig; ignored: string[] }> {
  const { path, text } = await readRunFile(name);
  return check(readEntries(text, path), path, overrides, words);
}

/** Puts the value of one field into `config`; the problem with it otherwise. */
function readField<F extends keyof TrainConfig>(
  field: F,
  entry: Entry | undefined,
  config: PartialConfig,
  file: string,
): string | undefined {
  const key: Key<TrainConfig[F]> = KEYS[field];
  const optional = !key.required && key.default === undefined;
  if (!entry) {
    if (key.required) return `${file}: ${keyOf(field)}: missing: expected ${key.type.expected}`;
    config[field] = key.default;
    return;
  }
  if (entry.value === null && optional) return;
  const value = key.type.read(entry.value);
  if (value === undefined) {
    const found = key.secret ? "another value, which is not shown" : describe(entry.value);
    const hint = key.type.hint?.(entry.value);
    return `${entry.valueAt}: expected ${key.type.expected}, found ${found}${hint ? `: ${hint}` : ""}`;
  }
  config[field] = value;
}

/** A key that is no field: ignored with a reason, refused, or unknown. */
function readOther(
  { key, value, at, valueAt }: Entry,
  ignored: string[],
  problems: string[],
  words: readonly string[],
): void {
  const why = ignoredBecause(key);
  if (why !== undefined) {
    ignored.push(`${key}: ignored: ${why}`);
  } else if (Object.hasOwn(REFUSED, key)) {
    const { allowed, why } = REFUSED[key];
    if (value === null || allowed.includes(value) || allowed.includes(boolean.read(value))) return;
    const fix = allowed.length > 0 ? `set it to ${describe(allowed[0])} or remove it` : "remove it";
    problems.push(`${valueAt}: ${why}: ${fix}; found ${describe(value)}`);
  } else if (Object.hasOwn(COMPARISON_KEYS, key)) {
    problems.push(`${at}: of a comparison: simper compare reads it, and no other command`);
  } else {
    const known = [...words, ...followedKeys(), MIXTURE, ...Object.keys(IGNORED), ...Object.keys(REFUSED)];
    const near = keyCalled(key) ?? nearest(key, known.filter((name) => !name.endsWith("*")));
    problems.push(
      `${at}: unknown key: ${near ? `did you mean ${near}?` : "configs/README.md and --help list all"}`,
    );
  }
}

/** Keys of one mapping that name the same thing, such as eval_strategy and evaluation_strategy. */
export function twins(entries: readonly Entry[]): string[] {
  const problems: string[] = [];
  const seen = new Map<string, string>();
  for (const { key, at } of entries) {
    const field = fieldOf(key);
    if (!field) continue;
    const other = seen.get(field);
    if (other) problems.push(`${at}: the same as ${other}, given above: keep one`);
    seen.set(field, key);
  }
  return problems;
}
