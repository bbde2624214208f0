/** Shapes that are measured, and a training run of one with random weights on made-up tokens. */
import { pack } from "../lib/batch/pack.ts";
import { packedSize, type Pair } from "../lib/data/pair.ts";
import type { Gpu } from "../lib/gpu/device.ts";
import type { Pipelines } from "../lib/gpu/program.ts";
import type { ProductTiles } from "../lib/gpu/tuning.ts";
import { type Loss, wgslOf } from "../lib/losses/loss.ts";
import type { ModelConfig } from "../lib/models/architecture.ts";
import type { RopeSpec } from "../lib/graph/rope_table.ts";
import { Decoder } from "../lib/graph/decoder.ts";
import { adamw as adamwRule } from "../lib/optimizers/adamw.ts";
import { parameterCount } from "../lib/parameters/parameter.ts";
import type { LlamaConfig } from "../lib/models/llama.ts";
import { netOf } from "../lib/models/models.ts";
import { adapterOf, logitsBudget } from "../lib/planning/plan.ts";
import { Optimizer, type OptimizerOptions } from "../lib/training/optimizer.ts";
import { normal, uniform } from "../lib/random.ts";
import { StepRunner } from "../lib/training/step.ts";

/** Rotation of whole heads. */
const rope = (headDim: number, theta = 10_000): RopeSpec => ({
  type: "default",
  theta,
  dimensions: headDim,
  interleaved: false,
});

const LLAMA = {
  modelType: "llama",
  rmsNormEps: 1e-5,
  maxPositionEmbeddings: 2048,
  hiddenAct: "silu",
  attentionBias: false,
  mlpBias: false,
} as const;

/** The small model that peers are compared on: 5.5 million weights, all of them trained. */
export const TINY_LLAMA: LlamaConfig = {
  ...LLAMA,
  vocabSize: 4096,
  hiddenSize: 256,
  intermediateSize: 768,
  numHiddenLayers: 4,
  numAttentionHeads: 8,
  numKeyValueHeads: 8,
  headDim: 32,
  rope: rope(32),
  tieWordEmbeddings: false,
};

/** SmolLM2-135M's shape with fewer of its 30 layers. */
export const smolLM2 = (layers: number): LlamaConfig => ({
  ...LLAMA,
  vocabSize: 49152,
  hiddenSize: 576,
  intermediateSize: 1536,
  numHiddenLayers: layers,
  numAttentionHeads: 9,
  numKeyValueHeads: 3,
  headDim: 64,
  rope: rope(64),
  tieWordEmbeddings: true,
});

/** The shapes that whole steps are measured on, each with all of its layers. */
export const SHAPES: Record<string, LlamaConfig> = {
  tiny: TINY_LLAMA,
  "smollm2-135m": smolLM2(30),
  "llama-3.2-1b": {
    ...LLAMA,
    maxPositionEmbeddings: 8192,
    rope: rope(64, 500_000),
    vocabSize: 128256,
    hiddenSize: 2048,
    intermediateSize: 8192,
    numHiddenLayers: 16,
    numAttentionHeads: 32,
    numKeyValueHeads: 8,
    headDim: 64,
    tieWordEmbeddings: true,
  },
  "llama-3-8b": {
    ...LLAMA,
    maxPositionEmbeddings: 8192,
    rope: rope(128, 500_000),
    vocabSize: 128256,
    hiddenSize: 4096,
    intermediateSize: 14336,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    numKeyValueHeads: 8,
    headDim: 128,
    tieWordEmbeddings: false,
  },
};

export const INITIALIZER_RANGE = 0.02;
export const ADAMW: OptimizerOptions = {
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
  optimizer: Optimizer;
  runner: StepRunner;
}

export interface TrainerOptions {
  /** Steps in flight. */
  slots: number;
  checkpointing?: boolean;
  adamw?: OptimizerOptions;
  /** How products are computed; by default as is usual on such an adapter. */
  tiles?: ProductTiles;
  /** Of the random matrices. */
  deviation?: number;
  /** How many make a step together. */
  ranks?: number;
}

