/** A run file of `simper compare`: the keys that all runs have, and what they differ in. */
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { shorten } from "../text/json.ts";
import { COMPARISON_KEYS, type ComparisonKeys } from "./comparison_keys.ts";
import { type Entry, readEntries } from "./entries.ts";
import { checkEntries, merge, refuse, twins } from "./parse.ts";
import { readRunFile } from "./run_file.ts";
import { fieldOf, keyOf, type TrainConfig } from "./schema.ts";
import { describe } from "./values.ts";

/** One of those that are compared: runs that differ in their seeds alone. */
export interface Member {
  name: string;
  /** In what its runs differ from those of the others, as text. */
  keys: [key: string, value: string][];
  /** One for each seed, in the order of the seeds. */
  runs: TrainConfig[];
}

/** What is to be compared, checked. */
export interface Comparison {
  members: Member[];
  seeds: readonly number[];
  /** The folder of all of it. */
  outputDir: string;
  text?: string;
  /** Most tokens of an answer that is measured. */
  maxNewTokens: number;
  /** A line for each key that was given and does nothing. */
  ignored: string[];
}

/** So many runs are a mistake rather than a plan. */
const MOST_RUNS = 1000;

/** What makes runs comparable, or belongs to all of them. */
const SHARED: ReadonlySet<keyof TrainConfig> = new Set<keyof TrainConfig>([
  ...["modelNameOrPath", "modelRevision", "adapterNameOrPath", "chatTemplate", "chatTemplateDate"] as const,
  ...["datasetMixer", "datasetSplits", "datasetConfigs", "columnMapping"] as const,
  ...["autoInsertEmptySystemMsg", "labelGenerationPrompt"] as const,
  ...["maxLength", "maxPromptLength", "truncationMode", "prompts", "perDeviceEvalBatchSize"] as const,
  ...["seed", "outputDir", "overwriteOutputDir", "logLevel"] as const,
]);
/** What a comparison has no place for. */
const NOWHERE: Partial<Record<keyof TrainConfig, string>> = {
  pushToHub: "a comparison uploads nothing: upload the folder of the run that you keep",
  fromScratch: "a comparison begins with weights that are there, which are measured too: train them first",
  resumeFromCheckpoint: "each run goes on from its own last checkpoint by itself",
  loggingDir: "each run has its own, in its folder",
};

/**
 * Reads a run file of `simper compare` with the command line's overrides, as `readConfig` reads that of a run.
 *
 * @throws {UserError} (status 2) with every mistake of every run at once.
 */
export async function readComparison(
  name: string,
  overrides: readonly string[] = [],
  words: readonly string[] = [],
): Promise<Comparison> {
  const { path, text } = await readRunFile(name);
  return parseComparison(text, path, overrides, words);
}

