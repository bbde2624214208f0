/** What a run's weights follow from, as far as another machine can be compared with it. */
import { createHash } from "node:crypto";
import { basename, dirname } from "node:path";
import process from "node:process";
import type { TrainConfig } from "../config/schema.ts";
import { responsesOf, type Sequence } from "../data/pair.ts";
import type { TuningRecord } from "../gpu/tuning.ts";
import type { Sources } from "../hub/hub.ts";
import { COMMIT } from "../hub/repo.ts";
import type { Prepared } from "../planning/prepare.ts";
import { sampleStep } from "../training/sampler.ts";
import { VERSION } from "../program/version.ts";
import type { Division } from "./division.ts";
import type { Fingerprint, SavedRun } from "./state.ts";

/** The program and what runs it. */
export interface Program {
  /** This program's version. */
  version: string;
  /** What runs it, such as `Deno/2.9.6`. */
  engine: string;
  /** System and processor, such as `linux x64`. */
  platform: string;
}

/** Those, and the adapter. */
export interface Machine extends Program {
  /** As its driver names it. */
  device: string;
  /** How products are computed on it. */
  kernels: TuningRecord;
}

/** A response as the model sees it: its first ids, and how many there are. */
export interface FirstTokens {
  tokens: number;
  promptLength: number;
  ids: number[];
  labels: number[];
  /** Of all ids, as JSON. */
  sha256: string;
}

/** A pair of the first step, by its place in the data. */
export interface FirstPair {
  index: number;
  /** Of unpaired data: what was said of the response. */
  desirable?: boolean;
  responses: FirstTokens[];
}

/** What report.json says of where a run's weights come from. */
export interface Provenance extends Machine {
  /** How several ranks divided the work, where there were. */
  division?: Division;
  /** The keys of the run file, and hashes of what it names. */
  run: Fingerprint;
  /** The commits of what is from the Hub; of data, of each set of `dataset_mixer`. */
  revisions: Record<"model" | "adapter" | "reference", string | null> & { data: (string | null)[] };
  /** Steps of the whole run, and training pairs. */
  steps: number;
  trainPairs: number;
  pairs: FirstPair[];
  /** The versions, adapters and ranks of the runs that this one goes on with, and after how many steps. */
  resumed?: { step: number; version: string; device: string; division?: Division }[];
}

/** Pairs that are kept, and ids of each of their responses. */
const FIRST_PAIRS = 3;
const FIRST_TOKENS = 16;

/** What is known of a run when it begins. */
export async function provenanceOf(
  config: TrainConfig,
  prepared: Prepared,
  run: Fingerprint,
  where: Pick<Provenance, "device" | "kernels" | "division">,
  before?: SavedRun,
): Promise<Provenance> {
  return {
    ...thisProgram(),
    ...where,
    run,
    revisions: revisionsOf(config, prepared.sources),
    steps: prepared.totalSteps,
    trainPairs: prepared.train.length,
    pairs: await firstPairs(prepared),
    ...(before && { resumed: [resumedFrom(before)] }),
  };
}

const resumedFrom = ({ state: { step, version, device, division } }: SavedRun) => ({
  ...{ step, version, device },
  ...(division && { division }),
});

/** This program in this process. */
export const thisProgram = (): Program => ({
  version: VERSION,
  engine: navigator.userAgent,
  platform: `${process.platform} ${process.arch}`,
});

/** The first pairs of the first step, in their order there. */
export async function firstPairs(
  { train, sampler }: Pick<Prepared, "train" | "sampler">,
): Promise<FirstPair[]> {
  const found: FirstPair[] = [];
  for (const indices of sampleStep(0, sampler).batches) {
    if (found.length >= FIRST_PAIRS) break;
    for (const [i, pair] of (await train.read(indices)).entries()) {
      const { desirable } = pair;
      const responses = responsesOf(pair).map(firstTokens);
      found.push({ index: indices[i], ...(desirable !== undefined && { desirable }), responses });
    }
  }
  return found.slice(0, FIRST_PAIRS);
}

function firstTokens({ ids, promptLength }: Sequence): FirstTokens {
  return {
    tokens: ids.length,
    promptLength,
    ids: ids.slice(0, FIRST_TOKENS),
    labels: ids.slice(promptLength, promptLength + FIRST_TOKENS),
    sha256: createHash("sha256").update(JSON.stringify(ids)).digest("hex"),
  };
}

function revisionsOf(
  { modelNameOrPath, adapterNameOrPath, refModel, datasetMixer }: TrainConfig,
  { model, adapter, reference, mixer }: Sources,
): Provenance["revisions"] {
  // A snapshot's folder in the cache is named after its commit.
  const revision = (folder: string | undefined, name: string | undefined) =>
    folder !== undefined && folder !== name && basename(dirname(folder)) === "snapshots" &&
      COMMIT.test(basename(folder))
      ? basename(folder)
      : null;
  return {
    model: revision(model, modelNameOrPath),
    adapter: revision(adapter, adapterNameOrPath),
    reference: revision(reference, refModel),
    data: mixer.map(({ path }, i) => revision(path, datasetMixer[i]?.path)),
  };
}
