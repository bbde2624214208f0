/** Which pairs of a run go through a pass together, and how large that makes the passes. */
import type { PackedSizes } from "../data/pair.ts";
import type { TrainConfig } from "../config/schema.ts";
import type { Capacity } from "../graph/machine.ts";
import { type SamplerOptions, sampleStep, stepsPerEpoch } from "../training/sampler.ts";

/** The micro-batches of all steps, by the indices of their pairs. */
export function* trainBatches(sampler: SamplerOptions, totalSteps: number): Generator<number[]> {
  for (let step = 0; step < totalSteps; step++) yield* sampleStep(step, sampler).batches;
}

/** The indices of `pairs` pairs in their order, `perBatch` at a time. */
export function* consecutive(pairs: number, perBatch: number): Generator<number[]> {
  for (let at = 0; at < pairs; at += perBatch) {
    yield Array.from({ length: Math.min(perBatch, pairs - at) }, (_, i) => at + i);
  }
}

/** Batches of a split, and what says which pairs are in one: by rounding a pair's sums depend on it. */
export interface ReferenceBatches {
  batches: number[][];
  cut: { perBatch: number; drawn?: Pick<SamplerOptions, "seed"> };
}

/** Whether a run of so many steps has the sums of its reference by its own micro-batches: see `referenceBatches`. */
export const referenceIsOfItsOwn = (sampler: SamplerOptions, steps: number, config: TrainConfig): boolean =>
  config.precomputeRefBatchSize === undefined && sampler.strategy === "random" &&
  steps < stepsPerEpoch(sampler);

/**
 * The batches with every pair whose reference a run looks at: those of its steps, and all that it evaluates. A run that
 * comes to every pair has them cut from the data's own order, so that they are the same whatever the seed; one that
 * ends before has its own micro-batches, so that no pair is computed that it does not draw, unless
 * `precompute_ref_batch_size` asks for neighbours. A run that goes on keeps to what it began with, so that a pair has
 * the same sums however many steps there are now.
 */
export function referenceBatches(
  { train, test, sampler, totalSteps, begunSteps = totalSteps }: {
    train: { sizes: PackedSizes };
    test?: { sizes: PackedSizes };
    sampler: SamplerOptions;
    totalSteps: number;
    begunSteps?: number;
  },
  config: TrainConfig,
): { train: ReferenceBatches; test: ReferenceBatches } {
  const { precomputeRefBatchSize, perDeviceTrainBatchSize, perDeviceEvalBatchSize } = config;
  const [pairs, tests] = [train, test].map((split) => split?.sizes.tokens.length ?? 0);
  const neighbours = (pairs: number, perBatch: number): ReferenceBatches => ({
    batches: [...consecutive(pairs, perBatch)],
    cut: { perBatch },
  });
  const ofTest = neighbours(tests, precomputeRefBatchSize ?? perDeviceEvalBatchSize);
  const ofTrain = neighbours(pairs, precomputeRefBatchSize ?? perDeviceTrainBatchSize);
  const drawn = [...trainBatches(sampler, Math.min(totalSteps, stepsPerEpoch(sampler)))];
  if (referenceIsOfItsOwn(sampler, begunSteps, config)) {
    const { perBatch, seed } = sampler;
    return { train: { batches: drawn, cut: { perBatch, drawn: { seed } } }, test: ofTest };
  }
  const isDrawn = new Uint8Array(pairs);
  for (const pair of drawn.flat()) isDrawn[pair] = 1;
  const batches = ofTrain.batches.filter((batch) => batch.some((pair) => isDrawn[pair]));
  return { train: { ...ofTrain, batches }, test: ofTest };
}

/** The most tokens, labels and pairs of any batch of any split. */
export function largestOf(
  splits: readonly { sizes: PackedSizes; batches: Iterable<readonly number[]> }[],
): Pick<Capacity, "tokens" | "labels" | "pairs"> {
  const largest = { tokens: 1, labels: 1, pairs: 1 };
  for (const { sizes: { tokens, labels }, batches } of splits) {
    for (const batch of batches) {
      largest.tokens = Math.max(largest.tokens, batch.reduce((sum, index) => sum + tokens[index], 0));
      largest.labels = Math.max(largest.labels, batch.reduce((sum, index) => sum + labels[index], 0));
      largest.pairs = Math.max(largest.pairs, batch.length);
    }
  }
  return largest;
}
