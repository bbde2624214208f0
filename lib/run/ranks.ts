/** What the ranks of a run have to have in common, and who says what. */
import { rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { changedFiles, configRecord } from "../checkpoint/fingerprint.ts";
import type { Fingerprint } from "../checkpoint/state.ts";
import { keyOf, type TrainConfig } from "../config/schema.ts";
import { Adder, adderThreads } from "../distributed/adder.ts";
import { gather } from "../distributed/collectives.ts";
import type { Communicator } from "../distributed/communicator.ts";
import type { Grid } from "../distributed/grid.ts";
import { UserError } from "../errors.ts";
import type { Net } from "../graph/net.ts";
import type { Gpu } from "../gpu/device.ts";
import { show } from "../text/json.ts";
import { statOf } from "../files/stat_of.ts";
import { VERSION } from "../program/version.ts";
import type { TrainOptions } from "./options.ts";

type Passes = Pick<
  TrainConfig,
  "perDeviceTrainBatchSize" | "gradientAccumulationSteps" | "numGpus" | "pipelineParallelSize"
>;

/**
 * The passes that each rank makes of a step, or its part of, as a stage of a pipeline; the step's pairs are the same
 * however many ranks there are.
 * @throws {UserError} (status 2) where they cannot be divided.
 */
export function passesOfRank(
  { perDeviceTrainBatchSize, gradientAccumulationSteps, numGpus, pipelineParallelSize: stages }: Passes,
  { size }: Pick<Communicator, "size">,
): number {
  const passes = gradientAccumulationSteps * numGpus;
  const pipelines = size / stages;
  if (Number.isInteger(pipelines) && passes % pipelines === 0) return passes / pipelines;
  const fitting = Array.from({ length: passes }, (_, i) => i + 1).filter((count) => passes % count === 0)
    .map((count) => count * stages);
  const counts = fitting.join(" or ");
  // Of a step with as many pairs, so many times the passes would divide.
  const times = Array.from({ length: perDeviceTrainBatchSize }, (_, i) => i + 1)
    .find((times) => perDeviceTrainBatchSize % times === 0 && passes * times % pipelines === 0);
  const change = times === undefined
    ? "or change what a step is"
    : `or, for a step of as many pairs, --per_device_train_batch_size=${perDeviceTrainBatchSize / times} ` +
      `--gradient_accumulation_steps=${gradientAccumulationSteps * times}`;
  throw new UserError(
    Number.isInteger(pipelines)
      ? `gradient_accumulation_steps x num_gpus: ${gradientAccumulationSteps} x ${numGpus} = ${passes} passes a ` +
        `step do not divide over ${size} ranks${
          stages > 1 ? `, ${pipelines} pipelines of ${stages}` : ""
        }: start ` +
        `${counts}, ${change}`
      : `pipeline_parallel_size: ${stages} stages want as many ranks or a multiple, and there ${
        size === 1 ? "is 1" : `are ${size}`
      }: ` +
        `start ${counts} (mpirun -n ${stages})`,
    2,
  );
}

/**
 * That zero_stage does nothing, where there is nobody to share with.
 * @param how what would change that.
 */
export function idleZeroStage(
  { zeroStage, pipelineParallelSize: stages }: Pick<TrainConfig, "zeroStage" | "pipelineParallelSize">,
  { size }: Pick<Communicator, "size">,
  how = "mpirun -n N starts several",
): string | undefined {
  if (zeroStage === 0 || size > stages) return;
  return `zero_stage: ignored: there is one ${stages === 1 ? "rank" : `pipeline of ${stages} ranks`}; ${how}`;
}

/** What of a run the ranks have, for people; `net` is the first one's. */
export function describeRanks({ data, pipeline }: Grid, passes: number, net: Net): string {
  const count = data.size * pipeline.size;
  if (pipeline.size === 1) return `${count} ranks: of the passes of a step each makes ${passes}`;
  const layers = `of the model's layers the first stage has ${net.layers.length}`;
  return data.size === 1
    ? `${count} ranks, a stage of the model each: ${layers}`
    : `${count} ranks, ${data.size} pipelines of ${pipeline.size} stages: of the passes of a step each pipeline makes ` +
      `${passes}; ${layers}`;
}

/** What differs in a rank from the first one is told of it on each of them. */
async function refuseOthers<T>(
  communicator: Communicator,
  own: T,
  differences: (other: T, first: T) => string[],
): Promise<void> {
  const all = await gather(communicator, { host: hostname(), own });
  const [first, ...others] = all;
  const problems = others.flatMap(({ host, own }, i) =>
    differences(own, first.own).map((problem) => `rank ${i + 1} on ${host}: ${problem}`)
  );
  if (problems.length === 0) return;
  throw new UserError(
    `the ranks would not train the same; beside rank 0 on ${first.host}:\n  ${problems.join("\n  ")}`,
    2,
  );
}

/**
 * Refuses ranks of another program or configuration: from here on they would not even call the same methods.
 * @throws {UserError} (status 2) on each of them, naming what differs from the first rank.
 */
export async function checkSameKeys(communicator: Communicator, config: TrainConfig): Promise<void> {
  const own = { version: VERSION, runtime: navigator.userAgent, keys: configRecord(config) };
  await refuseOthers(communicator, own, ({ version, runtime, keys }, first) => {
    const found = version === first.version ? [] : [`simper ${version}, and not ${first.version}`];
    if (runtime !== first.runtime) found.push(`${runtime}, and not ${first.runtime}`);
    for (const key of new Set([...Object.keys(first.keys), ...Object.keys(keys)])) {
      const [there, here] = [first.keys[key], keys[key]];
      // Which GPU of its machine a rank takes is its own affair.
      if (key === keyOf("gpuId") || JSON.stringify(there) === JSON.stringify(here)) continue;
      found.push(`${key}: ${show(here)}, and not ${show(there)}`);
    }
    return found;
  });
}

/**
 * Refuses ranks that would not compute parts of the same run.
 *
 * @param run this rank's files.
 * @param start the checkpoint that it goes on from, with the hashes of its files; undefined where it begins anew.
 * @throws {UserError} (status 2) on each of them, naming what differs from the first rank.
 */
export async function checkSameFiles(
  communicator: Communicator,
  run: Fingerprint,
  start?: { step: number; files: Record<string, string> },
): Promise<void> {
  const see = "both have to see the same folder";
  await refuseOthers(communicator, { run, start }, ({ run, start }, first) => {
    const found = changedFiles(run, first.run);
    if (start?.step !== first.start?.step) {
      const told = (step?: number) => step === undefined ? "begins anew" : `goes on after step ${step}`;
      found.push(`output_dir: it ${told(start?.step)}, and rank 0 ${told(first.start?.step)}: ${see}`);
    } else {
      const [files, there] = [start?.files ?? {}, first.start?.files ?? {}];
      const other = [...new Set([...Object.keys(files), ...Object.keys(there)])]
        .filter((name) => files[name] !== there[name]);
      if (other.length > 0) {
        found.push(`output_dir: of its checkpoint other files than rank 0's: ${other.join(", ")}: ${see}`);
      }
    }
    return found;
  });
}

/**
 * Refuses ranks that do not see the first one's folder, where all are to read from it.
 * @throws {UserError} (status 2) on each of them.
 */
export async function checkSharedFolder(communicator: Communicator, folder: string): Promise<void> {
  if (communicator.size === 1) return;
  const isFirst = communicator.rank === 0;
  const [name] = await gather(communicator, `.rank-0-${crypto.randomUUID()}`);
  const path = join(folder, name);
  if (isFirst) await writeFile(path, "");
  await gather(communicator, null);
  const all = await gather(communicator, { host: hostname(), isSeen: await statOf(path) !== undefined });
  if (isFirst) await rm(path);
  const blind = all.findIndex(({ isSeen }) => !isSeen);
  if (blind < 0) return;
  throw new UserError(
    `output_dir: rank ${blind} on ${all[blind].host} does not see the ${folder} of rank 0 on ${
      all[0].host
    }, and with ` +
      "load_best_model_at_end all read the best checkpoint there: name a folder that all hosts share",
    2,
  );
}

/**
 * Refuses ranks on adapters that may round differently, since each makes the update for itself, and two ranks on one
 * adapter unless `share_gpu` is set.
 *
 * @returns how many ranks have this one's adapter, itself among them.
 * @throws {UserError} on each of them.
 */
export async function checkAdapters(
  communicator: Communicator,
  { name, selection }: Pick<Gpu, "name" | "selection">,
  { shareGpu }: Pick<TrainConfig, "shareGpu">,
): Promise<number> {
  const own = { host: hostname(), name, selection };
  const all = await gather(communicator, own);
  const other = all.findIndex((of) => of.name !== name);
  if (other >= 0) {
    const [a, b] = [communicator.rank, other].sort((a, b) => a - b);
    throw new UserError(
      `ranks ${a} and ${b} have other adapters, ${all[a].name} and ${
        all[b].name
      }, which may round differently: ` +
        "start ranks on GPUs of one kind; gpu_id chooses among those of a machine",
    );
  }
  const groups = Map.groupBy(all.keys(), (rank) => JSON.stringify(all[rank]));
  const shared = [...groups.values()].find(({ length }) => length > 1);
  if (shared && !shareGpu) {
    throw new UserError(
      `ranks ${shared.join(" and ")} have one adapter, ${name} on ${
        all[shared[0]].host
      }: start as many as there are ` +
        "GPUs, each where it sees its own (DRI_PRIME=pci-..., a container), or let them share it: share_gpu: true",
      2,
    );
  }
  return groups.get(JSON.stringify(own))!.length;
}

/** Adds up gradients on as many threads as this machine has for each of its ranks. */
export async function openAdder(
  communicator: Communicator,
  { data }: Grid,
  { isSoftware }: Pick<Gpu, "isSoftware">,
): Promise<Adder> {
  const own = hostname();
  const neighbours = (await gather(communicator, own)).filter((host) => host === own).length;
  // A driver on the processor has all cores at work.
  const isFree = data.size > 1 && !isSoftware;
  return new Adder(isFree ? adderThreads(navigator.hardwareConcurrency, neighbours) : 0);
}

type OnLog = NonNullable<TrainOptions["onLog"]>;

/** What a rank says: the first one all it has to, each other only warnings that the first one has not. */
export class RankLog {
  /** Until the ranks have told each other. */
  #warnings?: string[] = [];

  constructor(readonly communicator: Communicator, readonly onLog: OnLog) {}

  readonly log: OnLog = (level, message) => {
    const { rank } = this.communicator;
    if (rank === 0) this.onLog(level, message);
    if (level !== "warning") return;
    if (this.#warnings) this.#warnings.push(message);
    else if (rank > 0) this.onLog(level, `rank ${rank}: ${message}`);
  };

  /** The first rank says what the others were warned of, and it was not. */
  async tell(): Promise<void> {
    const [own, ...others] = await gather(this.communicator, this.#warnings ?? []);
    this.#warnings = undefined;
    if (this.communicator.rank > 0) return;
    for (const [i, warnings] of others.entries()) {
      for (const message of warnings) {
        if (!own.includes(message)) this.onLog("warning", `rank ${i + 1}: ${message}`);
      }
    }
  }
}
