/** Trains and measures all that is compared, and keeps what is done. */
import { join } from "node:path";
import { openFound } from "../adapters/model.ts";
import { TRAINER_STATE } from "../checkpoint/names.ts";
import type { TrainerState } from "../checkpoint/trainer_state.ts";
import type { Comparison, Member } from "../config/comparison.ts";
import type { TrainConfig } from "../config/schema.ts";
import { cacheFolder } from "../files/cache_folder.ts";
import { rememberedHashes } from "../data/file_hash.ts";
import type { HashedFile } from "../data/hash.ts";
import { filesOf } from "../data/splits.ts";
import { UserError } from "../errors.ts";
import { readText } from "../evaluation/evaluate.ts";
import type { FetchEvents, Sources } from "../hub/hub.ts";
import { resolveModel, resolveSources } from "../hub/hub.ts";
import { isJudged, usesReference } from "../losses/loss.ts";
import { lossOf } from "../losses/losses.ts";
import type { TrainOptions } from "../run/options.ts";
import { train } from "../run/train.ts";
import { hashModel } from "../checkpoint/fingerprint.ts";
import { statOf } from "../files/stat_of.ts";
import { checkFolder, readTextFile } from "../files/whole_file.ts";
import type { Failure, MeasuredMember, MeasuredRun } from "./figures.ts";
import { changedFiles, findRun, type Kept } from "./kept.ts";
import { type Measurement, measureModel, type Measuring } from "./measure.ts";
import { isFacts } from "../report/run_report.ts";

/** A run of a comparison that is made now. */
export interface RunInHand {
  member: string;
  config: TrainConfig;
  /** Its place among all, from 1. */
  place: number;
  total: number;
  /** Until the last one is measured, if each takes as long as those before; not known of the first. */
  secondsLeft?: number;
}

/** Who hears of a comparison, and what stops it. */
export interface CompareOptions extends FetchEvents {
  readsOnly?: boolean;
  /** A run begins, or what was found of it is kept. */
  onRun?: (run: RunInHand) => void;
  /** What `train` is told for a run, besides `signal`, `log` and `onProgress`. */
  trainOptions?: (run: RunInHand) => TrainOptions;
  /** The last step of a run is done, and its result is saved; `isKept` where it can go on from a checkpoint. */
  onTrained?: (run: RunInHand, isKept: boolean) => void;
  /** A run is saved, and its model is measured. */
  onMeasure?: (run: RunInHand) => void;
}

/** What a comparison has come to. */
export interface ComparisonResult {
  device: string;
  version: string;
  split: string;
  text?: string;
  prompts: readonly string[];
  before: Measurement;
  members: MeasuredMember[];
  /** Whether a signal ended it. */
  isStopped: boolean;
}

/**
 * Makes every run of a comparison as `train` makes it, one after the other, in `output_dir/NAME/seed-N`, and measures
 * each model that it leaves. A run that is there is kept where its keys and files are the same, one that was stopped
 * goes on, and what was measured stands beside the folder in `seed-N.json`. A run whose numbers are not finite is
 * told of, and the others go on.
 *
 * Pairs are tokenized once, and found in the cache by every run; weights are read from the disk by each, as `train`
 * reads them.
 *
 * @throws {UserError} for what `train` refuses, of all runs at once before the first begins; for folders that hold
 * other runs.
 */
export async function compareRuns(
  comparison: Comparison,
  options: CompareOptions,
): Promise<ComparisonResult> {
  const { members, outputDir } = comparison;
  const { log = () => {}, onProgress, signal } = options;
  const text = comparison.text === undefined ? undefined : await readText(comparison.text);
  await checkFolder(outputDir);
  const found = await findRuns(members);
  const [{ runs: [shared] }] = members;
  const sources = await resolveSources({ ...shared, doEval: true }, { log, onProgress, signal });
  const split = shared.datasetSplits.find((name) => name.includes("test")) ?? "test";
  const files = await filesNow(shared, sources, split, options);
  const finished = [...found.values()].flat().filter(({ facts }) => facts);
  const changed: string[] = [];
  for (const { config, facts } of finished) {
    const reference = await referenceNow(config, sources.model, { log, onProgress, signal });
    const problems = changedFiles(facts!, { ...files, reference });
    changed.push(...problems.map((problem) => `${config.outputDir}: ${problem}`));
  }
  if (changed.length > 0) {
    throw new UserError(
      `what was finished was made of other files:\n  ${changed.join("\n  ")}\n` +
        "name another output_dir, or begin anew with --overwrite_output_dir",
      2,
      "OUTPUT_REFUSED",
    );
  }
  const measuring: Measuring = {
    config: shared,
    split,
    mixer: sources.mixer,
    files: files.test,
    ...(text !== undefined && { text: { content: text, file: comparison.text! } }),
    maxNewTokens: comparison.maxNewTokens,
  };
  const events = { log, onProgress, signal, readsOnly: options.readsOnly };
  const before = await measureModel(sources.model, join(outputDir, "before.json"), measuring, {
    ...events,
    adapter: sources.adapter,
  });

  const total = members.reduce((sum, { runs }) => sum + runs.length, 0);
  if (finished.length > 0) log("info", `${finished.length} of ${total} runs are there and kept`);
  const start = performance.now();
  let [place, made] = [0, 0];
  const measured = new Map(
    members.map((member) => [member, { runs: [] as MeasuredRun[], failures: [] as Failure[] }]),
  );
  const result: ComparisonResult = {
    ...{ device: "", version: "", split, prompts: shared.prompts, before, isStopped: false },
    ...(comparison.text !== undefined && { text: comparison.text }),
    members: members.map((member) => ({ name: member.name, keys: member.keys, ...measured.get(member)! })),
  };
  const left = () => total - finished.length - made;
  // Seed by seed, so that one that is stopped has something of everything.
  for (const i of comparison.seeds.keys()) {
    for (const member of members) {
      const { config, facts } = found.get(member)![i];
      place++;
      const seconds = (performance.now() - start) / 1000;
      const run: RunInHand = {
        ...{ member: member.name, config, place, total },
        ...(made > 0 && { secondsLeft: seconds / made * left() }),
      };
      options.onRun?.(run);
      const { runs, failures } = measured.get(member)!;
      try {
        if (!facts && !await trainRun(run, options)) return { ...result, isStopped: true };
        options.onMeasure?.(run);
        signal?.throwIfAborted();
        const path = `${config.outputDir}.json`;
        // What is to be said of the pairs was said when the first model was measured.
        const measurement = await measureModel(config.outputDir, path, measuring, {
          ...events,
          log: (_, message) => log("debug", message),
        });
        runs.push({ ...await readRun(config, result), measurement });
      } catch (error) {
        if (signal?.aborted && error === signal.reason) return { ...result, isStopped: true };
        if (!(error instanceof UserError)) throw error;
        const what = `${member.name}, seed ${config.seed}`;
        if (error.code !== "NOT_FINITE") {
          throw new UserError(`${what}: ${error.message}`, error.status, error.code);
        }
        log("warning", `${what}: ${error.message}`);
        failures.push({ seed: config.seed, why: error.message.split("\n", 1)[0] });
      }
      if (!facts) made++;
    }
  }
  return result;
}

