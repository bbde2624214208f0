import { permutation } from "./random.ts";

export interface SamplerOptions {
  pairs: number;
  perBatch: number;
  batchesPerStep: number;
  /** Epochs, where `maxSteps` is not positive; a fraction ends within an epoch. */
  epochs: number;
  maxSteps: number;
  /** `random` draws a new order each epoch; `sequential` keeps the data's. */
  strategy: "random" | "sequential";
  seed: number;
}

/** One optimizer step: indices of pairs, a list for each micro-batch, and the epochs done when it ends. */
export interface SampledStep {
  batches: number[][];
  pairs: number;
  epoch: number;
}

/** Optimizer steps of a run: an epoch's last step takes what is left. */
export function totalSteps({ pairs, perBatch, batchesPerStep, epochs, maxSteps }: SamplerOptions): number {
  return maxSteps > 0 ? maxSteps : Math.ceil(Math.ceil(pairs / (perBatch * batchesPerStep)) * epochs);
}

/** Step `step` (from 0) of a run: a function of the options alone, so that a resumed run repeats and skips nothing. */
export function sampleStep(step: number, options: SamplerOptions): SampledStep {
  const { pairs, perBatch, batchesPerStep, strategy, seed } = options;
  const perStep = perBatch * batchesPerStep;
  const stepsPerEpoch = Math.ceil(pairs / perStep);
  const epoch = Math.floor(step / stepsPerEpoch);
  const first = (step % stepsPerEpoch) * perStep;
  const end = Math.min(first + perStep, pairs);
  const order = strategy === "random" ? orderOf(pairs, seed, epoch) : undefined;
  const indices = Array.from({ length: end - first }, (_, i) => order ? order[first + i] : first + i);
  const batches: number[][] = [];
  for (let at = 0; at < indices.length; at += perBatch) batches.push(indices.slice(at, at + perBatch));
  return { batches, pairs: indices.length, epoch: epoch + end / pairs };
}

/** The pair that comes after `steps` steps: epochs begun before its own, and its place in the order of that epoch. */
export function samplePosition(steps: number, { pairs, perBatch, batchesPerStep }: SamplerOptions) {
  const perStep = perBatch * batchesPerStep;
  const stepsPerEpoch = Math.ceil(pairs / perStep);
  return { epoch: Math.floor(steps / stepsPerEpoch), pair: (steps % stepsPerEpoch) * perStep };
}

let lastOrder: { key: string; order: Uint32Array } | undefined;

/** The order of one epoch; the last one asked for is kept, since steps come in sequence. */
function orderOf(pairs: number, seed: number, epoch: number): Uint32Array {
  const key = `${pairs} ${seed} ${epoch}`;
  if (lastOrder?.key !== key) lastOrder = { key, order: permutation(pairs, seed, epoch) };
  return lastOrder.order;
}
