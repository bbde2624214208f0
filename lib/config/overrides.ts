import { type Entries, type Entry, readValue } from "./entries.ts";
import { shorten } from "../text/json.ts";
import { fieldOf, KEYS } from "./schema.ts";
import { boolean, describe, share } from "./values.ts";

/** The command line's words, parted. */
export interface Arguments {
  /** Words that belong to no key, such as the run file. */
  positionals: string[];
  /** Each as `--key=value`, or `--key` alone. */
  overrides: string[];
}

/**
 * Parts the words of a command line. A word after `--key` is its value unless it begins with `--` or the key
 * is true or false and the word is neither: so `--do_eval run.yaml` leaves run.yaml alone.
 */
export function splitArguments(words: readonly string[]): Arguments {
  const positionals: string[] = [];
  const overrides: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    const next = words[i + 1];
    if (!word.startsWith("--")) positionals.push(word);
    else if (word.includes("=") || next === undefined || next.startsWith("--")) overrides.push(word);
    else if (isFlag(word.slice(2)) && boolean.read(next) === undefined) overrides.push(word);
    else overrides.push(`${word}=${words[++i]}`);
  }
  return { positionals, overrides };
}

/**
 * Puts the command line's values in place of the file's. `--dataset_mixer.PATH=SHARE` sets one share of the
 * mixer and keeps the others; the path may hold dots and equals signs.
 *
 * @param words `--key=value` or `--key value`; the value is YAML, except that a key which takes text takes it
 * as it stands.
 */
export function applyOverrides(file: readonly Entry[], words: readonly string[]): Entries {
  const { positionals, overrides } = splitArguments(words);
  const problems = positionals.map((word) => `${shorten(word)}: expected --key=value`);
  const entries = new Map(file.map((entry) => [fieldOf(entry.key) ?? entry.key, entry]));
  for (const override of overrides) {
    const mixed = /^--dataset_mixer\.(.+)=([^=]*)$/s.exec(override);
    if (mixed) {
      const [, path, text] = mixed;
      const read = share.read(text);
      if (read === undefined) {
        problems.push(
          `--dataset_mixer.${shorten(path)}: expected ${share.expected}, found ${describe(text)}`,
        );
      } else {
        const before = entries.get("datasetMixer")?.value;
        const value = new Map(before instanceof Map ? before : []).set(path, read);
        entries.set("datasetMixer", {
          key: "dataset_mixer",
          value,
          at: "--dataset_mixer",
          valueAt: "--dataset_mixer",
        });
      }
      continue;
    }
    const equals = override.indexOf("=");
    const key = override.slice(2, equals < 0 ? undefined : equals);
    const read = equals < 0 ? readBare(key) : readText(key, override.slice(equals + 1));
    const at = `--${shorten(key)}`;
    if ("problem" in read) problems.push(`${at}: ${read.problem}`);
    else entries.set(fieldOf(key) ?? key, { key, value: read.value, at, valueAt: at });
  }
  return { entries: [...entries.values()], problems };
}

function readText(key: string, text: string): ReturnType<typeof readValue> {
  const field = fieldOf(key);
  const verbatim = field !== undefined && KEYS[field].type.verbatim && text !== "null";
  return verbatim ? { value: text } : readValue(text);
}

/** A key without a value is true, unless it is one that needs another value. */
function readBare(key: string): ReturnType<typeof readValue> {
  const field = fieldOf(key);
  if (field === undefined || KEYS[field].type.read(true) === true) return { value: true };
  return { problem: `expected ${KEYS[field].type.expected}, found no value` };
}

function isFlag(key: string): boolean {
  const field = fieldOf(key);
  return field !== undefined && KEYS[field].type === boolean;
}
