import { nearest } from "../errors.ts";
import { show } from "../text/json.ts";
import { readDate } from "../text/calendar_date.ts";
import { LOSS_NAMES, type LossName, type LossType } from "../losses/losses.ts";
import type { TrainConfig } from "./key_types.ts";

/** How the value of a key is read: the same for YAML files and for the command line. */
export interface ValueType<T> {
  /** What a message says was expected, and the reference's table. */
  readonly expected: string;
  /** The same as a type of TypeScript; a mapping as a script writes it. */
  readonly typescript: string;
  /**
   * The typed value, or undefined where `value` is none of this type. Mappings come as Map, in the file's
   * order.
   */
  readonly read: (value: unknown) => T | undefined;
  /** What may have been meant by a value that is none of this type, as a clause. */
  readonly hint?: (value: unknown) => string | undefined;
  /** The command line's text is taken as it stands, not as YAML. */
  readonly verbatim?: true;
}

/** One set of preference pairs and the share of its rows to use, from the first row on. */
export type DatasetShare = TrainConfig["datasetMixer"][number];

/** The columns that rows are read from, and so what a column may be called. */
export const COLUMNS = [
  "prompt",
  "chosen",
  "rejected",
  "messages",
  "conversations",
  "completion",
  "instruction",
  "input",
  "output",
  "history",
  "system",
  "tools",
  "documents",
] as const;

/** The bounds of a number; without them any finite number will do. */
export interface Bounds {
  min?: number;
  max?: number;
  /** A bound that the number itself must not reach. */
  below?: number;
}

/** A finite number. Text such as "1e-6" is one too: YAML 1.1 reads that, having no dot, as text. */
export function number(bounds: Bounds = {}): ValueType<number> {
  return {
    expected: `a number${describeBounds(bounds)}`,
    typescript: "number",
    read: (value) => readNumber(value, bounds),
  };
}

/** What float32 holds in full: of less, many GPUs make 0. */
const FLOAT32 = { min: 2 ** -126, max: (2 - 2 ** -23) * 2 ** 127 };

/** A number that the GPU gets as float32: neither infinite there nor, unless it is 0 and may be, 0. */
export function float32(
  { orZero, signed = false }: { orZero: boolean; signed?: boolean },
): ValueType<number> {
  return {
    expected: `a number${orZero ? ", 0 or" : ""} from ${
      signed ? "-3.4e38" : "1.2e-38"
    } to 3.4e38 (arithmetic is float32)`,
    typescript: "number",
    read: (value) => {
      const read = readNumber(value, {});
      if (read === undefined || (orZero && read === 0)) return read;
      return readNumber(signed ? Math.abs(read) : read, FLOAT32) === undefined ? undefined : read;
    },
  };
}

/** A whole number. */
export function integer(bounds: Bounds = {}): ValueType<number> {
  return {
    expected: `an integer${describeBounds(bounds)}`,
    typescript: "number",
    read: (value) => {
      const read = readNumber(value, bounds);
      return Number.isSafeInteger(read) ? read : undefined;
    },
  };
}

/** A whole number of steps, or a fraction below 1 of all steps. */
export const stepsOrFraction: ValueType<number> = {
  expected: "an integer, or a fraction of all steps from 0 to below 1",
  typescript: "number",
  read: (value) => {
    const read = readNumber(value, { min: 0 });
    return read !== undefined && (read < 1 || Number.isSafeInteger(read)) ? read : undefined;
  },
};

/** true or false; also YAML 1.1's yes, no, on and off, in any case. */
export const boolean: ValueType<boolean> = {
  expected: "true or false",
  typescript: "boolean",
  read: (value) => {
    if (typeof value === "boolean") return value;
    if (typeof value !== "string") return undefined;
    if (/^(true|yes|on)$/i.test(value)) return true;
    return /^(false|no|off)$/i.test(value) ? false : undefined;
  },
};

/** The path of a folder; or true or false, in YAML's words. */
export const folderOrBoolean: ValueType<boolean | string> = {
  expected: "a folder, true or false",
  typescript: "boolean | string",
  read: (value) => boolean.read(value) ?? text.read(value),
  verbatim: true,
};

