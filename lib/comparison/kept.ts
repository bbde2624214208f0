/** What a comparison finds of its runs in their folders. */
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { listCheckpoints, REPORT, RESULTS, TRAINER_STATE } from "../checkpoint/names.ts";
import { FIELDS, keyOf, KEYS, type TrainConfig } from "../config/schema.ts";
import { configEntries } from "../config/write.ts";
import type { HashedFile } from "../data/hash.ts";
import { UserError } from "../errors.ts";
import { isObject, shorten } from "../text/json.ts";
import { isFacts, type RunFacts, settingText } from "../report/run_report.ts";
import { checkOutputFolder } from "../run/save.ts";
import { readTextFile } from "../files/whole_file.ts";

/** A run that is to be made or gone on with, or one that has been made. */
export interface Kept {
  config: TrainConfig;
  /** Of a run that has ended, what it says of itself. */
  facts?: RunFacts;
}

/** Keys that a resumed run may have otherwise, and whose change makes a finished one another. */
const MADE_WITH: ReadonlySet<keyof TrainConfig> = new Set<keyof TrainConfig>([
  ...["numTrainEpochs", "maxSteps", "loadBestModelAtEnd", "metricForBestModel"] as const,
]);

/**
 * What the folder of a run holds: nothing, the beginning of this run, or the whole of it.
 *
 * @throws {UserError} (status 2) where it holds another run, or something else.
 */
export async function findRun(config: TrainConfig): Promise<Kept> {
  if (config.overwriteOutputDir) {
    await checkOutputFolder(config);
    return { config };
  }
  const { outputDir } = config;
  const names: string[] = await readdir(outputDir).catch(() => []);
  const facts = await readFacts(outputDir);
  if (facts && [TRAINER_STATE, RESULTS].every((name) => names.includes(name))) {
    const changed = differences(facts, config);
    if (changed.length === 0) return { config, facts };
    throw new UserError(
      `${outputDir} holds a finished run of other keys:\n  ${changed.join("\n  ")}\n` +
        "give what is compared another name, name another output_dir, or begin anew with --overwrite_output_dir",
      2,
      "OUTPUT_REFUSED",
    );
  }
  try {
    await checkOutputFolder(config);
    return { config };
  } catch (error) {
    // Of a run that was killed while it saved its result, and has no checkpoint, nothing can be used.
    const isOurs = facts && differences(facts, config).length === 0;
    if (!isOurs || (await listCheckpoints(outputDir)).length > 0) throw error;
    const anew = { ...config, overwriteOutputDir: true };
    await checkOutputFolder(anew);
    return { config: anew };
  }
}

/** Where the files that a run has read are others now. */
export function changedFiles(
  { modelFiles, dataFiles, provenance }: RunFacts,
  now: {
    model: readonly HashedFile[];
    /** Of `ref_model`, where the run has one. */
    reference?: readonly HashedFile[];
    train: readonly HashedFile[];
    test: readonly HashedFile[];
  },
): string[] {
  const model = new Map(now.model.map(({ path, sha256 }) => [basename(path), sha256]));
  const changed = modelFiles.filter(({ path, sha256 }) => model.get(basename(path)) !== sha256);
  const hashes = (files: readonly HashedFile[]) => files.map(({ sha256 }) => sha256).join();
  const isSame = [now.train, [...now.train, ...now.test]].some((files) =>
    hashes(files) === hashes(dataFiles)
  );
  const before = provenance?.run.reference ?? {};
  const reference = now.reference?.filter(({ path, sha256 }) => before[basename(path)] !== sha256) ?? [];
  return [
    ...reference.map(({ path }) => `ref_model: ${basename(path)} is another file`),
    ...changed.map(({ path }) => `model_name_or_path: ${basename(path)} is another file`),
    ...isSame ? [] : ["dataset_mixer: the data are others (by SHA-256)"],
  ];
}

async function readFacts(folder: string): Promise<RunFacts | undefined> {
  try {
    const value: unknown = JSON.parse(await readTextFile(join(folder, REPORT)));
    return isObject(value) && isFacts(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The keys in which a run differs from what it would be now. */
function differences({ settings }: RunFacts, config: TrainConfig): string[] {
  const there = new Map(settings);
  const now = new Map(configEntries(config).map(([key, value]) => [key, settingText(value)]));
  const fields = FIELDS.filter((field) =>
    (!KEYS[field].mayChange || MADE_WITH.has(field)) && !(field === "numTrainEpochs" && config.maxSteps > 0)
  );
  const keys = fields.flatMap((field) => {
    const key = keyOf(field);
    const { default: value } = KEYS[field];
    // Of before there was such a key, and of one that this loss does not read.
    const standard = value === undefined ? "nothing" : settingText(value);
    const [before, after] = [there, now].map((keys) => keys.get(key) ?? standard);
    return before === after ? [] : [`${key}: ${shorten(before)} there, ${shorten(after)} now`];
  });
  const shares = (text = "") => text.split("\n").map((line) => line.slice(line.lastIndexOf(": "))).join();
  return shares(there.get("dataset_mixer")) === shares(now.get("dataset_mixer"))
    ? keys
    : [...keys, "dataset_mixer: other shares"];
}