/**
 * Plans for the largest of `batches`, each a list of pairs; one step may have them all. Nothing is allocated.
 * @throws {UserError} where a matrix is larger than the adapter binds.
 */
export function planTrainer(
  gpu: Gpu,
  config: ModelConfig,
  loss: Loss,
  batches: Pair[][],
  { slots, checkpointing = false, adamw = ADAMW, tiles, ranks }: TrainerOptions,
): Trainer {
  const adapter = { ...adapterOf(gpu), ...(tiles && { tiles }) };
  const largest = (of: (batch: Pair[]) => number) => Math.max(...batches.map(of));
  const sum = (of: "tokens" | "labels") => (batch: Pair[]) =>
    batch.reduce((total, pair) => total + packedSize(pair)[of], 0);
  const pairs = largest((batch) => batch.length);
  const net = netOf(config);
  const decoder = new Decoder(net, {
    tokens: largest(sum("tokens")),
    labels: largest(sum("labels")),
    pairs,
    positions: Math.max(
      ...batches.flat().flatMap(({ chosen, rejected }) => [chosen.ids.length, rejected?.ids.length ?? 0]),
    ),
    // Weights, gradients and two moments in float32.
    logitsBytes: logitsBudget(16 * parameterCount(net.parameters), adapter.largestBuffer),
    checkpointing,
  }, { ...adapter, loss: wgslOf(loss), training: true });
  const optimizer = new Optimizer(decoder.plan, decoder.parameters, adamwRule, adamw);
  const pairsPerStep = batches.flat().length;
  const runner = new StepRunner(decoder, optimizer, slots, pairsPerStep, { ranks });
  return { decoder, optimizer, runner };
}

/** As `planTrainer`, with all buffers; matrices are normal. */
export async function openTrainer(
  gpu: Gpu,
  pipelines: Pipelines,
  config: ModelConfig,
  loss: Loss,
  batches: Pair[][],
  options: TrainerOptions,
): Promise<Trainer> {
  const trainer = planTrainer(gpu, config, loss, batches, options);
  await allocateTrainer(gpu, pipelines, trainer, normal(1), options.deviation);
  return trainer;
}

/** Creates buffers, compiles kernels and draws matrices from `next` times `deviation`. */
export async function allocateTrainer(
  gpu: Gpu,
  pipelines: Pipelines,
  { decoder, runner }: Trainer,
  next: () => number,
  deviation = INITIALIZER_RANGE,
): Promise<void> {
  await decoder.allocate(gpu, pipelines);
  await runner.compile(gpu, pipelines);
  decoder.parameters.initialize(gpu, next, deviation);
  // Uploads are not run before a submission.
  gpu.device.queue.submit([]);
}

/** Normal numbers that come again after a prime number of them: a billion weights take seconds, not minutes. */
export function repeatedNormal(seed: number): () => number {
  const next = normal(seed);
  const values = Float32Array.from({ length: 1_048_583 }, next);
  let at = 0;
  return () => values[at = at + 1 < values.length ? at + 1 : 0];
}

/** `pairs` random pairs that pack into one row of `tokens`: each 40 % prefix, 30 % chosen, 30 % rejected. */
export function randomPairs(tokens: number, pairs: number, vocabSize: number): Pair[] {
  return Array.from({ length: pairs }, (_, i) => {
    const own = Math.floor(tokens / pairs) + (i < tokens % pairs ? 1 : 0);
    const response = Math.round(0.3 * own);
    return randomPair({ prefix: own - 2 * response, chosen: response, rejected: response }, vocabSize, 1 + i);
  });
}

/** Packed batch of one random pair with `tokens` rows. */
export const randomBatch = (tokens: number, vocabSize: number) => pack(randomPairs(tokens, 1, vocabSize));
