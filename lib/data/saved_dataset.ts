import { join } from "node:path";
import { nearest, UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import { readTextFile } from "../files/whole_file.ts";

/** What `save_to_disk` writes of a `Dataset`, and of a `DatasetDict` with a folder for each split. */
const STATE = "state.json";
const DICT = "dataset_dict.json";
const LARGEST = 2 ** 24;

/**
 * The files of a split of a folder that `datasets`' `save_to_disk` wrote, in order; undefined for any other folder.
 * One without splits is its own train split, as a file is.
 *
 * @throws {UserError} for a split that is not there, and for rows or columns that were chosen without being written.
 */
export async function filesOfSaved(folder: string, split: string): Promise<string[] | undefined> {
  const dict = await readJsonFile(join(folder, DICT));
  if (dict) {
    const { splits } = dict;
    if (!Array.isArray(splits) || !splits.every((name) => typeof name === "string" && isName(name))) {
      throw new UserError(
        `${join(folder, DICT)}: expected a list of names under "splits", found ${show(splits)}`,
      );
    }
    if (!splits.includes(split)) {
      const near = nearest(split, splits);
      throw new UserError(
        `dataset_mixer: ${folder}: expected the split ${show(split)}, found the splits ${
          splits.slice(0, 12).join(", ")
        }${near === undefined ? "" : ` (did you mean ${near}?)`}: set dataset_splits`,
      );
    }
    const files = await filesOfState(join(folder, split));
    if (files) return files;
    throw new UserError(
      `dataset_mixer: ${join(folder, split)}: expected ${STATE} beside ${DICT}, found none: save it again`,
    );
  }
  const files = await filesOfState(folder);
  if (!files || split.includes("train")) return files;
  throw new UserError(
    `dataset_mixer: ${folder}: expected splits to evaluate on ${
      show(split)
    }, found one saved Dataset: save a DatasetDict ` +
      "with train and test, or evaluate nothing (do_eval and eval_on_start false, eval_strategy no)",
  );
}

/** A name of a file or folder in a folder: nothing else is read. */
const isName = (name: string) => name !== "" && !/^\.\.?$|[/\\\0]/.test(name);

async function filesOfState(folder: string): Promise<string[] | undefined> {
  const path = join(folder, STATE);
  const state = await readJsonFile(path);
  const files = state?._data_files;
  // Other programs have files of this name.
  if (!state || !Array.isArray(files)) return undefined;
  const names = files.map((file: unknown) => isObject(file) ? file.filename : undefined);
  if (
    names.length === 0 ||
    !names.every((name) => typeof name === "string" && isName(name) && name.endsWith(".arrow"))
  ) {
    throw new UserError(`${path}: expected names of .arrow files under "_data_files", found ${show(names)}`);
  }
  for (const key of ["_indices_data_files", "_indices_files", "_format_columns"]) {
    if ((state[key] ?? null) === null) continue;
    throw new UserError(
      `${path}: ${key}: expected null, found ${
        show(state[key])
      }: choosing rows or columns as a view is not read; save ` +
        "dataset.with_format(None).flatten_indices()",
    );
  }
  return (names as string[]).map((name) => join(folder, name));
}

async function readJsonFile(path: string): Promise<Record<string, unknown> | undefined> {
  let text: string;
  try {
    text = await readTextFile(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw new UserError(`${path}: cannot be read: ${(error as Error).message}`);
  }
  if (text.length > LARGEST) {
    throw new UserError(`${path}: expected at most ${LARGEST} characters, found ${text.length}`);
  }
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
    throw new Error(`expected an object, found ${show(value)}`);
  } catch (error) {
    throw new UserError(`${path}: not JSON as save_to_disk writes it: ${(error as Error).message}`);
  }
}