/** The number of a device, or text of its name. */
export const adapterId: ValueType<string> = {
  expected: "a number from 0, or text",
  typescript: "string | number",
  read: (value) => typeof value === "number" ? integer({ min: 0 }).read(value)?.toString() : text.read(value),
  verbatim: true,
};

/** Text with at least one character. */
export const text: ValueType<string> = {
  expected: "text",
  typescript: "string",
  read: (value) => typeof value === "string" && value !== "" ? value : undefined,
  verbatim: true,
};

/** A day of the calendar. */
export const calendarDate: ValueType<string> = {
  expected: "a date such as 2024-07-26",
  typescript: "string",
  read: (value) =>
    typeof value === "string" && value.length === 10 && readDate(value) !== undefined ? value : undefined,
  verbatim: true,
};

/** A list of texts. */
export function texts(example: string): ValueType<readonly string[]> {
  return {
    expected: `a list of texts such as ${example}`,
    typescript: "readonly string[]",
    read: (value) =>
      Array.isArray(value) && value.every((item) => text.read(item) !== undefined) ? value : undefined,
  };
}

/** Modules of a model: one text, or a list of texts. */
export const modulePatterns: ValueType<string | readonly string[]> = {
  expected: "all-linear, a regular expression, or a list such as [q_proj, v_proj]",
  typescript: "readonly string[] | string",
  read: (value) => {
    const isList = Array.isArray(value) && value.length > 0 &&
      value.every((item) => text.read(item) !== undefined);
    return isList ? value : text.read(value);
  },
};

/** One of a few words; `aliases` are other words for some of them. */
export function oneOf<const T extends string>(
  choices: readonly T[],
  aliases: Record<string, T> = {},
  note = "",
): ValueType<T> {
  const words = new Map<unknown, T>([
    ...choices.map((choice) => [choice, choice] as const),
    ...Object.entries(aliases),
  ]);
  return {
    expected: `${[...words.keys()].join(" or ")}${note && ` (${note})`}`,
    typescript: choices.map((choice) => JSON.stringify(choice)).join(" | "),
    read: (value) => words.get(value),
    verbatim: true,
  };
}

/** A list of numbers. */
export function numbers(example: string): ValueType<readonly number[]> {
  return {
    expected: `a list of numbers such as ${example}, each up to 3.4e38 (arithmetic is float32)`,
    typescript: "readonly number[]",
    read: (value) => {
      if (!Array.isArray(value)) return undefined;
      const item = float32({ orZero: true, signed: true });
      const read = value.map((each) => item.read(each)).filter((each) => each !== undefined);
      return read.length === value.length ? read : undefined;
    },
  };
}

/** What losses were called, by TRL too. */
const OLD_LOSSES: Readonly<Record<string, LossName>> = { kto_pair: "kto", bco: "bco_pair", dpo: "sigmoid" };

function lossHint(value: unknown): string | undefined {
  const names = [value].flat().filter((name) => typeof name === "string");
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined) return `${show(twice)} is there twice: loss_weights says how much it counts`;
  const wrong = names.find((name) => lossName.read(name) === undefined);
  if (wrong === undefined) return;
  const name = wrong.toLowerCase().replaceAll("-", "_");
  const meant = Object.hasOwn(OLD_LOSSES, name)
    ? OLD_LOSSES[name]
    : lossName.read(name) ?? nearest(name, LOSS_NAMES);
  return meant && `did you mean ${meant}?`;
}

const lossName = oneOf(LOSS_NAMES, {}, "sigmoid is DPO");
/** A loss, or several in a list; one of a list alone is that loss. */
export const lossType: ValueType<LossType> = {
  expected: `${lossName.expected}, or a list of them`,
  typescript: "LossType",
  hint: lossHint,
  read: (value) => {
    const names = Array.isArray(value) ? value.map((name) => lossName.read(name)) : [lossName.read(value)];
    const known = names.filter((name) => name !== undefined);
    if (known.length === 0 || known.length < names.length || new Set(known).size < known.length) {
      return undefined;
    }
    return known.length === 1 ? known[0] : known;
  },
};

