/** adapter_config.json, as PEFT writes it. */
import { modulePattern } from "../config/name_pattern.ts";
import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import type { AdapterSettings } from "./settings.ts";

/** What is read of it. */
export interface AdapterConfig {
  settings: AdapterSettings;
  /** The model that it was trained on, as it was named there. */
  base?: string;
  modulesToSave: readonly string[];
  /** A text is a regular expression of whole names, a list one of ends; undefined where it is not said. */
  targets?: string | readonly string[];
  /** `exclude_modules`, likewise. */
  excluded?: string | readonly string[];
  /** `layers_to_transform`. */
  layers?: readonly number[];
  /** All that it says. */
  record: Record<string, unknown>;
}

/** What changes how a model computes, and is not followed: any other value than these. */
const ONLY: Readonly<Record<string, readonly unknown[]>> = {
  bias: ["none"],
  fan_in_fan_out: [false],
  lora_bias: [false],
  layer_replication: [],
  use_qalora: [false],
  use_bdlora: [],
  use_monteclora: [],
  trainable_token_indices: [],
  target_parameters: [],
  alora_invocation_tokens: [],
  arrow_config: [],
  kasa_config: [],
  velora_config: [],
  monteclora_config: [],
  megatron_config: [],
  // Others change the weights of the base, which is then another.
  init_lora_weights: [true, false, "gaussian", "eva", "orthogonal"],
};

/**
 * Reads the text of an adapter_config.json.
 * @throws {UserError} naming every value that is not followed.
 */
export function parseAdapterConfig(text: string, path: string): AdapterConfig {
  let record: unknown;
  try {
    record = JSON.parse(text);
  } catch (error) {
    throw new UserError(`${path}: not JSON: ${(error as Error).message}`);
  }
  if (!isObject(record)) throw new UserError(`${path}: expected an object, found ${show(record)}`);
  const { peft_type: type } = record;
  if (type !== "LORA") {
    throw new UserError(
      `${path}: peft_type: expected LORA, found ${
        show(type)
      }: of PEFT's adapters LoRA is supported, with rsLoRA and DoRA`,
    );
  }
  const problems: string[] = [];
  for (const [key, values] of Object.entries(ONLY)) {
    const value = record[key] ?? null;
    if (value === null || values.includes(value)) continue;
    const expected = values.length > 0 ? values.map(show).join(" or ") : "nothing";
    problems.push(`${key}: expected ${expected}, found ${show(value)}: it is not supported`);
  }
  const positive = (key: string, value: unknown): number => {
    if (typeof value === "number" && value > 0 && Number.isFinite(value)) return value;
    problems.push(`${key}: expected a number above 0, found ${show(value)}`);
    return 1;
  };
  const pattern = (key: string): Record<string, number> => {
    const value = record[key] ?? {};
    if (!isObject(value)) {
      problems.push(`${key}: expected an object of modules' names to numbers, found ${show(value)}`);
      return {};
    }
    const odd = Object.keys(value).find((name) => !/^[\w.]+$/.test(name));
    if (odd !== undefined) problems.push(`${key}: expected the ends of modules' names, found ${show(odd)}`);
    return Object.fromEntries(
      Object.entries(value).map(([name, each]) => [name, positive(`${key}.${name}`, each)]),
    );
  };
  const flag = (key: string): boolean => {
    const value = record[key] ?? false;
    if (typeof value !== "boolean") problems.push(`${key}: expected true or false, found ${show(value)}`);
    return value === true;
  };
  const names = (key: string): string | readonly string[] | undefined => {
    const value = record[key] ?? undefined;
    if (value === undefined || typeof value === "string") return value;
    if (Array.isArray(value) && value.every((each) => typeof each === "string")) return value;
    problems.push(`${key}: expected a list of texts, a text or null, found ${show(value)}`);
  };
  const expression = (key: string): string | readonly string[] | undefined => {
    const value = names(key);
    if (typeof value !== "string") return value;
    try {
      modulePattern(value);
    } catch (error) {
      problems.push(
        `${key}: expected a regular expression, found ${show(value)}: ${(error as Error).message}`,
      );
    }
    return value;
  };
  const layers = record.layers_to_transform ?? undefined;
  if (layers !== undefined && ![layers].flat().every(Number.isInteger)) {
    problems.push(`layers_to_transform: expected whole numbers, found ${show(layers)}`);
  }
  const [targets, excluded] = [expression("target_modules"), expression("exclude_modules")];
  const modulesToSave = [names("modules_to_save") ?? []].flat();
  const { lora_dropout: dropout = 0, base_model_name_or_path: base } = record;
  if (typeof dropout !== "number" || !(dropout >= 0 && dropout < 1)) {
    problems.push(`lora_dropout: expected a number from 0 to below 1, found ${show(dropout)}`);
  }
  const rank = positive("r", record.r ?? 8);
  if (!Number.isInteger(rank)) problems.push(`r: expected a whole number, found ${show(rank)}`);
  const settings: AdapterSettings = {
    rank,
    rankPattern: pattern("rank_pattern"),
    alpha: positive("lora_alpha", record.lora_alpha ?? 8),
    alphaPattern: pattern("alpha_pattern"),
    dropout: Number(dropout),
    rslora: flag("use_rslora"),
    dora: flag("use_dora"),
  };
  if (problems.length > 0) throw new UserError(problems.map((problem) => `${path}: ${problem}`).join("\n"));
  return {
    settings,
    ...(typeof base === "string" && base !== "" && { base }),
    modulesToSave,
    ...(targets !== undefined && { targets }),
    ...(excluded !== undefined && { excluded }),
    ...(layers !== undefined && { layers: [layers].flat() as number[] }),
    record,
  };
}