/** What every run's folder holds; all that is wrong is told at once. */
async function findRuns(members: readonly Member[]): Promise<Map<Member, Kept[]>> {
  const problems: UserError[] = [];
  const found = new Map<Member, Kept[]>();
  for (const member of members) {
    const kept: Kept[] = [];
    for (const config of member.runs) {
      try {
        kept.push(await findRun(config));
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        problems.push(error);
      }
    }
    found.set(member, kept);
  }
  if (problems.length === 0) return found;
  const messages = [...new Set(problems.map(({ message }) => message))];
  throw new UserError(messages.join("\n"), problems[0].status, problems[0].code);
}

/** The files that a run reads, as they are now. */
async function filesNow(
  config: TrainConfig,
  { model, adapter, mixer }: Sources,
  split: string,
  { onProgress }: FetchEvents,
): Promise<Record<"model" | "train" | "test", HashedFile[]>> {
  const opened = await openFound({ folder: model, adapter });
  await opened.close();
  const trainSplit = config.datasetSplits.find((name) => name.includes("train")) ?? "train";
  const hashes = async (split: string) => {
    const paths = [];
    for (const { path, config } of mixer) {
      if (split !== trainSplit && (await statOf(path))?.isFile()) {
        throw new UserError(
          `dataset_mixer: ${path}: a comparison is measured on pairs that no run trains on: expected a ` +
            `folder with files for the splits ${trainSplit} and ${split}, found a file`,
        );
      }
      paths.push(...await filesOf(path, split, config));
    }
    return await rememberedHashes(paths, cacheFolder(), "hashing data", onProgress);
  };
  return {
    model: await hashModel(model, opened.files, onProgress),
    train: await hashes(trainSplit),
    test: await hashes(split),
  };
}

/** The files of another model that a run has as its reference, as they are now. */
async function referenceNow(
  { refModel }: TrainConfig,
  model: string,
  events: FetchEvents,
): Promise<HashedFile[] | undefined> {
  const folder = refModel === undefined ? model : await resolveModel(refModel, events);
  if (folder === model) return;
  const opened = await openFound({ folder });
  await opened.close();
  return await hashModel(folder, opened.files, events.onProgress);
}

/** @returns false where a signal stopped it. */
async function trainRun(run: RunInHand, options: CompareOptions): Promise<boolean> {
  const { log, onProgress, signal, readsOnly } = options;
  await using outcome = await train(run.config, {
    ...options.trainOptions?.(run),
    ...{ onLog: log, onProgress, signal, readsOnly },
  });
  if (outcome.isStopped) return false;
  options.onTrained?.(run, outcome.isKept);
  await outcome.save({ signal });
  return true;
}

/** What a finished run says of itself. */
async function readRun(
  config: TrainConfig,
  result: Pick<ComparisonResult, "device" | "version">,
): Promise<Omit<MeasuredRun, "measurement">> {
  const { outputDir, seed, perDeviceTrainBatchSize } = config;
  const loss = lossOf(config);
  const pairsPerRow = isJudged(loss) ? 0.5 : 1;
  const read = async (name: string) => JSON.parse(await readTextFile(join(outputDir, name)));
  const [state, facts]: [TrainerState, unknown] = [await read(TRAINER_STATE), await read("report.json")];
  if (!isFacts(facts)) throw new UserError(`${join(outputDir, "report.json")}: is not what a run writes`);
  Object.assign(result, { device: facts.device, version: facts.version });
  return {
    seed,
    log: state.log_history,
    ...(typeof facts.memoryBytes === "number" && { memoryBytes: facts.memoryBytes }),
    pairsPerPass: perDeviceTrainBatchSize * pairsPerRow,
    ...{ pairsPerRow, usesReference: usesReference(loss) },
  };
}
