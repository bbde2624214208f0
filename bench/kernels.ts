/** Every kernel but the matrix products, each alone, at SmolLM2-135M's widths. */
import type { Gpu } from "../lib/gpu/device.ts";
import { type Tensor, view } from "../lib/gpu/memory.ts";
import {
  clear,
  gatherRows,
  gatherRowsBackward,
  glu,
  gluBackward,
  logitsBackward,
  logProbabilities,
  preferenceLoss,
  responseFigures,
  rope,
} from "../lib/gpu/operations.ts";
import { embed, embedBackward } from "../lib/gpu/embedding_operations.ts";
import { norm, normBackward, normWeightBackward } from "../lib/gpu/norm_operations.ts";
import {
  clipByNorm,
  hyperWords,
  MOMENT_BLOCK,
  optimizerUpdate,
  parameterNorms,
  sumSquares,
} from "../lib/gpu/optimizer_operations.ts";
import { type KernelCall, writeTensor } from "../lib/gpu/program.ts";
import { adamw } from "../lib/optimizers/adamw.ts";
import { lion } from "../lib/optimizers/lion.ts";
import type { UpdateRule } from "../lib/optimizers/rule.ts";
import { dynamicTables } from "../kernels/dynamic_map.ts";
import { wgslOf } from "../lib/losses/loss.ts";
import { losses } from "../lib/losses/losses.ts";
import { ropeTable } from "../lib/graph/rope_table.ts";
import { headsOf } from "../lib/gpu/attention_family.ts";
import { Attention } from "../lib/gpu/attention_operations.ts";
import { sizeOf } from "../lib/batch/size.ts";
import { attentionOperations } from "./flops.ts";
import type { Workbench } from "./harness.ts";
import { ADAMW, randomBatch, smolLM2 } from "./models.ts";
import type { Work } from "./suite.ts";

/** Kernels that are measured together. */
export interface KernelCase {
  name: string;
  work: Work;
  calls: KernelCall[];
}

/** How much is measured. */
export interface KernelSizes {
  /** Of a packed pair, for the kernels that work on rows. */
  tokens: number;
  /** Of other packed pairs, for attention. */
  attention: number[];
  labels: number;
  parameters: number;
}

/** The cases, and `fill`, which uploads what they read once their tensors are allocated. */
export function kernelCases(
  bench: Workbench,
  sizes: KernelSizes,
): { cases: KernelCase[]; fill: (gpu: Gpu) => void } {
  const uploads: [Tensor, Float32Array | Uint32Array][] = [];
  const build = new Cases(bench, (name, values, ...shape) => {
    const tensor = bench.tensor(name, ...shape);
    uploads.push([tensor, values]);
    return tensor;
  });
  build.rows(sizes.tokens);
  for (const tokens of sizes.attention) build.attention(tokens);
  build.head(sizes.labels);
  build.optimizer(sizes.parameters);
  return {
    cases: build.cases,
    fill: (gpu) => uploads.forEach(([tensor, values]) => writeTensor(gpu, tensor, values)),
  };
}

type Upload = (name: string, values: Float32Array | Uint32Array, ...shape: number[]) => Tensor;

