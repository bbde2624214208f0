/** The other operations of a step, each alone: attention, RMSNorm, the LM head with its loss, the optimizer's update. */
import type { Tensor } from "../lib/gpu/memory.ts";
import {
  attention,
  attentionBackward,
  logitsBackward,
  logProbabilities,
  rmsNorm,
  rmsNormBackward,
} from "../lib/gpu/operations.ts";
import { adamw, sumSquares } from "../lib/gpu/optimizer_operations.ts";
import { type KernelCall, writeTensor } from "../lib/gpu/program.ts";
import { attentionOperations, sizeOf } from "./flops.ts";
import { Workbench } from "./harness.ts";
import { randomBatch, randomIds, smolLM2 } from "./models.ts";
import { Suite, type Work } from "./suite.ts";

const suite = await Suite.open();
const bench = new Workbench(suite.gpu);
const model = smolLM2(1);
const heads = {
  heads: model.numAttentionHeads,
  keyValueHeads: model.numKeyValueHeads,
  headDim: model.headDim,
};

/** Kernels to measure together, and what is to be uploaded before. */
interface Case {
  name: string;
  work: Work;
  calls: KernelCall[];
}
const cases: Case[] = [];
const uploads: [Tensor, Float32Array | Uint32Array][] = [];

function uploaded(name: string, values: Float32Array | Uint32Array, ...shape: number[]): Tensor {
  const tensor = bench.tensor(name, ...shape);
  uploads.push([tensor, values]);
  return tensor;
}

function addAttention(tokens: number): void {
  const batch = randomBatch(tokens, model.vocabSize);
  const { visible } = sizeOf(batch);
  const rows = bench.rows(tokens);
  const width = (heads.heads + 2 * heads.keyValueHeads) * heads.headDim;
  const tensors = {
    spans: uploaded("spans", batch.spans, tokens, 4),
    queryTiles: uploaded("query tiles", batch.queryTiles, batch.queryTiles.length / 4, 4),
    keyTiles: uploaded("key tiles", batch.keyTiles, batch.keyTiles.length / 4, 4),
    qkv: bench.filled("qkv", tokens, width),
    out: bench.tensor("out", tokens, heads.heads * heads.headDim),
    lse: bench.tensor("lse", tokens, heads.heads),
    dOut: bench.filled("gradient of out", tokens, heads.heads * heads.headDim),
    delta: bench.tensor("delta", tokens, heads.heads),
    dQkv: bench.tensor("gradient of qkv", tokens, width),
  };
  cases.push({
    name: `attention forward, ${tokens} tokens`,
    work: { flops: attentionOperations(model, visible, 2) },
    calls: [attention(rows, tensors, heads)],
  }, {
    name: `attention backward, ${tokens} tokens`,
    work: { flops: attentionOperations(model, visible, 5) },
    calls: attentionBackward(rows, tensors, heads),
  });
}

function addRmsNorm(rows: number, width: number): void {
  const slot = bench.rows(rows);
  const x = bench.filled("x", rows, width);
  const weight = bench.filled("weight", width);
  const rstd = bench.tensor("rstd", rows);
  const gradients = {
    dY: bench.filled("gradient of y", rows, width),
    dX: bench.tensor("gradient of x", rows, width),
    dWeight: bench.tensor("gradient of weight", width),
    partial: bench.tensor("partial sums", Math.ceil(rows / 32), width),
  };
  const bytes = rows * width * 4;
  cases.push({
    name: `RMSNorm forward ${rows}x${width}`,
    work: { bytes: 2 * bytes },
    calls: [rmsNorm(slot, x, weight, bench.tensor("y", rows, width), rstd, model.rmsNormEps)],
  }, {
    name: `RMSNorm backward ${rows}x${width}`,
    work: { bytes: 3 * bytes },
    calls: rmsNormBackward(slot, { x, weight, rstd, ...gradients }, false),
  });
}

/** Logits, log-probabilities and back to the gradients of hidden states and head. */
function addHead(labels: number): void {
  const { hiddenSize, vocabSize } = model;
  const rows = bench.rows(labels);
  const hidden = bench.filled("hidden", labels, hiddenSize);
  const head = bench.filled("head", vocabSize, hiddenSize);
  const logits = bench.tensor("logits", labels, vocabSize);
  const t = {
    logits,
    targets: uploaded("targets", Uint32Array.from(randomIds(labels, vocabSize, 1)), labels),
    lse: bench.tensor("lse", labels),
    logps: bench.tensor("log-probabilities", labels),
    weights: uploaded("label weights", new Float32Array(labels).fill(1 / labels), labels),
  };
  const { products } = bench;
  cases.push({
    name: `LM head and loss, forward and backward, ${labels} labels`,
    work: { flops: 3 * 2 * labels * hiddenSize * vocabSize },
    calls: [
      ...products.calls("nt", rows, { a: hidden, b: head, c: logits }),
      logProbabilities(rows, t, vocabSize),
      logitsBackward(rows, t, vocabSize),
      ...products.calls("nn", rows, { a: logits, b: head, c: bench.tensor("d hidden", labels, hiddenSize) }),
      ...products.calls("tn", rows, {
        a: logits,
        b: hidden,
        c: bench.tensor("d head", vocabSize, hiddenSize),
      }),
    ],
  }, {
    name: `log-probabilities ${labels}x${vocabSize}`,
    work: { bytes: labels * vocabSize * 4 },
    calls: [logProbabilities(rows, t, vocabSize)],
  });
}

function addOptimizer(parameters: number): void {
  // As `AdamW.upload` computes them for learning rate 1e-3 at a late step.
  const hyper = uploaded(
    "hyperparameters",
    Float32Array.of(1e-3, 1 - 1e-5, 0.1, 0.999, 1e-3, 1e-8, 1, 0),
    64,
  );
  const place = uploaded("place", Uint32Array.of(0, 0), 64);
  for (const { slab } of [hyper, place]) Object.assign(slab, { usage: 0x40 | 0x08 });
  const clip = uploaded("clip", Float32Array.of(1, 1, 0, 0), 4);
  const gradients = bench.filled("gradients", parameters);
  const state = {
    weights: bench.filled("weights", parameters),
    first: bench.filled("first moment", parameters),
    second: bench.tensor("second moment", parameters),
  };
  cases.push({
    name: `AdamW, ${parameters / 2 ** 20} Mi parameters`,
    work: { bytes: 7 * 4 * parameters },
    calls: [adamw({ place, hyper, clip, gradients, ...state }, { count: parameters, decayed: parameters })],
  }, {
    name: `gradient norm, ${parameters / 2 ** 20} Mi parameters`,
    work: { bytes: 4 * parameters },
    calls: [
      sumSquares(place, gradients, bench.tensor("partial sums", parameters / 4096), parameters),
    ],
  });
}

addAttention(512);
addAttention(1024);
addRmsNorm(16384, 576);
addRmsNorm(4096, 4096);
addHead(512);
addOptimizer(16 * 2 ** 20);

await bench.allocate(suite.gpu);
for (const [tensor, values] of uploads) writeTensor(suite.gpu, tensor, values);
for (const { name, work, calls } of cases) {
  await suite.add(name, work, await bench.sample(suite.pipelines, calls));
}
