/** What adapters are: rank, scale, modules. */
import type { TrainConfig } from "../config/schema.ts";

/** The keys of a run file that are about adapters. */
export type AdapterKeys = Pick<
  TrainConfig,
  | "loraR"
  | "loraAlpha"
  | "loraDropout"
  | "loraTargetModules"
  | "loraModulesToSave"
  | "useRslora"
  | "useDora"
  | "loraTaskType"
>;

/** Adapters by PEFT's names for what they are. */
export interface AdapterSettings {
  /** `r`: rows of the first factor; and `rank_pattern`'s by the ends of modules' names. */
  rank: number;
  rankPattern: Readonly<Record<string, number>>;
  /** `lora_alpha`, and `alpha_pattern`'s by the ends of modules' names. */
  alpha: number;
  alphaPattern: Readonly<Record<string, number>>;
  dropout: number;
  rslora: boolean;
  dora: boolean;
}

/** Which modules of a model have adapters, and what else is trained; both by names in transformers' class. */
export interface AdapterPlan {
  settings: AdapterSettings;
  /** Linear layers. */
  modules: ReadonlySet<string>;
  /** Parameters that are trained whole. */
  saved: ReadonlySet<string>;
  /** The content of adapter_config.json, but for the base model. */
  record: Readonly<Record<string, unknown>>;
}

export const settingsOf = (keys: AdapterKeys): AdapterSettings => ({
  rank: keys.loraR,
  rankPattern: {},
  alpha: keys.loraAlpha,
  alphaPattern: {},
  dropout: keys.loraDropout,
  rslora: keys.useRslora,
  dora: keys.useDora,
});

/** Whether a module's name ends so, in whole words. */
export const endsWith = (name: string, end: string): boolean => name === end || name.endsWith(`.${end}`);

/** A module's own value in `rank_pattern` or `alpha_pattern`. */
const ownOf = (pattern: Readonly<Record<string, number>>, module: string): number | undefined =>
  Object.entries(pattern).find(([end]) => endsWith(module, end))?.[1];

/** The rank of a module's factors. */
export const rankOf = ({ rank, rankPattern }: AdapterSettings, module: string): number =>
  ownOf(rankPattern, module) ?? rank;

/**
 * What the factors' product is multiplied by: alpha / rank, or, as rsLoRA has it (arXiv 2312.03732), alpha /
 * sqrt(rank).
 */
export function scaleOf(
  { alpha, alphaPattern, rslora }: AdapterSettings,
  module: string,
  rank: number,
): number {
  return (ownOf(alphaPattern, module) ?? alpha) / (rslora ? Math.sqrt(rank) : rank);
}
