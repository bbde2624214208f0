import type { Key } from "./key.ts";
import { TABLE } from "./keys.ts";
import type { Values } from "./table.ts";
import type { DatasetShare } from "./values.ts";

/** A checked run file: the fields are its keys in camelCase. */
export type TrainConfig = { readonly [F in keyof Values]: Values[F] };

type Snake<S extends string> = S extends `${infer C}${infer Rest}`
  ? `${C extends Lowercase<C> ? C : `_${Lowercase<C>}`}${Snake<Rest>}`
  : "";
/** How a mapping is written in a script. */
type Written<T> = T extends readonly DatasetShare[] ? Record<string, number>
  : T extends ReadonlyMap<string, infer V> ? Record<string, V>
  : T;

/** The keys of a run file with their values, as a script writes them. */
export type RunKeys = { [F in keyof Values as Snake<F>]?: Written<TrainConfig[F]> };

/** What is known of each key, by its field. */
export const KEYS: { readonly [F in keyof TrainConfig]: Key<Exclude<TrainConfig[F], undefined>> } = TABLE;

/** The fields of `TrainConfig`, in the order of the reference. */
export const FIELDS = Object.keys(KEYS) as (keyof TrainConfig)[];

/** The key of a field as run files write it: `maxLength` is `max_length`. */
export function keyOf(field: keyof TrainConfig): string {
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
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