/** Whom transformers can report a run to. */
const REPORTERS: readonly unknown[] = [
  ..."none all tensorboard azure_ml clearml codecarbon comet_ml dagshub dvclive flyte mlflow neptune".split(
    " ",
  ),
  ..."kubeflow swanlab trackio wandb".split(" "),
];

/** Those that are followed, from one name or a list of them; `all` is all of them. */
export const reporters: ValueType<readonly "tensorboard"[]> = {
  expected: "none or tensorboard, or a list of them (all is tensorboard)",
  typescript: "string | readonly string[]",
  read: (value) => {
    const names = value === null ? [] : [value].flat();
    if (!names.every((name) => REPORTERS.includes(name))) return undefined;
    return names.includes("tensorboard") || names.includes("all") ? ["tensorboard"] : [];
  },
};

/** The names of a `report_to` that nothing here follows. */
export const otherReporters = (value: unknown): unknown[] =>
  [value].flat().filter((name) => !([null, "none", "all", "tensorboard"] as unknown[]).includes(name));

/** The figures of an evaluation that models can be compared by. */
export const EVALUATION_METRICS = [
  "loss",
  "rewards/chosen",
  "rewards/rejected",
  "rewards/accuracies",
  "rewards/margins",
  "logps/chosen",
  "logps/rejected",
  "logits/chosen",
  "logits/rejected",
  "entropy",
  "mean_token_accuracy",
  "eos/probability",
] as const;

/** One of them. */
export type EvaluationMetric = typeof EVALUATION_METRICS[number];

const metricName: ValueType<EvaluationMetric> = oneOf(EVALUATION_METRICS, {}, "eval_ may stand before it");
/** Its name, as transformers lets it be named. */
export const evaluationMetric: ValueType<EvaluationMetric> = {
  ...metricName,
  read: (value) => metricName.read(typeof value === "string" ? value.replace(/^eval_/, "") : value),
};

/** The share of a data set's rows. */
export const share: ValueType<number> = number({ min: 0, max: 1 });

/** A mapping of data path to share, with at least one entry. */
export const mixer: ValueType<DatasetShare[]> = {
  expected: "a mapping of data paths to shares from 0 to 1, such as {data/pairs.jsonl: 1.0}",
  typescript: "Record<string, number>",
  read: (value) => {
    if (!(value instanceof Map) || value.size === 0) return undefined;
    const shares: DatasetShare[] = [];
    for (const [path, part] of value) {
      const read = share.read(part);
      if (typeof path !== "string" || path === "" || read === undefined) return undefined;
      shares.push({ path, share: read });
    }
    return shares;
  },
};

/** A mapping of columns to their names here, no two to one. */
export const columns: ValueType<ReadonlyMap<string, string>> = {
  expected: `a mapping such as {question: prompt}, each to another of ${COLUMNS.join(", ")}`,
  typescript: "Record<string, string>",
  read: (value) => {
    if (!(value instanceof Map)) return undefined;
    const targets = [...value.values()];
    const isRead = targets.every((target) => COLUMNS.includes(target)) &&
      new Set(targets).size === targets.length;
    return isRead && [...value.keys()].every((name) => text.read(name) !== undefined) ? value : undefined;
  },
};

/**
 * The arguments of an optimizer as transformers writes them, `name=value` by name; undefined for text of another
 * form.
 */
export function readOptimArgs(text: string): ReadonlyMap<string, string> | undefined {
  const parts = text.replaceAll(" ", "").split(",").map((part) => part.split("="));
  return parts.every((part) => part.length === 2) ? new Map(parts as [string, string][]) : undefined;
}

const ROUNDED_WEIGHTS = {
  expected: "bf16_stochastic_round=True or False",
  values: { bf16_stochastic_round: ["True", "true", "False", "false"] },
};

