/**
 * Models and data sets of the Hugging Face Hub by name: found in the cache that Python's huggingface_hub uses, or
 * fetched into it.
 *
 * @module
 */
import { readdir } from "node:fs/promises";
import type { TrainConfig } from "../config/schema.ts";
import type { DatasetShare } from "../config/values.ts";
import { readCard } from "../data/dataset_card.ts";
import { UserError } from "../errors.ts";
import { ADAPTER_FILES } from "./model_files.ts";
import { shippedPath } from "../program/shipped.ts";
import { statOf } from "../files/stat_of.ts";
import { RepoCache } from "./cache.ts";
import { Refused, Unreachable } from "./http.ts";
import { commitOf, filesAt } from "./listing.ts";
import { COMMIT, parseRepo, type Repo, repoLabel } from "./repo.ts";
import {
  adapterFiles,
  cardFile,
  lacksOfDataset,
  lacksOfModel,
  modelFiles,
  splitFiles,
  weightFiles,
} from "./select.ts";
import { type HubSettings, hubSettings } from "./settings.ts";
import { type FetchEvents, fetchFiles } from "./snapshot.ts";

export type { FetchEvents } from "./snapshot.ts";
export { type HubSettings, hubSettings } from "./settings.ts";

/** What to fetch, how, and who hears of it. */
export interface ResolveOptions extends FetchEvents {
  /** Branch, tag or commit; `name@revision` says it too. */
  revision?: string;
  /** By default those of the environment. */
  settings?: HubSettings;
}

/**
 * The folder of a model: `nameOrPath` itself where such a folder exists or it has not the form of a Hub name, the one
 * that ships with the program under that name (`configs/tiny/model`), otherwise the snapshot of `owner/name` or
 * `owner/name@revision` in the cache, with all files that training reads. Only what is missing is fetched; every file's
 * hash is checked.
 *
 * @param options `weights: false` leaves the weights out.
 * @throws {UserError} where the repository cannot be had or holds no model as safetensors.
 */
export async function resolveModel(
  nameOrPath: string,
  options: ResolveOptions & { weights?: boolean } = {},
): Promise<string> {
  const { weights = true } = options;
  return await resolve(nameOrPath, "model", options, {
    lacks: (folder, names) => lacksOfModel(folder, names, weights),
    fetch: async (repo, commit, settings) => {
      const files = await filesAt(repo, commit, settings, options.signal);
      const folder = await fetchFiles(repo, commit, modelFiles(files, repo, weights), settings, options);
      if (!weights) return folder;
      return await fetchFiles(repo, commit, await weightFiles(files, repo, folder), settings, options);
    },
  });
}

/**
 * The folder of a data set, as `resolveModel`; a path may also be a file.
 *
 * @param options `splits` to fetch, such as `train_prefs`; by default every one that the repository has. `config` is
 * one of the configurations of its README.md; by default the default one.
 */
export async function resolveDataset(
  nameOrPath: string,
  options: ResolveOptions & { splits?: readonly string[]; config?: string } = {},
): Promise<string> {
  const { splits, config, signal } = options;
  return await resolve(nameOrPath, "dataset", options, {
    lacks: async (folder, names) => lacksOfDataset(names, await readCard(folder), splits, config),
    fetch: async (repo, commit, settings) => {
      const files = await filesAt(repo, commit, settings, signal);
      const card = cardFile(files, repo);
      const text = card ? await readCard(await fetchFiles(repo, commit, [card], settings, options)) : "";
      return await fetchFiles(repo, commit, splitFiles(files, repo, text, splits, config), settings, options);
    },
  });
}

/** As `resolveModel`, of adapters (PEFT) without their base model. */
export async function resolveAdapter(nameOrPath: string, options: ResolveOptions = {}): Promise<string> {
  return await resolve(nameOrPath, "model", options, {
    lacks: (_, names) => Promise.resolve(ADAPTER_FILES.find((name) => !names.includes(name))),
    fetch: async (repo, commit, settings) => {
      const files = adapterFiles(await filesAt(repo, commit, settings, options.signal), repo);
      return await fetchFiles(repo, commit, files, settings, options);
    },
  });
}

/** Where a run's model and data are on this machine. */
export interface Sources {
  /** The model's folder. */
  model: string;
  /** The folder of the adapters that it goes on with. */
  adapter?: string;
  /** Files and folders of data, with the share of each. */
  mixer: DatasetShare[];
  /** The folder of another model that the loss's reference is. */
  reference?: string;
}

