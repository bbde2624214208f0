/** Whether `value` is an object of JSON, neither null nor a list. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Whether a value of JSON has the keys and types of `shape`, in which a list stands for any number of items like its
 * one.
 */
export function matches(value: unknown, shape: unknown): boolean {
  if (Array.isArray(shape)) return Array.isArray(value) && value.every((item) => matches(item, shape[0]));
  if (!isObject(shape)) return typeof value === typeof shape;
  return isObject(value) && Object.entries(shape).every(([key, inner]) => matches(value[key], inner));
}

/**
 * The value of a key that an object itself has: names of files that are not trusted may be of what every object has.
 */
export function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

/** Text for a message, cut where it is long. */
export function shorten(text: string, most = 120): string {
  return text.length > most ? `${text.slice(0, most)}...` : text;
}

/** A value of JSON or Parquet for a message, short whatever a hostile file holds. */
export function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) {
    const items = value.slice(0, 8).map((item) => Array.isArray(item) ? "a list" : show(item));
    return `[${items.join(", ")}${value.length > 8 ? ", ..." : ""}]`;
  }
  if (isObject(value)) return "an object";
  if (typeof value === "string") return JSON.stringify(shorten(value));
  if (typeof value === "function") return "a function";
  // Parquet has integers of 64 bits, and scripts have what is no value of JSON.
  return value === null ? "null" : String(value);
}

/**
 * Levels of lists and objects within each other that a file of JSON may have: a deeper row is none of messages, each
 * level takes memory many times its byte, and recursive code ends in it.
 */
export const MOST_LEVELS = 256;

/** Whether lists and objects are nested in JSON beyond `MOST_LEVELS`. */
export function isDeep(json: Uint8Array | string): boolean {
  const at = typeof json === "string" ? (i: number) => json.charCodeAt(i) : (i: number) => json[i];
  let levels = 0;
  let inText = false;
  for (let i = 0; i < json.length; i++) {
    const byte = at(i);
    if (byte === 0x22) inText = !inText;
    else if (inText) i += byte === 0x5c ? 1 : 0;
    else if (byte === 0x5b || byte === 0x7b) {
      if (++levels > MOST_LEVELS) return true;
    } else if (byte === 0x5d || byte === 0x7d) levels--;
  }
  return false;
}

/**
 * JSON with sorted keys at the top, as Python's `json.dumps(sort_keys=True)`; what is no finite number
 * becomes null.
 */
export function sortedJson(values: object, indent: number): string {
  const sorted = Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify(Object.fromEntries(sorted), null, indent) + "\n";
}
