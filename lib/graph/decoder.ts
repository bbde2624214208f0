import type { Batch } from "../batch/pack.ts";
import { type Capacity, Machine, type MachineOptions } from "./machine.ts";
import type { Net } from "./net.ts";
import type { SegmentCalls } from "./forward.ts";
import { type Passes, passesOf } from "./passes.ts";
import type { Gpu } from "../gpu/device.ts";
import { isReadable } from "../gpu/memory.ts";
import { MemoryPlan } from "../gpu/memory_plan.ts";
import {
  type KernelCall,
  kernelsOf,
  type Look,
  Pipelines,
  Program,
  readTensor,
  writeTensor,
} from "../gpu/program.ts";
import type { WorkSize } from "../gpu/work.ts";
import { visiblePairs } from "../batch/size.ts";
import { type ParameterOptions, Parameters } from "../parameters/parameters.ts";
import type { OnProgress } from "../progress.ts";
import type { TensorReader } from "../safetensors/read.ts";
import { ropeTable, tableLength } from "./rope_table.ts";

/** How a model is planned. */
export interface DecoderOptions extends ParameterOptions, MachineOptions {
  /** Bytes of the largest buffer that the adapter can bind. */
  largestBuffer: number;
}

/** How a batch adds to the gradients: `firstOfStep` begins them anew, `pairsOfStep` is what the loss is divided by. */
export interface StepPlace {
  firstOfStep: boolean;
  pairsOfStep: number;
}

/**
 * A model over a static memory plan: the passes of its graph, and the batches that go through them. Building it allocates
 * nothing, so that the plan can be printed; `allocate` creates the buffers and compiles the kernels. What else a step computes is
 * put together from `forward` and `backward` outside.
 */
export class Decoder {
  /** What it allocates. */
  readonly plan: MemoryPlan = new MemoryPlan();
  /** @internal */
  readonly parameters: Parameters;
  readonly #machine: Machine;
  readonly #passes: Passes;
  #programs?: { forward: Program; backward: Program };
  /** The batch uploaded last. */
  #batch?: Batch;
  /** What each rotary table was made for. */
  readonly #tableLengths: number[] = [];

