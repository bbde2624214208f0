/** The reference model's sums of every pair that a run looks at: from the cache, or computed before the first step. */
import { join } from "node:path";
import { cacheFolder, removeOrphans } from "../files/cache_folder.ts";
import type { TrainConfig } from "../config/schema.ts";
import { sha256 } from "../data/file_hash.ts";
import type { HashedFile } from "../data/hash.ts";
import { any, gather } from "../distributed/collectives.ts";
import { alone, type Communicator } from "../distributed/communicator.ts";
import type { PairStore } from "../data/store.ts";
import { readSums, writeSums } from "../data/sums_file.ts";
import { ALONE } from "../distributed/grid.ts";
import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Pipelines } from "../gpu/program.ts";
import type { TuningRecord } from "../gpu/tuning.ts";
import type { Decoder } from "../graph/decoder.ts";
import { heed } from "../progress/heed.ts";
import { unitOf } from "../losses/loss.ts";
import { type ReferenceBatches, referenceBatches, referenceIsOfItsOwn } from "../planning/batches.ts";
import type { Prepared } from "../planning/prepare.ts";
import type { OnProgress } from "../progress/progress.ts";
import { evaluate } from "../training/evaluate.ts";
import { VERSION } from "../program/version.ts";

/** To be raised with every change of what the sums follow from. */
const FORMAT = 2;
/** Milliseconds after which what was computed goes to the disk, so that a killed run need not begin again. */
const SAVED_EVERY = 60_000;

/** What the sums are computed with, and who hears of it. */
export interface ReferenceRun {
  config: TrainConfig;
  prepared: Prepared;
  gpu: Gpu;
  pipelines: Pipelines;
  /** The reference model's, planned and not allocated. */
  decoder: Decoder;
  /** Its files, as they are hashed. */
  files: readonly HashedFile[];
  /** How its products are computed: other kernels round differently. */
  kernels: TuningRecord;
  /** Fills the decoder's weights. */
  load: () => Promise<void>;
  /** The stages that the decoder is one of; by default it is the whole model. */
  pipeline?: Communicator;
  log: (level: "debug" | "info" | "warning", message: string) => void;
  onProgress?: OnProgress;
  signal?: AbortSignal;
}

/** The sums of one split. */
interface Split {
  store: PairStore;
  /** Of its file in the cache. */
  name: string;
  sums: Float32Array<ArrayBuffer>;
  missing: number[][];
}

/**
 * Gives both splits of `prepared` their reference's sums. What the cache lacks is computed; then the decoder's memory
 * is given back. The cache's file is named by all that the sums follow from: pairs, weights, device and kernels among
 * it, so that a resumed run has the same bits.
 *
 * @throws {UserError} for a pair whose sum is not finite; the reason of `signal`.
 */
export async function addReference(run: ReferenceRun): Promise<void> {
  const { config, prepared, log } = run;
  const folder = join(cacheFolder(), "reference");
  await removeOrphans(folder);
  const { train, test } = referenceBatches(prepared, config);
  const own = [await openSplit(run, folder, prepared.train, train)];
  if (prepared.test) own.push(await openSplit(run, folder, prepared.test, test));
  // What stages have in a cache of their own may be another part.
  const { pipeline = alone } = run;
  const first = await gather(
    pipeline,
    pipeline.rank > 0 ? [] : own.map(({ sums, missing }) => ({ sums, missing })),
  );
  const splits = own.map((split, i) => ({ ...split, ...first[0][i] }));
  const pairs = splits.reduce((sum, { missing }) => sum + missing.flat().length, 0);
  if (pairs === 0) log("debug", `the reference's log-probabilities were found in ${folder}`);
  else await compute(run, folder, splits, pairs);
  for (const { store, sums } of splits) store.reference = sums;
}

/** What is to be said of a run that goes on with sums of other batches than it would begin with now. */
export function keptReference(
  { reference, sampler, begunSteps, totalSteps }: Prepared,
  config: TrainConfig,
): string | undefined {
  if (!reference || begunSteps === undefined) return undefined;
  const [before, now] = [begunSteps, totalSteps].map((steps) => referenceIsOfItsOwn(sampler, steps, config));
  if (before === now) return undefined;
  return `max_steps: the run was to end after ${begunSteps} steps, and its reference's log-probabilities ` +
    "stay those of the batches that it began with: the numbers may differ in their last digits from those of " +
    `a run that was to have ${totalSteps} steps from the beginning`;
}

