/** adapter_config.json, as PEFT writes it. */
import { UserError } from "../errors.ts";
import { isObject, show } from "../json.ts";
import type { AdapterSettings } from "./settings.ts";

/** What is read of it. */
export interface AdapterConfig {
  settings: AdapterSettings;
  /** Whether modules have other ranks or alphas than the rest. */
  hasPatterns: boolean;
  /** The model that it was trained on, as it was named there. */
  base?: string;
  modulesToSave: readonly string[];
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
  const { lora_dropout: dropout = 0, modules_to_save: modulesToSave, base_model_name_or_path: base } = record;
  if (typeof dropout !== "number" || !(dropout >= 0 && dropout < 1)) {
    problems.push(`lora_dropout: expected a number from 0 to below 1, found ${show(dropout)}`);
  }
  const [ranks, alphaPattern] = [pattern("rank_pattern"), pattern("alpha_pattern")];
  const rank = positive("r", record.r ?? 8);
  if (!Number.isInteger(rank)) problems.push(`r: expected a whole number, found ${show(rank)}`);
  const settings: AdapterSettings = {
    rank,
    alpha: positive("lora_alpha", record.lora_alpha ?? 8),
    alphaPattern,
    dropout: Number(dropout),
    rslora: record.use_rslora === true,
    dora: record.use_dora === true,
  };
  if (problems.length > 0) throw new UserError(problems.map((problem) => `${path}: ${problem}`).join("\n"));
  return {
    settings,
    hasPatterns: Object.keys(ranks).length + Object.keys(alphaPattern).length > 0,
    ...(typeof base === "string" && base !== "" && { base }),
    modulesToSave: Array.isArray(modulesToSave) ? modulesToSave.map(String) : [],
    record,
  };
}
