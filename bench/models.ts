/** Shapes that are measured, and a training run of one with random weights on made-up tokens. */
import { pack, packedSize } from "../lib/batch.ts";
import type { Pair } from "../lib/data/tokenize.ts";
import type { Gpu } from "../lib/gpu/device.ts";
import type { Pipelines } from "../lib/gpu/program.ts";
import type { Loss } from "../lib/loss/loss.ts";
import type { ModelConfig } from "../lib/model/config.ts";
import { Decoder } from "../lib/model/decoder.ts";
import { AdamW, type AdamWOptions } from "../lib/optimizer.ts";
import { deviceClass, usualTiles } from "../lib/gpu/tuning.ts";
import { normal, uniform } from "../lib/random.ts";
import { StepRunner } from "../lib/step.ts";

const LLAMA = {
  modelType: "llama",
  rmsNormEps: 1e-5,
  rope: { type: "default", theta: 10_000 },
  maxPositionEmbeddings: 2048,
  attentionBias: false,
  mlpBias: false,
} as const;

/** The small model that peers are compared on: 5.5 million weights, all of them trained. */
export const TINY_LLAMA: ModelConfig = {
  ...LLAMA,
  vocabSize: 4096,
  hiddenSize: 256,
  intermediateSize: 768,
  numHiddenLayers: 4,
  numAttentionHeads: 8,
  numKeyValueHeads: 8,
  headDim: 32,
  tieWordEmbeddings: false,
};

/** SmolLM2-135M's shape with fewer of its 30 layers. */
export const smolLM2 = (layers: number): ModelConfig => ({
  ...LLAMA,
  vocabSize: 49152,
  hiddenSize: 576,
  intermediateSize: 1536,
  numHiddenLayers: layers,
  numAttentionHeads: 9,
  numKeyValueHeads: 3,
  headDim: 64,
  tieWordEmbeddings: true,
});

export const INITIALIZER_RANGE = 0.02;
export const ADAMW: AdamWOptions = {
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
  maxGradNorm: 0,
};

/** Token ids that are a function of `seed`, uniform over the vocabulary. */
export function randomIds(length: number, vocabSize: number, seed: number): number[] {
  const next = uniform(seed);
  return Array.from({ length }, () => Math.floor(next() * vocabSize));
}

/** A pair that packs into prefix + chosen + rejected rows, of random tokens. */
export function randomPair(
  { prefix, chosen, rejected }: { prefix: number; chosen: number; rejected: number },
  vocabSize: number,
  seed = 1,
): Pair {
  const ids = randomIds(prefix + chosen + rejected + 2, vocabSize, seed);
  const prompt = ids.slice(0, prefix);
  const response = (from: number, length: number) => ({
    // The last token of a response takes no row.
    ids: [...prompt, ...ids.slice(from, from + length + 1)],
    promptLength: prefix,
  });
  return {
    chosen: response(prefix, chosen),
    rejected: response(prefix + chosen + 1, rejected),
    truncated: false,
    where: `seed ${seed}`,
  };
}

/** Everything of a training run, on buffers of its own. */
export interface Trainer {
  decoder: Decoder;
  optimizer: AdamW;
  runner: StepRunner;
}

/** Plans for the largest of `batches`, each a list of pairs, and allocates; matrices are normal with `deviation`. */
export async function openTrainer(
  gpu: Gpu,
  pipelines: Pipelines,
  config: ModelConfig,
  loss: Loss,
  batches: Pair[][],
  slots: number,
  deviation = INITIALIZER_RANGE,
): Promise<Trainer> {
  const { maxStorageBufferBindingSize: largestBuffer } = gpu.device.limits;
  const largest = (of: (batch: Pair[]) => number) => Math.max(...batches.map(of));
  const sum = (of: "tokens" | "labels") => (batch: Pair[]) =>
    batch.reduce((total, pair) => total + packedSize(pair)[of], 0);
  const pairs = largest((batch) => batch.length);
  const decoder = new Decoder(config, {
    tokens: largest(sum("tokens")),
    labels: largest(sum("labels")),
    pairs,
    positions: config.maxPositionEmbeddings,
    logitsBytes: Math.min(128 * 2 ** 20, largestBuffer),
    checkpointing: false,
  }, { largestBuffer, loss: loss.wgsl, training: true, tiles: usualTiles(deviceClass(gpu)) });
  const optimizer = new AdamW(decoder.plan, decoder.parameters, ADAMW);
  const runner = new StepRunner(decoder.plan, slots, pairs);
  await decoder.allocate(gpu, pipelines);
  await optimizer.compile(gpu, pipelines);
  decoder.parameters.initialize(gpu, normal(1), deviation);
  // Uploads are not run before a submission.
  gpu.device.queue.submit([]);
  return { decoder, optimizer, runner };
}

/** Packed batch of one random pair with `tokens` rows: 40 % prefix, 30 % chosen, 30 % rejected. */
export function randomBatch(tokens: number, vocabSize: number) {
  const response = Math.round(0.3 * tokens);
  return pack([
    randomPair({ prefix: tokens - 2 * response, chosen: response, rejected: response }, vocabSize),
  ]);
}