class Cases {
  readonly cases: KernelCase[] = [];
  readonly #model = smolLM2(1);
  readonly #shape = {
    heads: this.#model.numAttentionHeads,
    keyValueHeads: this.#model.numKeyValueHeads,
    headDim: this.#model.headDim,
  };
  readonly #qkvWidth = (this.#shape.heads + 2 * this.#shape.keyValueHeads) * this.#shape.headDim;

  readonly #attentionWidth = this.#shape.heads * this.#shape.headDim;

  constructor(readonly bench: Workbench, readonly upload: Upload) {}

  /** A case for each call. */
  #alone(size: string, calls: KernelCall[], visible = 0): void {
    for (const call of calls) {
      this.cases.push({
        name: `${call.label} ${size}`,
        work: this.bench.work([call], this.#attentionWidth, visible),
        calls: [call],
      });
    }
  }

  /** What works on the rows of a packed pair: embedding, norms, rotation, activation, the rows with a label. */
  rows(tokens: number): void {
    const { bench, upload } = this;
    const { hiddenSize, intermediateSize, vocabSize, rmsNormEps } = this.#model;
    const batch = randomBatch(tokens, vocabSize);
    const rows = bench.rows(tokens);
    const hidden = (name: string) => bench.filled(name, tokens, hiddenSize);
    const x = hidden("x");
    const table = bench.filled("embedding", vocabSize, hiddenSize);
    const distinct = bench.rows(batch.distinctIds.length);
    const embeddingGradient = bench.tensor("gradient of embedding", vocabSize, hiddenSize);
    this.#alone(`${tokens}x${hiddenSize}`, [
      embed(rows, upload("ids", batch.ids, tokens), table, x),
      embedBackward(
        distinct,
        {
          ids: upload("distinct ids", batch.distinctIds, tokens),
          starts: upload("distinct starts", batch.distinctStarts, tokens + 1),
          rows: upload("distinct rows", batch.distinctRows, tokens),
        },
        x,
        embeddingGradient,
      ),
    ]);
    this.#alone(`${vocabSize}x${hiddenSize}`, [clear(rows, embeddingGradient)]);
    const how = { kind: "rms", epsilon: rmsNormEps } as const;
    const statistics = bench.tensor("rstd", tokens);
    const weight = bench.filled("weight", hiddenSize);
    const dY = hidden("gradient of y");
    this.#alone(`${tokens}x${hiddenSize}`, [
      norm(rows, how, { x, weight, y: hidden("y"), statistics }),
      normBackward(rows, how, { x, weight, statistics, dY, dX: hidden("gradient of x") }, true),
      ...normWeightBackward(rows, how, {
        ...{ x, statistics, dY },
        dWeight: bench.tensor("gradient of weight", hiddenSize),
        partial: bench.tensor("partial sums", Math.ceil(tokens / 32), hiddenSize),
      }),
    ]);
    const spans = upload("spans", batch.masks[0].spans, tokens, 4);
    const positions = Math.max(...batch.masks[0].spans.filter((_, i) => i % 4 === 3)) + 1;
    const cosSin = upload(
      "rotary table",
      ropeTable(this.#model.rope, positions),
      positions,
      this.#shape.headDim,
    );
    const qkv = bench.filled("qkv", tokens, this.#qkvWidth);
    this.#alone(`${tokens}x${this.#qkvWidth}`, [
      rope(rows, { spans, cosSin, qkv, y: qkv }, this.#shape, this.#model.rope),
      rope(rows, { spans, cosSin, qkv, y: qkv }, this.#shape, this.#model.rope, true),
    ]);
    const gateUp = bench.filled("gate and up", tokens, 2 * intermediateSize);
    const activated = bench.filled("activated", tokens, intermediateSize);
    this.#alone(`${tokens}x${intermediateSize}`, [
      glu(rows, "silu", gateUp, activated),
      gluBackward(rows, "silu", gateUp, activated),
    ]);
    const labels = batch.targets.length;
    const labelSlot = bench.rows(labels);
    const gathered = bench.tensor("gathered", labels, hiddenSize);
    this.#alone(`${labels}x${hiddenSize}`, [
      gatherRows(labelSlot, upload("label rows", batch.labelRows, labels), x, gathered),
      gatherRowsBackward(rows, upload("labels of row", batch.labelsOfRow, tokens, 2), gathered, x),
    ]);
    this.#alone(`1 pair, ${labels} labels`, [
      ...preferenceLoss(
        bench.rows(1),
        {
          labelsOfPair: upload("labels of pair", batch.labelsOfPair, 1, 4),
          references: bench.filled("references of pair", 1, 4),
          logps: bench.filled("log-probabilities", labels),
          targets: upload("targets of labels", batch.targets, labels),
          weights: bench.tensor("label weights", labels),
          results: bench.tensor("results", 1, 4),
        },
        wgslOf(losses.simper),
      ),
      responseFigures(bench.rows(1), {
        labelsOfPair: upload("labels of responses", batch.labelsOfPair, 1, 4),
        targets: upload("targets of responses", batch.targets, labels),
        figures: bench.filled("label figures of responses", labels, 4),
        responses: bench.tensor("response figures", 2, 4),
      }),
    ]);
  }

  /** Attention on a packed pair, forward and backward, whose kernels are measured alone and together. */
  attention(tokens: number): void {
    const { bench, upload } = this;
    const { heads, headDim } = this.#shape;
    const batch = randomBatch(tokens, this.#model.vocabSize);
    const [visible] = sizeOf(batch).visible;
    const rows = bench.rows(tokens);
    const dQkv = bench.tensor("gradient of qkv", tokens, this.#qkvWidth);
    const tensors = {
      spans: upload("spans", batch.masks[0].spans, tokens, 4),
      queryTiles: upload("query tiles", batch.masks[0].queryTiles, batch.masks[0].queryTiles.length / 4, 4),
      keyTiles: upload("key tiles", batch.masks[0].keyTiles, batch.masks[0].keyTiles.length / 4, 4),
      ...headsOf(bench.filled("qkv", tokens, this.#qkvWidth), this.#shape),
      out: bench.tensor("out", tokens, heads * headDim),
      lse: bench.tensor("lse", tokens, heads),
      dOut: bench.filled("gradient of out", tokens, heads * headDim),
      delta: bench.tensor("delta", tokens, heads),
      dQueries: dQkv,
      dKeys: dQkv,
    };
    const attention = new Attention(bench.plan, this.#shape, tokens, bench.attention, true);
    const backward = attention.backward(rows, tensors);
    this.#alone(`${tokens} tokens`, [...attention.forward(rows, tensors), ...backward], visible);
    this.cases.push({
      name: `attention backward, ${tokens} tokens`,
      work: { flops: attentionOperations(this.#model, visible, 5) },
      calls: backward,
    });
  }

  /** Logits, log-probabilities and back to the gradients of hidden states and head. */
  head(labels: number): void {
    const { bench, upload } = this;
    const { hiddenSize, vocabSize } = this.#model;
    const rows = bench.rows(labels);
    const hidden = bench.filled("hidden", labels, hiddenSize);
    const head = bench.filled("head", vocabSize, hiddenSize);
    const logits = bench.filled("logits", labels, vocabSize);
    const t = {
      logits,
      targets: upload("targets", Uint32Array.from({ length: labels }, (_, i) => i), labels),
      lse: bench.tensor("lse", labels),
      logps: bench.tensor("log-probabilities", labels),
      figures: bench.tensor("label figures", labels, 4),
      weights: upload("label weights", new Float32Array(labels).fill(1 / labels), labels),
    };
    const { products } = bench;
    const whole = [
      ...products.calls("nt", rows, { a: hidden, b: head, c: logits }),
      logProbabilities(rows, t, vocabSize),
      logitsBackward(rows, t, vocabSize),
      ...products.calls("nn", rows, { a: logits, b: head, c: bench.tensor("d hidden", labels, hiddenSize) }),
      ...products.calls("tn", rows, {
        a: logits,
        b: hidden,
        c: bench.tensor("d head", vocabSize, hiddenSize),
      }),
    ];
    this.cases.push({
      name: `LM head and loss, forward and backward, ${labels} labels`,
      work: { flops: bench.work(whole).flops },
      calls: whole,
    });
    this.#alone(`${labels}x${vocabSize}`, [
      logProbabilities(rows, t, vocabSize),
      logitsBackward(rows, t, vocabSize),
    ]);
  }

  optimizer(parameters: number): void {
    const { bench, upload } = this;
    const hyperOf = (rule: UpdateRule) =>
      upload(`hyperparameters of ${rule.name}`, hyperWords(rule, ADAMW, 1e6, 1e-3), 64);
    const [hyper, hyperLion] = [adamw, lion].map(hyperOf);
    const place = upload("place", Uint32Array.of(0, 0, 0), 64);
    for (const { slab } of [hyper, hyperLion, place]) Object.assign(slab, { usage: 0x40 | 0x08 });
    const clip = upload("clip", Float32Array.of(1, 1, 0, 0), 4);
    const gradients = bench.filled("gradients", parameters);
    const state = {
      weights: bench.filled("weights", parameters),
      first: bench.filled("first moment", parameters),
      second: bench.tensor("second moment", parameters),
    };
    // Bytes and bfloat16: the first words of larger tensors.
    const part = (tensor: Tensor, bytes: 1 | 2): Tensor => ({
      ...view(tensor, 0, bytes * parameters, [parameters]),
      ...(bytes === 1 ? { isCodes: true } : { storage: "bf16" }),
    });
    const weights = part(state.weights, 2);
    const inBytes = {
      weights,
      first: part(state.first, 1),
      second: part(state.second, 1),
      inBytes: {
        absmax: bench.tensor("absmax", parameters / MOMENT_BLOCK, 2),
        map: upload("dynamic maps", dynamicTables, dynamicTables.length),
      },
    };
    const all = { count: parameters, decayed: parameters };
    const partial = bench.tensor("partial sums", parameters / 4096);
    const squares = bench.tensor("squares", 1);
    const blocks = upload("blocks", Uint32Array.of(0, parameters / 4096), 1, 2);
    const norm = { blocks, partial, squares, clip: bench.tensor("clip of norm", 4) };
    const size = `${parameters / 2 ** 20} Mi`;
    this.#alone(`${size}, weights and moments in bfloat16`, [
      optimizerUpdate(adamw, {
        ...{ place, hyper, clip, gradients, weights },
        first: part(state.first, 2),
        second: part(state.second, 2),
      }, all),
    ]);
    this.#alone(`${size}, weights in float32`, [
      optimizerUpdate(adamw, { place, hyper, clip, gradients, ...inBytes, weights: state.weights }, all),
    ]);
    this.#alone(`${size}, weights in bfloat16`, [
      optimizerUpdate(adamw, { place, hyper, clip, gradients, ...inBytes }, all),
      optimizerUpdate(lion, { place, hyper: hyperLion, clip, gradients, ...inBytes }, all),
    ]);
    this.#alone(size, [
      optimizerUpdate(adamw, { place, hyper, clip, gradients, ...state }, all),
      optimizerUpdate(lion, { place, hyper: hyperLion, clip, gradients, ...state }, all),
      sumSquares(place, gradients, partial, parameters),
      parameterNorms(place, norm, { count: 1, guard: false }),
      clipByNorm(norm, 1, 1),
    ]);
  }
}
