import { splitArguments } from "../config/overrides.ts";
import { describe, type ValueType } from "../config/values.ts";
import { nearest, UserError } from "../errors.ts";
import { shorten } from "../text/json.ts";
import type { Command } from "./command.ts";

/** The words after a command's name, parted. */
export interface Words {
  positionals: string[];
  /** Values of the command's own options; "" for one that takes none. */
  options: Map<string, string>;
  /** Values of those that may be given more than once. */
  lists: Map<string, string[]>;
  /** What else begins with `--`: keys of a run file. */
  overrides: string[];
}

/**
 * Parts the words after a command's name. An option's value follows it after `=` or as the next word.
 * @throws {UserError} (status 2) for an option without its value, or with one that it does not take.
 */
export function splitWords(words: readonly string[], { options = [] }: Command): Words {
  const found = new Map<string, string>();
  const lists = new Map<string, string[]>();
  const others: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const [, name, text] = /^--([^=]*)(?:=(.*))?$/s.exec(words[i]) ?? [];
    const option = options.find((option) => option.name === name);
    if (!option) {
      others.push(words[i]);
      continue;
    }
    if (option.value === undefined) {
      if (text !== undefined) throw new UserError(`--${name}: expected no value, found ${shorten(text)}`, 2);
      found.set(name, "");
      continue;
    }
    const hasNext = i + 1 < words.length && !words[i + 1].startsWith("--");
    const value = text ?? (hasNext ? words[++i] : "");
    if (value === "") {
      throw new UserError(
        `--${name}: expected ${option.value}, as in --${name}=${option.value}: ${option.doc}`,
        2,
      );
    }
    if (found.has(name)) throw new UserError(`--${name}: given twice: keep one`, 2);
    if (option.repeats) lists.set(name, [...lists.get(name) ?? [], value]);
    else found.set(name, value);
  }
  const split = splitArguments(others);
  const single = split.positionals.find((word) => /^-[^-]/.test(word));
  if (single !== undefined) {
    throw new UserError(`${shorten(single)}: options have two dashes: -${shorten(single)}`, 2);
  }
  return { ...split, options: found, lists };
}

/**
 * The words after the name of a command that takes a run file; `names` are those of its own options.
 * @throws {UserError} (status 2) where there is more than one file.
 */
export function splitRunWords(
  words: readonly string[],
  command: Command,
): Words & { file: string; names: string[] } {
  const split = splitWords(words, command);
  const { positionals } = split;
  if (positionals.length > 1) {
    throw new UserError(
      `expected one run file and --key=value, found ${positionals.map((w) => shorten(w)).join(" and ")}`,
      2,
    );
  }
  const names = (command.options ?? []).map(({ name }) => name);
  return { ...split, file: positionals[0] ?? command.runFile ?? "tiny.yaml", names };
}

/**
 * The words after the name of a command that takes none.
 * @throws {UserError} (status 2) for an option that it has not.
 */
export function splitOwnWords(words: readonly string[], command: Command): Words {
  const split = splitWords(words, command);
  for (const override of split.overrides) {
    const [name] = override.slice(2).split("=", 1);
    const near = nearest(name, (command.options ?? []).map((option) => option.name));
    throw new UserError(`--${shorten(name)}: unknown option${near ? `: did you mean --${near}?` : ""}`, 2);
  }
  return split;
}

/**
 * Values of options by their types; those that were not given are left out.
 * @throws {UserError} (status 2) naming every value that is none of its type.
 */
export function readValues<T extends object>(
  options: ReadonlyMap<string, string>,
  types: { readonly [K in keyof T]: ValueType<T[K]> },
): Partial<T> {
  const values: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const [name, type] of Object.entries<ValueType<unknown>>(types)) {
    const text = options.get(name);
    if (text === undefined) continue;
    const value = type.read(text);
    if (value !== undefined) values[name] = value;
    else problems.push(`--${name}: expected ${type.expected}, found ${describe(text)}`);
  }
  if (problems.length > 0) throw new UserError(problems.join("\n"), 2);
  return values as Partial<T>;
}