/** Optimizers that have arguments here: what each of these may be, and how a message says so. */
const OPTIM_ARGS: Readonly<
  Record<string, { expected: string; values: Readonly<Record<string, readonly string[]>> }>
> = {
  adamw_anyprecision: {
    expected: "momentum_dtype=TYPE,variance_dtype=TYPE with float32 or bfloat16",
    values: {
      momentum_dtype: ["float32", "bfloat16"],
      variance_dtype: ["float32", "bfloat16"],
      // Weights are float32 and lose nothing that a second sum would keep.
      use_kahan_summation: ["False", "false"],
    },
  },
  adamw_8bit: ROUNDED_WEIGHTS,
  lion_32bit: ROUNDED_WEIGHTS,
  lion_8bit: ROUNDED_WEIGHTS,
};

/** What an optimizer's arguments may be; undefined for one that has none. */
export const expectedOptimArgs = (optim: string): string | undefined => OPTIM_ARGS[optim]?.expected;

/** Whether text that `readOptimArgs` reads is of an optimizer's arguments alone. */
export const areOptimArgs = (optim: string, text: string): boolean =>
  [...readOptimArgs(text) ?? []].every(([name, value]) => OPTIM_ARGS[optim]?.values[name]?.includes(value));

/** Text of `name=value`, separated by commas, of any optimizer. */
export const optimArgs: ValueType<string> = {
  expected: [...Map.groupBy(Object.entries(OPTIM_ARGS), ([, { expected }]) => expected)]
    .map(([expected, optims]) => `${expected} (${optims.map(([optim]) => optim).join(", ")})`).join(", or "),
  typescript: "string",
  read: (value) =>
    typeof value === "string" && readOptimArgs(value) &&
      Object.keys(OPTIM_ARGS).some((optim) => areOptimArgs(optim, value))
      ? value
      : undefined,
  verbatim: true,
};

const UNITS = new Map(
  ["b", "kb", "mb", "gb", "tb"].map((unit, power) => [unit, 1000 ** power] as const)
    .concat(["kib", "mib", "gib", "tib"].map((unit, power) => [unit, 1024 ** (power + 1)] as const)),
);

/**
 * A number of bytes; text may carry a unit: KB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB of 1024.
 */
export const bytes: ValueType<number> = {
  expected: "a number of bytes above 0, or text such as 141GB or 80GiB",
  typescript: "number | string",
  read: (value) => {
    const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(String(value).trim());
    const unit = match && UNITS.get(match[2].toLowerCase() || "b");
    const read = unit ? Math.floor(Number(match[1]) * unit) : 0;
    return Number.isSafeInteger(read) && read > 0 ? read : undefined;
  },
};

/** Text of a message without the Hub's tokens: whoever writes one into the wrong place shows the message to others. */
export const withoutTokens = (text: string) => text.replace(/\bhf_\w{8,}/g, "hf_(not shown)");

/** A value for a message: short, and as it would be written in YAML; what may be a secret is not shown. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (!(value instanceof Map)) return withoutTokens(show(value));
  const entries = [...value].slice(0, 4).map(([key, item]) => {
    const shown = /token|secret|password/i.test(key)
      ? "(not shown)"
      : item instanceof Map
      ? "a mapping"
      : show(item);
    return withoutTokens(`${String(key).slice(0, 60)}: ${shown}`);
  });
  return `the mapping {${entries.join(", ")}${value.size > 4 ? ", ..." : ""}}`;
}

function readNumber(
  value: unknown,
  { min = -Infinity, max = Infinity, below = Infinity }: Bounds,
): number | undefined {
  const numeric = typeof value === "string" && /^[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?$/i.test(value);
  const read = numeric ? Number(value) : value;
  if (typeof read !== "number" || !Number.isFinite(read)) return undefined;
  return read >= min && read <= max && read < below ? read : undefined;
}

function describeBounds({ min, max, below }: Bounds): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  if (min !== undefined && below !== undefined) return ` from ${min} to below ${below}`;
  if (min === undefined) return max === undefined ? "" : `, ${max} at most`;
  return `, ${min} or more`;
}
