import { join } from "node:path";
import { readValue } from "../config/entries.ts";
import { nearest, UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import { readTextFile } from "../files/whole_file.ts";
import { globOf } from "./glob.ts";

/** What may hold the rows of a set. */
export const DATA_FILE = /\.(parquet|arrow|(jsonl?|jsonlines|ndjson|csv|tsv)(\.gz|\.zst)?)$/;

/** The name of the file whose header says where the splits are, and the most bytes of it that are read. */
export const CARD = "README.md";
export const LARGEST_CARD = 16 * 2 ** 20;

/** Which files of a data set hold a split, as its README.md says. */
export interface DataFiles {
  /** Names of the splits to the paths or globs of their files, in order. */
  splits: ReadonlyMap<string, readonly string[]>;
}

/** The largest have some hundred configurations of some hundred characters. */
const LARGEST_HEADER = 2 ** 20;
const HEADER = /^\ufeff?---[ \t]*\r?\n([\s\S]*?)\n---[ \t]*(?:\r?\n|$)/;
const EXPECTED = "a path, a list of paths, or a list such as [{split: train, path: data/train-*}]";

/**
 * The files of one of the configurations in the YAML header of a data set's README.md (`configs`), by the rules of
 * `datasets.load_dataset`: the one of that name, or else the one marked `default: true`, the one named `default`, or
 * the only one.
 *
 * @param readme the text of README.md.
 * @param config the name of a configuration.
 * @param where names the data set in messages.
 * @returns undefined where the header has no configuration with `data_files`: then names of files tell the splits.
 * @throws {UserError} for a configuration that is not there, with those that are, and for a header of another form.
 */
export function dataFilesOf(
  readme: string,
  config: string | undefined,
  where: string,
): DataFiles | undefined {
  const at = `dataset_mixer: ${where}: README.md`;
  const all = configsOf(readme, at);
  const configs = all.filter(({ data_files }) => data_files !== undefined && data_files !== null);
  if (configs.length === 0) {
    if (config === undefined || config === "default") return undefined;
    throw new UserError(`${at}: expected the configuration ${show(config)} (dataset_configs), found none`);
  }
  const names = configs.map(({ config_name }) => String(config_name ?? "default"));
  const chosen = config ?? [
    names[configs.findIndex((one) => one.default === true)],
    names.find((name) => name === "default"),
    names.length === 1 ? names[0] : undefined,
  ].find((name) => name !== undefined);
  const few = names.slice(0, 12).join(", ") + (names.length > 12 ? ", ..." : "");
  if (chosen === undefined) {
    throw new UserError(
      `${at}: expected the name of a configuration, as there are several and none is the default: set ` +
        `dataset_configs to one of ${few}`,
    );
  }
  const found = configs[names.indexOf(chosen)];
  if (!found) {
    const near = nearest(chosen, names);
    throw new UserError(
      `${at}: expected the configuration ${show(chosen)} (dataset_configs), found ${few}${
        near === undefined ? "" : `: did you mean ${near}?`
      }`,
    );
  }
  return { splits: splitsOf(found.data_files, `${at}: configs: ${chosen}: data_files`) };
}

/**
 * The files of a split, of all that there are.
 *
 * @param names paths within the data set.
 * @throws {UserError} for a split that is not there, with those that are, and for a path that stands for no file.
 */
export function filesOfConfig(
  { splits }: DataFiles,
  names: readonly string[],
  split: string,
  where: string,
): string[] {
  const patterns = splits.get(split);
  if (!patterns) {
    const near = nearest(split, splits.keys());
    throw new UserError(
      `dataset_mixer: ${where}: expected the split ${show(split)}, found the splits ${
        [...splits.keys()].join(", ")
      } in README.md${near === undefined ? "" : ` (did you mean ${near}?)`}: set dataset_splits`,
    );
  }
  const files = patterns.flatMap((pattern) => {
    const matches = globOf(pattern);
    const found = names.filter((name) => !isHidden(name) && matches(name)).sort();
    const other = found.find((name) => !DATA_FILE.test(name));
    if (other !== undefined) {
      throw new UserError(
        `dataset_mixer: ${where}: expected data files (.parquet, .jsonl, .json, .csv, .arrow), found ${
          show(other)
        }`,
      );
    }
    if (found.length > 0) return found;
    throw new UserError(
      `dataset_mixer: ${where}: README.md: expected files ${show(pattern)} of the split ${
        show(split)
      }, found none`,
    );
  });
  return [...new Set(files)];
}

/**
 * The text of a data set's README.md; empty where there is none.
 * @param folder of the data set.
 */
export async function readCard(folder: string): Promise<string> {
  const path = join(folder, CARD);
  try {
    const text = await readTextFile(path);
    if (text.length <= LARGEST_CARD) return text;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return "";
    throw new UserError(`${path}: cannot be read: ${(error as Error).message}`);
  }
  throw new UserError(`${path}: expected at most ${LARGEST_CARD} bytes, found more`);
}

/** As `datasets` has it: names that begin with a dot or two underscores hold no data. */
const isHidden = (name: string) =>
  name.split("/").some((part) => part.startsWith(".") || part.startsWith("__"));

function configsOf(readme: string, at: string): Record<string, unknown>[] {
  const header = HEADER.exec(readme)?.[1];
  if (header === undefined) return [];
  if (header.length > LARGEST_HEADER) {
    throw new UserError(
      `${at}: expected at most ${LARGEST_HEADER} characters of YAML, found ${header.length}`,
    );
  }
  const read = readValue(header);
  if ("problem" in read) throw new UserError(`${at}: the header is ${read.problem}`);
  const card = plain(read.value);
  const configs = isObject(card) ? card.configs ?? [] : [];
  if (Array.isArray(configs) && configs.every(isObject)) return configs;
  throw new UserError(`${at}: configs: expected a list of mappings, found ${show(configs)}`);
}

/** Mappings as objects. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  return value instanceof Map
    ? Object.fromEntries([...value].map(([key, item]) => [String(key), plain(item)]))
    : value;
}

function splitsOf(value: unknown, at: string): Map<string, string[]> {
  const splits = new Map<string, string[]>();
  const paths = (value: unknown): string[] | undefined => {
    const list: unknown[] = [value].flat();
    const isPaths = list.length > 0 && list.every((path) => typeof path === "string" && path !== "");
    return isPaths ? list as string[] : undefined;
  };
  const train = paths(value);
  if (train) return new Map([["train", train]]);
  if (!Array.isArray(value) || value.length === 0) {
    throw new UserError(`${at}: expected ${EXPECTED}, found ${show(value)}`);
  }
  for (const one of value) {
    const found = isObject(one) ? paths(one.path) : undefined;
    if (!isObject(one) || typeof one.split !== "string" || !found) {
      throw new UserError(`${at}: expected ${EXPECTED}, found ${show(one)}`);
    }
    if (splits.has(one.split)) throw new UserError(`${at}: the split ${show(one.split)} is given twice`);
    splits.set(one.split, found);
  }
  return splits;
}