/** A configuration's paths as they stand. */
export function localSources(
  { modelNameOrPath, adapterNameOrPath, refModel, datasetMixer, datasetConfigs, columnMapping }: TrainConfig,
): Sources {
  return {
    model: modelNameOrPath,
    ...(adapterNameOrPath !== undefined && { adapter: adapterNameOrPath }),
    ...(refModel !== undefined && { reference: refModel }),
    mixer: datasetMixer.map((set, i) => ({
      ...set,
      config: datasetConfigs?.[i],
      ...(columnMapping && { columns: columnMapping }),
    })),
  };
}

/**
 * A configuration's model and data on this machine, fetched where they are on the Hub. Where every name is a path
 * already, neither the network nor the environment is looked at.
 *
 * @throws {UserError} as `resolveModel` and `resolveDataset`.
 */
export async function resolveSources(config: TrainConfig, options: ResolveOptions = {}): Promise<Sources> {
  const { doEval, datasetSplits, modelRevision, refModel } = config;
  const splits = ["train", ...doEval ? ["test"] : []].map((kind) =>
    datasetSplits.find((name) => name.includes(kind)) ?? kind
  );
  const model = await resolveModel(config.modelNameOrPath, {
    ...options,
    revision: modelRevision,
    weights: !config.fromScratch,
  });
  const adapter = config.adapterNameOrPath === undefined
    ? undefined
    : await resolveAdapter(config.adapterNameOrPath, options);
  const reference = refModel === undefined ? undefined : await resolveModel(refModel, options);
  const mixer: DatasetShare[] = [];
  for (const set of localSources(config).mixer) {
    mixer.push({ ...set, path: await resolveDataset(set.path, { ...options, splits, config: set.config }) });
  }
  return {
    model,
    mixer,
    ...(adapter !== undefined && { adapter }),
    ...(reference !== undefined && { reference }),
  };
}

/** The name of a model that is on the Hub, without its revision; undefined where it is a folder here. */
export function hubName({ modelNameOrPath }: TrainConfig, { model }: Sources): string | undefined {
  if (model === modelNameOrPath) return;
  return parseRepo(modelNameOrPath, "model")?.name;
}

/** How one kind of repository is had. */
interface Kind {
  /** The first thing that a folder with these files lacks to be used, or undefined. */
  lacks: (folder: string, names: string[]) => Promise<string | undefined>;
  /** Fetches what is missing; gives the snapshot's folder. */
  fetch: (repo: Repo, commit: string, settings: HubSettings) => Promise<string>;
}

async function resolve(
  nameOrPath: string,
  type: Repo["type"],
  options: ResolveOptions,
  kind: Kind,
): Promise<string> {
  if (await statOf(nameOrPath)) return nameOrPath;
  const shipped = await shippedPath(nameOrPath);
  if (shipped !== undefined) return shipped;
  const repo = parseRepo(nameOrPath, type, options.revision);
  if (!repo) return nameOrPath;
  const settings = options.settings ?? await hubSettings();
  const cached = await findCached(repo, settings, kind);
  const nowhere = `${nameOrPath}: no such folder here`;
  if (settings.offline) {
    if ("folder" in cached) return cached.folder;
    throw new UserError(
      `${nowhere}, and HF_HUB_OFFLINE is set while the cache ${cached.lacks}: unset it, or fetch with ` +
        `\`simper fetch ${nameOrPath}${
          type === "model" ? "" : " --repo_type=dataset"
        }\` where there is a network`,
    );
  }
  try {
    const commit = COMMIT.test(repo.revision)
      ? repo.revision
      : await commitOf(repo, settings, options.signal);
    return await kind.fetch(repo, commit, settings);
  } catch (error) {
    if (error instanceof Unreachable && "folder" in cached) {
      options.log?.("warning", `${error.message}; going on with the copy in the cache`);
      return cached.folder;
    }
    // The name may have been meant for a folder.
    const isNowhere = error instanceof Unreachable || (error instanceof Refused && error.httpStatus !== 403);
    throw isNowhere ? new UserError(`${nowhere}; ${error.message}`) : error;
  }
}

/** The usable snapshot that the cache has of a revision, or what it lacks. */
async function findCached(
  repo: Repo,
  settings: HubSettings,
  kind: Kind,
): Promise<{ folder: string } | { lacks: string }> {
  const cache = new RepoCache(settings.cache, repo);
  const commit = await cache.knownCommit();
  const nothing = { lacks: `${settings.cache} has nothing of ${repoLabel(repo)}` };
  if (commit === undefined) return nothing;
  const folder = cache.snapshot(commit);
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  if (names.length === 0) return nothing;
  const present: string[] = [];
  for (const name of names) {
    // A link whose blob was removed does not count.
    if (await statOf(`${folder}/${name}`)) present.push(name.replaceAll("\\", "/"));
  }
  const lacks = await kind.lacks(folder, present);
  return lacks === undefined ? { folder } : { lacks: `lacks ${lacks} of ${repoLabel(repo)}` };
}