async function openSplit(
  { config, prepared, gpu, files, kernels, log }: ReferenceRun,
  folder: string,
  store: PairStore,
  { batches, cut }: ReferenceBatches,
): Promise<Split> {
  const name = sha256(JSON.stringify({
    format: FORMAT,
    version: VERSION,
    pairs: store.id,
    cut,
    ldAlpha: config.ldAlpha ?? 1,
    files: files.map(({ sha256 }) => sha256),
    storage: prepared.reference?.net.parameters.map(({ storage = "f32" }) => storage),
    seed: config.fromScratch && !prepared.reference?.folder ? config.seed : null,
    device: gpu.name,
    kernels,
  }));
  const cached = config.overwriteCache ? undefined : await readSums(join(folder, name), store.length);
  if (cached === "damaged") {
    log(
      "warning",
      `${join(folder, name)}: the reference's cached log-probabilities are damaged: computing again`,
    );
  }
  const sums = cached instanceof Float32Array ? cached : new Float32Array(2 * store.length).fill(NaN);
  const missing = batches.filter((batch) => batch.some((pair) => Number.isNaN(sums[2 * pair])));
  return { store, name, sums, missing };
}

async function compute(run: ReferenceRun, folder: string, splits: Split[], pairs: number): Promise<void> {
  const { gpu, pipelines, decoder, log, onProgress, signal, pipeline = alone } = run;
  const unit = unitOf(run.prepared.loss);
  const progress = { what: "reference log-probabilities", total: pairs, unit };
  pipelines.expect(decoder.forward);
  await decoder.allocate(gpu, pipelines);
  try {
    log(
      "debug",
      `allocated ${decoder.plan.allocatedBytes} bytes for the reference, planned ${decoder.plan.bytes}`,
    );
    await run.load();
    const start = performance.now();
    let done = 0;
    for (const split of splits) {
      const save = () =>
        writeSums(folder, split.name, split.sums).catch((error) => {
          if (!(error instanceof UserError)) throw error;
          // They are in memory, and a run is worth more than what the next one saves.
          log("warning", error.message);
        });
      let saved = performance.now();
      try {
        for (const batch of split.missing) {
          onProgress?.({ ...progress, done });
          // All stages stop before the same batch.
          const isStopping = await any(pipeline, signal?.aborted ?? false);
          await heed(isStopping ? AbortSignal.abort(signal?.reason) : signal);
          await addSums(run, split, batch);
          done += batch.length;
          if (performance.now() - saved < SAVED_EVERY) continue;
          await save();
          saved = performance.now();
        }
      } finally {
        if (split.missing.length > 0) await save();
      }
    }
    onProgress?.({ ...progress, done });
    const seconds = (performance.now() - start) / 1000;
    log(
      "info",
      `reference: ${pairs} ${unit} in ${seconds.toFixed(1)} s, ${
        Number((pairs / seconds).toPrecision(3))
      } a second`,
    );
  } finally {
    decoder.destroy();
  }
}

async function addSums(
  { gpu, decoder, pipeline = alone }: ReferenceRun,
  { store, sums }: Split,
  batch: number[],
): Promise<void> {
  const pairs = {
    length: batch.length,
    read: (indices: readonly number[]) => store.read(indices.map((i) => batch[i])),
  };
  const results = (await evaluate(gpu, decoder, pairs, batch.length, { ranks: { ...ALONE, pipeline } }))!;
  for (const [i, { chosen, rejected }] of results.entries()) {
    if (!Number.isFinite(chosen + rejected)) {
      const [name, value] = Number.isFinite(chosen) ? ["rejected", rejected] : ["chosen", chosen];
      throw new UserError(
        `${
          store.where(batch[i])
        }: the reference model's log-probability of ${name} is ${value}: look at that pair, and check ` +
          "that the model's weights are finite",
        1,
        "NOT_FINITE",
      );
    }
  }
  // All at once: a batch is there whole or not at all.
  for (const [i, { chosen, rejected }] of results.entries()) sums.set([chosen, rejected], 2 * batch[i]);
}
