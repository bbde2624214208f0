import type { Key } from "./key.ts";
import { TABLE } from "./keys.ts";
import type { TrainConfig } from "./key_types.ts";

export type { RunKeys, TrainConfig } from "./key_types.ts";

/** What is known of each key, by its field. */
export const KEYS: { readonly [F in keyof TrainConfig]: Key<Exclude<TrainConfig[F], undefined>> } = TABLE;

/** The fields of `TrainConfig`, in the order of the reference. */
export const FIELDS = Object.keys(KEYS) as (keyof TrainConfig)[];

/** The key of a field as run files write it: `maxLength` is `max_length`, `loadIn4bit` is `load_in_4bit`. */
export function keyOf(field: keyof TrainConfig): string {
  return field.replace(/[A-Z]|\d+(?=bit)/g, (start) => `_${start.toLowerCase()}`);
}

const FIELD_BY_KEY = new Map(
  FIELDS.flatMap((field) => [keyOf(field), ...KEYS[field].aliases ?? []].map((key) => [key, field] as const)),
);

/** The field of a key or of one of its aliases. */
export function fieldOf(key: string): keyof TrainConfig | undefined {
  return FIELD_BY_KEY.get(key);
}

/** Every key and alias that a run follows. */
export function followedKeys(): string[] {
  return [...FIELD_BY_KEY.keys()];
}
