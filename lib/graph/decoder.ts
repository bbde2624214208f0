import type { Batch } from "../batch/pack.ts";
import type { Capacity, Machine, MachineOptions } from "./machine.ts";
import type { Net } from "./net.ts";
import type { SegmentCalls } from "./forward.ts";
import { machineOf, type Passes, passesOf } from "./passes.ts";
import { type StepPlace, Uploads } from "./uploads.ts";
import type { Gpu } from "../gpu/device.ts";
import { isReadable } from "../gpu/memory.ts";
import { MemoryPlan } from "../gpu/memory_plan.ts";
import type { TensorUse } from "../gpu/placement.ts";
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
import { normCalls } from "./ops/adapter.ts";
import type { OnProgress } from "../progress/progress.ts";
import type { TensorReader } from "../safetensors/read.ts";

/** How a model is planned. */
export interface DecoderOptions extends ParameterOptions, MachineOptions {
  /** Bytes of the largest buffer that the adapter can bind. */
  largestBuffer: number;
}

/**
 * A model over a static memory plan: the passes of its graph, and the batches that go through them. Building it
 * allocates nothing, so that the plan can be printed; `allocate` creates the buffers and compiles the kernels. What
 * else a step computes is put together from `forward` and `backward` outside.
 */
export class Decoder {
  /** What it allocates. */
  readonly plan: MemoryPlan = new MemoryPlan();
  /** @internal */
  readonly parameters: Parameters;
  readonly #machine: Machine;
  readonly #uploads: Uploads;
  readonly #passes: Passes;
  #programs?: { forward: Program; backward: Program };
  /** The batch uploaded last. */
  #batch?: Batch;

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
    this.#machine = machineOf(net, this.plan, this.parameters, capacity, options);
    this.#uploads = new Uploads(this.#machine, net.ropes);
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
  share(calls: readonly TensorUse[]): void {
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
    this.#uploads.writeTables(gpu, 0);
    gpu.check();
  }

  /** Uploads the weights of a checkpoint, once there are buffers. */
  async load(gpu: Gpu, weights: TensorReader, onProgress?: OnProgress): Promise<void> {
    await this.parameters.load(gpu, weights, "weights", onProgress);
  }

  /**
   * Sets the magnitudes of new adapters (DoRA) to the lengths of the rows that they are of, as kernels read them:
   * quantizing has changed them. The second factors are 0 then.
   *
   * @internal
   */
  async measureMagnitudes(gpu: Gpu, pipelines: Pipelines): Promise<void> {
    for (const weight of this.net.linearWeights) {
      const { adapter } = weight;
      if (!adapter?.magnitude) continue;
      const program = await Program.compile(pipelines, normCalls(this.#machine, weight, adapter));
      const encoder = gpu.device.createCommandEncoder();
      program.encode(encoder, this.batch.rowCounts.counts);
      gpu.device.queue.submit([encoder.finish()]);
      const factors = new Float32Array(await readTensor(gpu, this.#machine.factors(weight)));
      const lengths = adapter.modules.flatMap(({ firstRow, rows }) =>
        Array.from({ length: rows }, (_, i) => 1 / factors[2 * (firstRow + i) + 1])
      );
      writeTensor(gpu, this.parameters.of(adapter.magnitude).weights, Float32Array.from(lengths));
    }
  }

  /**
   * Uploads a batch and its row counts; must come before the submission that works on it.
   *
   * @internal
   */
  upload(gpu: Gpu, batch: Batch, place: StepPlace): void {
    this.#batch = batch;
    this.#uploads.upload(gpu, batch, place);
  }

  /**
   * What a stage of a pipeline exchanges with those before and after it.
   *
   * @internal
   */
  get boundaries(): Pick<Machine, "received" | "sent"> {
    return this.#machine;
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
   * Runs the forward pass of a batch kernel by kernel, over memory that holds nothing of earlier batches, until `look`
   * has seen enough: for finding where numbers went wrong. The gradients are lost.
   *
   * @param received what the stage before has made of it.
   * @returns whether it has seen enough.
   *
   * @internal
   */
  async walkForward(gpu: Gpu, batch: Batch, look: Look, received?: Float32Array): Promise<boolean> {
    const encoder = gpu.device.createCommandEncoder();
    for (const slab of this.plan.slabs) {
      const isKept = slab.purpose === "weights" || slab.purpose === "moments" || slab.purpose === "batch";
      if (!isKept && isReadable(slab)) encoder.clearBuffer(slab.buffer!);
    }
    const { received: input, sent } = this.#machine;
    for (const tensor of [input, sent]) {
      if (tensor) encoder.clearBuffer(tensor.slab.buffer!, tensor.offset, tensor.bytes);
    }
    gpu.device.queue.submit([encoder.finish()]);
    this.upload(gpu, batch, { firstOfStep: true, pairsOfStep: batch.pairs });
    if (received) writeTensor(gpu, input!, received);
    return await this.#programs!.forward.walk(gpu, this.batch.rowCounts.counts, look);
  }

  /**
   * The backward pass after it, likewise.
   *
   * @param gradient that of what this stage has sent.
   *
   * @internal
   */
  async walkBackward(gpu: Gpu, look: Look, gradient?: Float32Array): Promise<boolean> {
    if (gradient) writeTensor(gpu, this.#machine.sent!, gradient);
    return await this.#programs!.backward.walk(gpu, this.batch.rowCounts.counts, look);
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
