import { join } from "node:path";
import { CARD, DATA_FILE, dataFilesOf, LARGEST_CARD } from "../data/dataset_card.ts";
import { filesOfSet } from "../data/splits.ts";
import { nearest, UserError } from "../errors.ts";
import { isObject, shorten } from "../text/json.ts";
import { readTextFile } from "../files/whole_file.ts";
import type { RemoteFile } from "./listing.ts";
import { ADAPTER_CONFIG, ADAPTER_FILES } from "./model_files.ts";
import { checkFileName, type Repo, repoLabel } from "./repo.ts";

const WEIGHTS = "model.safetensors";
const INDEX = "model.safetensors.index.json";
/** Read without an index too. */
const LONE_SHARD = "model-00001-of-00001.safetensors";
/** What is read of a model besides its weights. */
const MODEL_FILE =
  /^((config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\.json|chat_template\.jinja|merges\.txt|tokenizer\.model|(configuration|modeling)_exaone\.py)$/;
const PICKLED = /\.(bin|pt|pth|ckpt)$/;

/**
 * The files of a model without its weights.
 * @throws {UserError} where there is no config.json, or `weights` are wanted and there are none as safetensors, or an
 * adapter's.
 */
export function modelFiles(files: readonly RemoteFile[], repo: Repo, weights: boolean): RemoteFile[] {
  const names = new Set(files.map(({ path }) => path));
  const label = repoLabel(repo);
  if (names.has(ADAPTER_CONFIG) && (weights || !names.has("config.json"))) {
    throw new UserError(
      `${label}: found ${ADAPTER_CONFIG}: these are adapters (PEFT): name their base model, and them as ` +
        "adapter_name_or_path or --adapter",
    );
  }
  if (!names.has("config.json")) {
    throw new UserError(
      `${label}: expected a config.json, found ${list([...names])}: this is no transformers model`,
    );
  }
  if (weights && ![WEIGHTS, INDEX, LONE_SHARD].some((name) => names.has(name))) {
    const pickled = [...names].filter((name) => PICKLED.test(name));
    throw new UserError(
      pickled.length > 0
        ? `${label}: its weights are only there pickled (${
          list(pickled)
        }), and loading such a file can run any code. ` +
          "Name a revision with safetensors (often refs/pr/1), or convert it: " +
          "https://huggingface.co/spaces/safetensors/convert"
        : `${label}: expected ${WEIGHTS} or ${INDEX}, found ${list([...names])}`,
    );
  }
  return files.filter(({ path }) =>
    MODEL_FILE.test(path) || (weights && path === INDEX && !names.has(WEIGHTS))
  );
}

/**
 * The files of adapters.
 * @throws {UserError} where one is missing.
 */
export function adapterFiles(files: readonly RemoteFile[], repo: Repo): RemoteFile[] {
  const names = files.map(({ path }) => path);
  const missing = ADAPTER_FILES.find((name) => !names.includes(name));
  if (missing === undefined) return files.filter(({ path }) => ADAPTER_FILES.includes(path));
  throw new UserError(
    `${repoLabel(repo)}: expected ${missing}, found ${list(names)}: these are no adapters (PEFT)`,
  );
}

/** The files of a model's weights; `folder` holds its other files already. */
export async function weightFiles(
  files: readonly RemoteFile[],
  repo: Repo,
  folder: string,
): Promise<RemoteFile[]> {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const single = byPath.get(WEIGHTS) ?? (byPath.has(INDEX) ? undefined : byPath.get(LONE_SHARD));
  if (single) return [single];
  return (await shardsOf(folder)).map((shard) => {
    checkFileName(shard, repo);
    const file = byPath.get(shard);
    if (file) return file;
    const near = nearest(shard, byPath.keys());
    throw new UserError(
      `${repoLabel(repo)}: ${INDEX} names ${shorten(shard)}, which is not there${
        near ? ` (there is ${near})` : ""
      }`,
    );
  });
}

/** What a model's folder in the cache lacks, or undefined where it can be trained. */
export async function lacksOfModel(
  folder: string,
  names: string[],
  weights: boolean,
): Promise<string | undefined> {
  const needed = ["config.json", "tokenizer.json"];
  if (weights && names.includes(INDEX) && !names.includes(WEIGHTS)) needed.push(...await shardsOf(folder));
  else if (weights && !names.includes(LONE_SHARD)) needed.push(WEIGHTS);
  return needed.find((name) => !names.includes(name));
}

/** The README.md of a data set, whose header may say which files hold its splits. */
export function cardFile(files: readonly RemoteFile[], repo: Repo): RemoteFile | undefined {
  const card = files.find(({ path }) => path === CARD);
  if (!card || card.size <= LARGEST_CARD) return card;
  throw new UserError(`${repoLabel(repo)}: ${CARD} has ${card.size} bytes, more than ${LARGEST_CARD}`);
}

/**
 * The data files of `splits`, or every data file where none are asked for.
 *
 * @param card the text of README.md.
 * @param config which configuration of it.
 * @throws {UserError} as `filesOfSet`, such as for a split that is not there, with those that are.
 */
export function splitFiles(
  files: readonly RemoteFile[],
  repo: Repo,
  card: string,
  splits?: readonly string[],
  config?: string,
): RemoteFile[] {
  const names = files.map(({ path }) => path);
  const label = repoLabel(repo);
  const wanted = splits ?? dataFilesOf(card, config, label)?.splits.keys();
  const chosen = new Set(
    wanted
      ? [...wanted].flatMap((split) => filesOfSet(names, card, split, config, label))
      : names.filter((name) => DATA_FILE.test(name)),
  );
  if (chosen.size > 0) return files.filter(({ path }) => chosen.has(path));
  throw new UserError(`${label}: expected data files (.parquet, .jsonl, .json), found ${list(names)}`);
}

/** The split that the folder of a set in the cache lacks; `card` is the text of its README.md. */
export function lacksOfDataset(
  names: string[],
  card: string,
  splits?: readonly string[],
  config?: string,
): string | undefined {
  if (!splits) return names.some((name) => DATA_FILE.test(name)) ? undefined : "data files";
  return splits.find((split) => {
    try {
      filesOfSet(names, card, split, config, "");
      return false;
    } catch {
      return true;
    }
  });
}

async function shardsOf(folder: string): Promise<string[]> {
  const path = join(folder, INDEX);
  let index: unknown;
  try {
    index = JSON.parse(await readTextFile(path));
  } catch (error) {
    throw new UserError(`${path}: expected JSON: ${(error as Error).message}`);
  }
  const map = isObject(index) && isObject(index.weight_map) ? Object.values(index.weight_map) : [];
  if (map.length > 0 && map.every((name) => typeof name === "string")) return [...new Set(map)].sort();
  throw new UserError(`${path}: expected a weight_map of tensor names to files`);
}

function list(names: string[]): string {
  if (names.length === 0) return "no files";
  return names.slice(0, 8).map((name) => shorten(name)).join(", ") + (names.length > 8 ? ", ..." : "");
}
