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

/**
 * The batches with every pair whose reference a run looks at: those of its steps, and all that it evaluates. They are
 * cut from the data's own order, so that a pair's sums do not depend, by rounding, on how long a run is or on what it
 * draws.
 */
export function referenceBatches(
  { train, test, sampler, totalSteps }: {
    train: { sizes: PackedSizes };
    test?: { sizes: PackedSizes };
    sampler: SamplerOptions;
    totalSteps: number;
  },
  config: TrainConfig,
): { train: number[][]; test: number[][] } {
  const { precomputeRefBatchSize, perDeviceTrainBatchSize, perDeviceEvalBatchSize } = config;
  const drawn = new Uint8Array(sampler.pairs);
  if (totalSteps >= stepsPerEpoch(sampler)) drawn.fill(1);
  else for (const batch of trainBatches(sampler, totalSteps)) for (const pair of batch) drawn[pair] = 1;
  const [pairs, tests] = [train, test].map((split) => split?.sizes.tokens.length ?? 0);
  return {
    train: [...consecutive(pairs, precomputeRefBatchSize ?? perDeviceTrainBatchSize)]
      .filter((batch) => batch.some((pair) => drawn[pair])),
    test: [...consecutive(tests, precomputeRefBatchSize ?? perDeviceEvalBatchSize)],
  };
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
