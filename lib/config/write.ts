import { stringify } from "npm:yaml@^2.9.1";
import { isUnread } from "./loss_rules.ts";
import { whyOff } from "./rules.ts";
import { FIELDS, keyOf, KEYS, type TrainConfig } from "./schema.ts";

/** A checked configuration as a run file that gives the same configuration again: every key, defaults too. */
export function configYaml(config: TrainConfig): string {
  return stringify(new Map(configEntries(config)));
}

/**
 * The keys of a configuration with their values as a run file has them; those without a value, those that are secret,
 * and those that do nothing beside the others, are left out.
 */
export function configEntries(config: TrainConfig): [key: string, value: unknown][] {
  const entries: [string, unknown][] = [];
  for (const field of FIELDS) {
    const value = config[field];
    if (value === undefined || KEYS[field].secret || isUnread(field, config)) continue;
    if (whyOff(field, config) !== undefined) continue;
    // Of a script's own rows.
    if (field === "datasetMixer" && config.datasetMixer.length === 0) continue;
    const shares = field === "datasetMixer"
      ? config.datasetMixer.map(({ path, share }) => [path, share] as const)
      : [];
    entries.push([keyOf(field), field === "datasetMixer" ? new Map(shares) : value]);
  }
  return entries;
}