  /**
   * Plans everything.
   * @param net what it computes: `netOf` of the model.
   */
  constructor(
    /** @internal */
    readonly net: Net,
    /** The largest batch. */
    readonly capacity: Capacity,
    /** @internal */
    readonly options: DecoderOptions,
  ) {
    this.parameters = new Parameters(this.plan, this.net.parameters, options.largestBuffer, options);
    const { hiddenSize: hidden, vocabSize: vocabulary } = net;
    const rotary = net.ropes.map(({ dimensions }) => dimensions);
    this.#machine = new Machine(
      this.plan,
      this.parameters,
      capacity,
      {
        hidden,
        vocabulary,
        rotary,
        windows: net.windows.length,
        vector: net.longestVector,
        statistics: net.finalStatistics,
      },
      options,
    );
    this.#passes = passesOf(this.net, this.#machine);
    this.share([...this.forward, ...this.backward]);
  }

  /**
   * The calls of the forward pass: log-probabilities and the loss of a batch.
   *
   * @internal
   */
  get forward(): KernelCall[] {
    return this.#passes.forward.flatMap(({ calls }) => calls);
  }

  /**
   * Those of the backward pass after it: gradients of what is trained. None without training.
   *
   * @internal
   */
  get backward(): KernelCall[] {
    return this.#passes.backward.flatMap(({ calls }) => calls);
  }

  /**
   * Plans the memory that tensors share for these calls; without it, for both passes one after the other.
   *
   * @internal
   */
  share(calls: readonly KernelCall[]): void {
    this.plan.share(calls, this.options.largestBuffer);
  }

  /**
   * What batches are uploaded to, and what their results are read from.
   *
   * @internal
   */
  get batch(): Machine["batch"] {
    return this.#machine.batch;
  }

  /**
   * Kernels of the first layer; backward with those that checkpointing runs again.
   *
   * @internal
   */
  get kernelsPerLayer(): { forward: number; backward: number } {
    const ofLayer = (pass: readonly SegmentCalls[]) =>
      kernelsOf(pass.find(({ segment }) => segment === this.net.layers[0])?.calls ?? []).length;
    return { forward: ofLayer(this.#passes.forward), backward: ofLayer(this.#passes.backward) };
  }

  /** Creates the plan's buffers and compiles every kernel. The weights are still to be loaded. */
  async allocate(gpu: Gpu, pipelines: Pipelines): Promise<void> {
    const { forward, backward } = this;
    this.plan.checkShared([...forward, ...backward]);
    await this.plan.allocate(gpu);
    this.#machine.products.upload(gpu);
    this.#programs = {
      forward: await Program.compile(pipelines, forward),
      backward: await Program.compile(pipelines, backward),
    };
    this.#writeTables(gpu, 0);
    gpu.check();
  }

  /** Uploads the weights of a checkpoint, once there are buffers. */
  async load(gpu: Gpu, weights: TensorReader, onProgress?: OnProgress): Promise<void> {
    await this.parameters.load(gpu, weights, "weights", onProgress);
  }

  /** Writes the rotary tables that a batch with this longest sequence needs and that are not there. */
  #writeTables(gpu: Gpu, longest: number): void {
    for (const [i, spec] of this.net.ropes.entries()) {
      const length = tableLength(spec, longest);
      if (length === this.#tableLengths[i]) continue;
      this.#tableLengths[i] = length;
      writeTensor(gpu, this.batch.cosSin[i], ropeTable(spec, this.capacity.positions, longest));
    }
  }

  /**
   * Uploads a batch and its row counts; must come before the submission that works on it.
   *
   * @internal
   */
  upload(gpu: Gpu, batch: Batch, { firstOfStep, pairsOfStep }: StepPlace): void {
    const a = this.batch;
    const tokens = batch.ids.length;
    const labels = batch.targets.length;
    if (tokens > this.capacity.tokens || labels > this.capacity.labels || batch.pairs > this.capacity.pairs) {
      throw new RangeError(
        `a batch of ${tokens} tokens, ${labels} labels, ${batch.pairs} pairs exceeds the plan's ` +
          `${this.capacity.tokens}, ${this.capacity.labels}, ${this.capacity.pairs}`,
      );
    }
    this.#batch = batch;
    for (const name of Object.keys(a.uploaded) as (keyof typeof a.uploaded)[]) {
      if (batch[name].length > 0) writeTensor(gpu, a.uploaded[name], batch[name]);
    }
    for (const [i, { spans, queryTiles, keyTiles }] of a.masks.entries()) {
      const mask = batch.masks[i];
      writeTensor(gpu, spans, mask.spans);
      writeTensor(gpu, queryTiles, mask.queryTiles);
      writeTensor(gpu, keyTiles, mask.keyTiles);
    }
    this.#writeTables(gpu, batch.longest);
    const accumulate = !firstOfStep;
    a.rowCounts.set(a.tokenRows.slot, { count: tokens, accumulate });
    a.rowCounts.set(a.labelSlot.slot, { count: labels, accumulate });
    a.rowCounts.set(a.pairSlot.slot, { count: batch.pairs, scale: 1 / pairsOfStep });
    a.rowCounts.set(a.distinctSlot.slot, { count: batch.distinctIds.length });
    const pieces = Math.ceil(labels / a.pieceRows);
    a.pieces.forEach(({ slot }, i) => {
      const count = Math.max(0, Math.min(a.pieceRows, labels - i * a.pieceRows));
      // The last piece comes first in the backward pass, and so is the one that may begin the head's gradient.
      a.rowCounts.set(slot, { count, accumulate: accumulate || i < pieces - 1 });
    });
    a.rowCounts.upload(gpu, a.rows);
  }

  /**
   * What the work of the uploaded batch's kernels follows from.
   *
   * @internal
   */
  workSize(): WorkSize {
    return {
      counts: this.batch.rowCounts.counts,
      visible: this.#batch?.masks.map(visiblePairs) ?? [],
      attentionWidth: this.net.attentionWidth,
    };
  }

  /**
   * Log-probabilities and the loss of the uploaded batch.
   *
   * @param next as of `Program.encode`.
   *
   * @internal
   */
  encodeForward(encoder: GPUCommandEncoder, next?: () => GPUCommandEncoder): void {
    this.#programs!.forward.encode(encoder, this.batch.rowCounts.counts, next);
  }

  /**
   * Puts a loss of the host's in the place of the kernel's, between the two passes.
   *
   * @param results four floats a pair, as `batch.results`.
   * @param weights dL/d(log-probability) of each label.
   *
   * @internal
   */
  writeLoss(gpu: Gpu, results: Float32Array, weights: Float32Array): void {
    writeTensor(gpu, this.batch.results, results);
    writeTensor(gpu, this.#machine.head.labelWeights, weights);
  }

  /** Log-probability of each label of a batch, [labels]. */
  async logProbabilities(gpu: Gpu, batch: Batch): Promise<Float32Array> {
    this.upload(gpu, batch, { firstOfStep: true, pairsOfStep: 1 });
    const encoder = gpu.device.createCommandEncoder();
    this.encodeForward(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    // No kernel after the one that reads them last writes to memory that is shared, so nothing has taken their place.
    return new Float32Array(await readTensor(gpu, this.#machine.head.logps, 0, batch.targets.length));
  }

  /**
   * Gradients of every trained parameter, after `encodeForward` of the same batch.
   *
   * @param next as of `Program.encode`.
   *
   * @internal
   */
  encodeBackward(encoder: GPUCommandEncoder, next?: () => GPUCommandEncoder): void {
    this.#programs!.backward.encode(encoder, this.batch.rowCounts.counts, next);
  }

  /**
   * Runs forward and backward of a batch kernel by kernel, over memory that holds nothing of earlier batches, until `look` has
   * seen enough: for finding where numbers went wrong. The gradients are lost.
   *
   * @internal
   */
  async walk(gpu: Gpu, batch: Batch, look: Look): Promise<void> {
    const encoder = gpu.device.createCommandEncoder();
    for (const slab of this.plan.slabs) {
      const isKept = slab.purpose === "weights" || slab.purpose === "moments" || slab.purpose === "batch";
      if (!isKept && isReadable(slab)) encoder.clearBuffer(slab.buffer!);
    }
    gpu.device.queue.submit([encoder.finish()]);
    this.upload(gpu, batch, { firstOfStep: true, pairsOfStep: batch.pairs });
    const { counts } = this.batch.rowCounts;
    const { forward, backward } = this.#programs!;
    await forward.walk(gpu, counts, look) || await backward.walk(gpu, counts, look);
  }

  /**
   * Logits that follow the given rows of a batch without pairs, [rows, vocabulary]; they must fit one piece.
   * Every label row of the batch is computed; targets do not matter.
   */
  async logits(gpu: Gpu, batch: Batch): Promise<Float32Array> {
    const { batch: { pieceRows }, head: { logits } } = this.#machine;
    const labels = batch.targets.length;
    if (labels > pieceRows) {
      throw new RangeError(`${labels} rows of logits exceed a piece of ${pieceRows}`);
    }
    this.upload(gpu, batch, { firstOfStep: true, pairsOfStep: 1 });
    const encoder = gpu.device.createCommandEncoder();
    this.encodeForward(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    // Still there: without pairs, no kernel that runs after the logits' takes their place.
    const stride = logits.shape[1];
    const padded = new Float32Array(await readTensor(gpu, logits, 0, labels * stride));
    const { vocabSize } = this.net;
    const { logitScale = 1, logitSoftcap } = this.net.logits;
    const score = (logit: number) =>
      logitSoftcap ? logitSoftcap * Math.tanh(logit * logitScale / logitSoftcap) : logit * logitScale;
    const out = new Float32Array(labels * vocabSize);
    for (let row = 0; row < labels; row++) {
      out.set(padded.subarray(row * stride, row * stride + vocabSize).map(score), row * vocabSize);
    }
    return out;
  }

  /** Gives the memory back. */
  destroy(): void {
    this.plan.destroy();
  }
}