/** As `readComparison`, of the file's content. */
export function parseComparison(
  text: string,
  file: string,
  overrides: readonly string[] = [],
  words: readonly string[] = [],
): Comparison {
  const merged = merge(readEntries(text, file), overrides);
  if (merged.entries.length === 0) refuse(merged.problems);
  const problems = [...merged.problems];
  const ignored = [...merged.ignored];
  const isOwn = (entry: Entry) => Object.hasOwn(COMPARISON_KEYS, entry.key);
  const own = new Map(merged.entries.filter(isOwn).map((entry) => [entry.key, entry]));
  const shared = new Map(
    merged.entries.filter((entry) => !isOwn(entry)).map((entry) => [fieldOf(entry.key) ?? entry.key, entry]),
  );
  const values = readOwn(own, problems);
  const { seeds } = values;
  if (seeds && shared.has("seed")) ignored.push("seed: ignored: there are seeds");
  for (const [field, why] of Object.entries(NOWHERE)) {
    const entry = shared.get(field);
    if (entry && entry.value !== null && entry.value !== false) problems.push(`${entry.at}: ${why}`);
  }

  const compared = entriesWithin(own.get("compare"), values.compare);
  const swept = entriesWithin(own.get("sweep"), values.sweep);
  if (!own.has("compare") && !own.has("sweep") && !own.has("seeds")) {
    problems.push(
      `${file}: there is nothing to compare: expected compare, sweep or seeds, as in ` +
        "--sweep={learning_rate: [3.0e-5, 6.0e-5]}; simper train makes a single run",
    );
  }
  for (const entry of compared) {
    if (!isFolderName(entry.key)) {
      problems.push(
        `${entry.at}: expected a name of letters, digits and . _ + = -, since a folder is called so`,
      );
    }
  }
  for (const { key, at } of compared) {
    if (OWN_FILES.test(key)) problems.push(`${at}: a file of the comparison has this name: give it another`);
  }
  const clash = compared.find(({ key }, i) =>
    compared.findIndex((other) => other.key.toLowerCase() === key.toLowerCase()) < i
  );
  if (clash) problems.push(`${clash.at}: another has this name, but for the case of its letters`);
  const differing = compared.length > 0 ? compared.map((entry) => keysOf(entry, problems)) : [[]];
  const settings = gridOf(swept, problems);
  for (const entry of [...differing.flat(), ...swept]) checkDiffering(entry, shared, problems);
  for (const entries of differing) problems.push(...twins(entries));

  const members: Member[] = [];
  for (const [i, keys] of differing.entries()) {
    for (const setting of settings) {
      const twin = setting.find((entry) => keys.some((other) => isSame(other, entry)));
      if (twin) problems.push(`${twin.at}: ${compared[i].at.replace(/^.*: /, "")} has it too: keep one`);
      const all = [...keys, ...setting];
      const names = [...compared.slice(i, i + 1).map(({ key }) => key), ...setting.map(nameOf)];
      const name = names.join("_") || "run";
      const found = checkMember(name, all, shared, { seeds, file, words });
      problems.push(...found.problems);
      ignored.push(...found.ignored);
      members.push({ name, keys: all.map(({ key, value }) => [key, shown(value)]), runs: found.runs });
    }
  }
  const runs = members.length * (seeds?.length ?? 1);
  if (runs > MOST_RUNS) problems.push(`${file}: expected at most ${MOST_RUNS} runs, found ${runs}`);
  refuse([...new Set(problems)]);
  const [{ runs: [config] }] = members;
  const { maxLength, maxPromptLength } = config;
  if ((values.max_new_tokens ?? 0) >= maxLength) {
    throw new UserError(
      `${
        own.get("max_new_tokens")!.valueAt
      }: expected less than max_length (${maxLength}), found ${values.max_new_tokens}`,
      2,
    );
  }
  return {
    members,
    seeds: seeds ?? [config.seed],
    outputDir: join(config.outputDir, "..", ".."),
    ...(values.text !== undefined && { text: values.text }),
    maxNewTokens: values.max_new_tokens ?? maxLength - maxPromptLength,
    ignored: [...new Set(ignored)],
  };
}

/** The values of the comparison's own keys. */
function readOwn(own: ReadonlyMap<string, Entry>, problems: string[]): Partial<ComparisonKeys> {
  const values: Record<string, unknown> = {};
  for (const [key, { value, valueAt }] of own) {
    if (value === null) continue;
    const { type } = COMPARISON_KEYS[key as keyof ComparisonKeys];
    values[key] = type.read(value);
    if (values[key] === undefined) {
      problems.push(`${valueAt}: expected ${type.expected}, found ${describe(value)}`);
    }
  }
  return values;
}

/** The keys within a mapping with their places; of the command line they stand where it does. */
function entriesWithin(entry: Entry | undefined, value: unknown): Entry[] {
  if (!(value instanceof Map) || !entry) return [];
  return [...value].map(([key, item]) => {
    const at = `${entry.at}.${shorten(key)}`;
    return entry.entries?.find((one) => one.key === key) ?? { key, value: item, at, valueAt: at };
  });
}

