import { readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { nearest, UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import { statOf } from "../files/stat_of.ts";
import { filesOfSaved } from "./saved_dataset.ts";
import { DATA_FILE, dataFilesOf, filesOfConfig, readCard } from "./dataset_card.ts";

/** What the name of a data file tells. */
interface DataFile {
  name: string;
  split: string;
  /** The name without what differs between the files of one split. */
  pattern: string;
  /** How many files of the pattern there must be, where the name says it. */
  count?: number;
}

const EXTENSION = DATA_FILE;

/**
 * The files of one split on this machine: a file is its own train split; a folder holds files for each split, as
 * `save_to_disk` wrote it (`filesOfSaved`), as its README.md says (`dataFilesOf`) or by their names (`filesOfSplit`).
 *
 * @param config the configuration of the README.md.
 * @throws {UserError} for a path where nothing is, and as `filesOfSet`.
 */
export async function filesOf(path: string, split: string, config?: string): Promise<string[]> {
  const stats = await statOf(path);
  if (!stats) throw await missing(path);
  if (!stats.isDirectory()) {
    if (split.includes("train")) return [path];
    throw new UserError(
      `dataset_mixer: ${path}: expected a folder with files for the splits to evaluate on ${show(split)}, ` +
        "found a file: put it into a folder as train.jsonl beside test.jsonl, or evaluate nothing (do_eval and " +
        "eval_on_start false, eval_strategy no)",
    );
  }
  const saved = await filesOfSaved(path, split);
  if (saved) return saved;
  const card = await readCard(path);
  const names = await namesIn(path, dataFilesOf(card, config, path) !== undefined);
  return filesOfSet(names, card, split, config, path).map((name) => join(path, name));
}

/**
 * Which of a data set's files hold one split.
 *
 * @param names paths within the data set, of any files.
 * @param card the text of its README.md.
 * @param where names the data set in messages.
 */
export function filesOfSet(
  names: readonly string[],
  card: string,
  split: string,
  config: string | undefined,
  where: string,
): string[] {
  const files = dataFilesOf(card, config, where);
  return files ? filesOfConfig(files, names, split, where) : filesOfSplit(names, split, where);
}

/**
 * Which of a data set's files hold one split, by the layouts of the Hub: `train.jsonl`,
 * `train-00000-of-00002.parquet` (a hash may follow), both also under `data/`, and `train/*.parquet`.
 *
 * @param names paths within the data set, of any files.
 * @param where names the data set in messages.
 * @throws {UserError} for a split that is not there, with those that are; for one in two formats; for a number missing.
 */
export function filesOfSplit(names: readonly string[], split: string, where: string): string[] {
  const files = names.map(dataFile).filter((file) => file !== undefined);
  const found = files.filter((file) => file.split === split).sort((a, b) => a.name < b.name ? -1 : 1);
  if (found.length === 0) throw noSplit(files, names, split, where);
  const patterns = [...new Set(found.map(({ pattern }) => pattern))];
  if (patterns.length > 1) {
    throw new UserError(
      `dataset_mixer: ${where}: expected one form of the split ${show(split)}, found ${
        patterns.join(" and ")
      }: keep one`,
    );
  }
  const [{ pattern, count }] = found;
  if (count !== undefined && found.length !== count) {
    throw new UserError(
      `dataset_mixer: ${where}: expected ${count} files ${pattern}, found ${found.length}: fetch the rest`,
    );
  }
  return found.map(({ name }) => name);
}

function dataFile(name: string): DataFile | undefined {
  const extension = EXTENSION.exec(name)?.[0];
  if (extension === undefined) return undefined;
  const inner = name.replace(/^data\//, "").slice(0, -extension.length);
  const folder = name.slice(0, name.length - extension.length - inner.length);
  const slash = inner.indexOf("/");
  if (slash >= 0) {
    const split = inner.slice(0, slash);
    return { name, split, pattern: `${folder}${split}/*${extension}` };
  }
  const [, split, , count] = /^(.+?)(-\d+-of-(\d+)(?:-[0-9a-f]+)?)?$/.exec(inner)!;
  if (count === undefined) return { name, split, pattern: name };
  return { name, split, pattern: `${folder}${split}-*-of-${count}${extension}`, count: Number(count) };
}

function noSplit(files: DataFile[], names: readonly string[], split: string, where: string): UserError {
  const splits = [...new Set(files.map((file) => file.split))];
  const few = (all: readonly string[]) => all.slice(0, 8).join(", ") + (all.length > 8 ? ", ..." : "");
  const meant = nearest(split, splits);
  const found = splits.length > 0
    ? `the splits ${few(splits)}${meant === undefined ? "" : ` (did you mean ${meant}?)`}: set dataset_splits`
    : `${
      names.length > 0 ? few(names) : "an empty folder"
    }: a split is a file ${split}.jsonl, .json or .parquet`;
  return new UserError(`dataset_mixer: ${where}: expected the split ${show(split)}, found ${found}`);
}

/**
 * Names in a folder and in the folders in it, or at any depth. Files of the Hub's cache are links, so the names tell
 * what is a folder.
 */
async function namesIn(path: string, isDeep: boolean): Promise<string[]> {
  if (isDeep) return (await readdir(path, { recursive: true })).map((name) => name.replaceAll("\\", "/"));
  const names = (await readdir(path)).sort();
  const inner = await Promise.all(
    names.filter((name) => !name.includes(".")).map(async (name) =>
      (await readdir(join(path, name)).catch(() => [])).map((file) => `${name}/${file}`)
    ),
  );
  return [...names, ...inner.flat()];
}

async function missing(path: string): Promise<UserError> {
  const siblings = await readdir(dirname(path)).catch(() => undefined);
  const meant = siblings && nearest(basename(path), siblings);
  const hint = !siblings
    ? `there is no folder ${dirname(path)} either`
    : meant === undefined
    ? "give the path of a .jsonl, .json or .parquet file, or of a folder of them"
    : `did you mean ${join(dirname(path), meant)}?`;
  return new UserError(`dataset_mixer: ${path}: expected a file or folder, found nothing there; ${hint}`);
}
