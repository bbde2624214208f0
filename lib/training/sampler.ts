import { permutation } from "../random.ts";

export interface SamplerOptions {
  pairs: number;
  perBatch: number;
  batchesPerStep: number;
  /** GPUs that would take a batch each at a time: `batchesPerStep` is a multiple of it. */
  gpus: number;
  /** Epochs, where `maxSteps` is not positive; a fraction ends within an epoch. */
  epochs: number;
  maxSteps: number;
  /** `random` draws a new order each epoch; `sequential` keeps the data's. */
  strategy: "random" | "sequential";
  seed: number;
}

/** One optimizer step: indices of pairs, a list for each micro-batch. */
export interface SampledStep {
  batches: number[][];
  pairs: number;
}

/** What says where an epoch ends. */
type EpochOptions = Pick<SamplerOptions, "pairs" | "perBatch" | "batchesPerStep">;

/** Optimizer steps of one pass over the pairs: the last one takes what is left. */
export function stepsPerEpoch({ pairs, perBatch, batchesPerStep }: EpochOptions): number {
  return Math.ceil(pairs / (perBatch * batchesPerStep));
}

/** Optimizer steps of a run. */
export function totalSteps(options: SamplerOptions): number {
  const { epochs, maxSteps } = options;
  return maxSteps > 0 ? maxSteps : Math.ceil(stepsPerEpoch(options) * epochs);
}

/**
 * Epochs done after `steps` steps, as transformers' Trainer counts them: by batches, each device's for itself,
 * whatever the last one of an epoch holds.
 */
export function epochAfter(
  steps: number,
  options: EpochOptions & Pick<SamplerOptions, "gpus">,
): number {
  if (steps === 0) return 0;
  const { pairs, perBatch, batchesPerStep, gpus } = options;
  const batches = Math.ceil(Math.ceil(pairs / perBatch) / gpus);
  const inEpoch = (steps - 1) % stepsPerEpoch(options) + 1;
  const epoch = Math.floor((steps - 1) / stepsPerEpoch(options));
  return epoch + Math.min(inEpoch * batchesPerStep / gpus, batches) / batches;
}

/** Step `step` (from 0) of a run: a function of the options alone, so that a resumed run repeats and skips nothing. */
export function sampleStep(step: number, options: SamplerOptions): SampledStep {
  const { pairs, perBatch, batchesPerStep, strategy, seed } = options;
  const perStep = perBatch * batchesPerStep;
  const { epoch, pair: first } = samplePosition(step, options);
  const end = Math.min(first + perStep, pairs);
  const order = strategy === "random" ? orderOf(pairs, seed, epoch) : undefined;
  const indices = Array.from({ length: end - first }, (_, i) => order ? order[first + i] : first + i);
  const batches: number[][] = [];
  for (let at = 0; at < indices.length; at += perBatch) batches.push(indices.slice(at, at + perBatch));
  return { batches, pairs: indices.length };
}

/** The pair that comes after `steps` steps: epochs begun before its own, and its place in the order of that epoch. */
export function samplePosition(steps: number, options: EpochOptions): { epoch: number; pair: number } {
  const perEpoch = stepsPerEpoch(options);
  const { perBatch, batchesPerStep } = options;
  return { epoch: Math.floor(steps / perEpoch), pair: (steps % perEpoch) * perBatch * batchesPerStep };
}

let lastOrder: { key: string; order: Uint32Array } | undefined;

/** The order of one epoch; the last one asked for is kept, since steps come in sequence. */
function orderOf(pairs: number, seed: number, epoch: number): Uint32Array {
  const key = `${pairs} ${seed} ${epoch}`;
  if (lastOrder?.key !== key) lastOrder = { key, order: permutation(pairs, seed, epoch) };
  return lastOrder.order;
}