function keysOf(entry: Entry, problems: string[]): Entry[] {
  const value = entry.value ?? new Map();
  if (value instanceof Map && [...value.keys()].every((key) => typeof key === "string")) {
    return entriesWithin(entry, value);
  }
  problems.push(
    `${entry.valueAt}: expected the keys in which it differs, such as {loss_type: simpo, ` +
      `learning_rate: 1.0e-6}, found ${describe(entry.value)}`,
  );
  return [];
}

/** Every value of every key with every other. */
function gridOf(swept: readonly Entry[], problems: string[]): Entry[][] {
  return swept.reduce<Entry[][]>((settings, entry) => {
    const { value, valueAt } = entry;
    const list = Array.isArray(value) ? value : [];
    const differ = new Set(list.map(shown)).size === list.length;
    if (list.length === 0 || !list.every(isPlain) || !differ) {
      problems.push(
        `${valueAt}: expected a list of values that differ, such as [3.0e-5, 6.0e-5], found ${
          describe(value)
        }`,
      );
      return settings;
    }
    return settings.flatMap((setting) => list.map((item) => [...setting, { ...entry, value: item }]));
  }, [[]]);
}

const isPlain = (value: unknown) => value !== null && typeof value !== "object" && isFolderName(shown(value));

/** What may be a folder's name anywhere. */
const isFolderName = (name: string) => /^[\w+=-][\w.+=-]{0,99}$/.test(name);

/** The files beside the folders of what is compared. */
const OWN_FILES = /^(compare\.json|report\.html|before\.json|readme\.md|seed-\d+\.json)$/i;

/** A value as it stands in names and tables. */
function shown(value: unknown): string {
  if (typeof value === "number" && value !== 0 && Math.abs(value) < 1e-3) return value.toExponential();
  if (value instanceof Map) return JSON.stringify(Object.fromEntries(value));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const nameOf = ({ key, value }: Entry) => `${key}=${shown(value)}`;

const isSame = (one: Entry, other: Entry) =>
  (fieldOf(one.key) ?? one.key) === (fieldOf(other.key) ?? other.key);

/** Whether runs may differ in a key. */
function checkDiffering(entry: Entry, shared: ReadonlyMap<string, Entry>, problems: string[]): void {
  const field = fieldOf(entry.key);
  if (field === "seed") problems.push(`${entry.at}: seeds are a list beside compare, for all of them`);
  else if (field !== undefined && Object.hasOwn(NOWHERE, field)) {
    problems.push(`${entry.at}: ${NOWHERE[field]}`);
  } else if (field !== undefined && SHARED.has(field)) {
    problems.push(
      `${entry.at}: all runs have the same ${
        keyOf(field)
      }, or they could not be compared: it stands beside compare`,
    );
  }
  const given = shared.get(field ?? entry.key)?.at;
  if (given?.startsWith("--")) {
    problems.push(`${given}: ${entry.at.replace(/^.*: /, "")} says it for itself: change it there`);
  }
}

/** The runs of a member, which differ in their seeds alone; so one of them is checked for all. */
function checkMember(
  name: string,
  keys: readonly Entry[],
  shared: ReadonlyMap<string, Entry>,
  { seeds, file, words }: { seeds?: readonly number[]; file: string; words: readonly string[] },
): { runs: TrainConfig[]; ignored: string[]; problems: string[] } {
  const own = new Map(keys.map((entry) => [fieldOf(entry.key) ?? entry.key, entry]));
  const { config, ignored, problems } = checkEntries([...new Map([...shared, ...own]).values()], file, words);
  const runs = config
    ? (seeds ?? [config.seed]).map((seed) => ({
      ...config,
      seed,
      outputDir: join(config.outputDir, name, `seed-${seed}`),
    }))
    : [];
  return { runs, ignored, problems };
}
