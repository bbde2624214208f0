import type { Batch } from "../batch.ts";
import type { AttentionTiles } from "../../kernels/attention.ts";
import { Attention } from "../gpu/attention_operations.ts";
import type { Gpu } from "../gpu/device.ts";
import { isReadable, MemoryPlan, type Tensor } from "../gpu/memory.ts";
import {
  type KernelCall,
  type Look,
  Pipelines,
  Program,
  readTensor,
  tensorsOf,
  writeTensor,
} from "../gpu/program.ts";
import { Products } from "../gpu/products.ts";
import { attentionTiles, type ProductTiles, usualTiles } from "../gpu/tuning.ts";
import type { WorkSize } from "../gpu/work.ts";
import { type Activations, type Capacity, planActivations } from "./activations.ts";
import type { ModelConfig } from "./config.ts";
import { visiblePairs } from "./flops.ts";
import { headBackward, headForward, lossCalls } from "./head.ts";
import {
  attentionShape,
  type DecoderContext,
  embedForward,
  embedGradient,
  layerBackward,
  layerForward,
} from "./layers.ts";
import { allParameters, type DecoderSpec, llamaSpec } from "./llama.ts";
import { type Parameter, type ParameterOptions, Parameters } from "./parameters.ts";
import { ropeTable } from "./rope.ts";

export interface DecoderOptions extends ParameterOptions {
  /** Bytes of the largest buffer that the adapter can bind. */
  largestBuffer: number;
  /** WGSL of the loss; see `kernels/preference_loss.wgsl`. */
  loss: string;
  /** How matrix products are computed; by default as suits a GPU. */
  tiles?: ProductTiles;
  /** How attention is computed; by default likewise. */
  attention?: AttentionTiles;
}

/** How a batch adds to the gradients: `firstOfStep` begins them anew, `pairsOfStep` is what the loss is divided by. */
export interface StepPlace {
  firstOfStep: boolean;
  pairsOfStep: number;
}

/**
 * A decoder with hand-written forward and backward passes over a static memory plan. Building it allocates nothing, so
 * that the plan can be printed; `allocate` creates the buffers and compiles the kernels.
 */
export class Decoder {
  readonly plan = new MemoryPlan();
  readonly parameters: Parameters;
  readonly activations: Activations;
  readonly #spec: DecoderSpec;
  readonly #context: DecoderContext;
  #updates?: (parameter: Parameter) => KernelCall[];
  #forward?: Program;
  #backward?: Program;
  /** The batch uploaded last. */
  #batch?: Batch;

  constructor(readonly config: ModelConfig, readonly capacity: Capacity, readonly options: DecoderOptions) {
    this.#spec = llamaSpec(config);
    this.parameters = new Parameters(
      this.plan,
      allParameters(this.#spec),
      options.largestBuffer,
      options,
    );
    this.activations = planActivations(this.plan, config, capacity);
    this.#context = {
      config,
      spec: this.#spec,
      parameters: this.parameters,
      activations: this.activations,
      products: new Products(this.plan, options.tiles ?? usualTiles("gpu")),
      attention: new Attention(
        this.plan,
        attentionShape(config),
        capacity.tokens,
        options.attention ?? attentionTiles("gpu"),
        options.training,
      ),
    };
    this.plan.share(this.#stepCalls(), options.largestBuffer);
  }

  /**
   * Makes the backward pass update each parameter by `updates` once its gradient is complete, as `earlyUpdates` asks; plans
   * memory anew. Only for steps of one batch whose gradients are not clipped.
   */
  updateEarly(updates: (parameter: Parameter) => KernelCall[]): void {
    this.#updates = updates;
    this.plan.share(this.#stepCalls(), this.options.largestBuffer);
  }

  /** Every kernel call of a step, in order: what tensors live by. */
  #stepCalls(): KernelCall[] {
    return [...this.#forwardCalls(), ...(this.options.training ? this.#backwardCalls() : [])];
  }

  #forwardCalls(): KernelCall[] {
    const context = this.#context;
    return [
      ...embedForward(context),
      ...this.activations.layers.flatMap((_, l) => layerForward(context, l)),
      ...headForward(context),
      lossCalls(context, this.options.loss),
    ];
  }

  #backwardCalls(): KernelCall[] {
    const context = this.#context;
    const last = this.activations.layers.length - 1;
    const calls = [
      ...headBackward(context),
      ...this.activations.layers.flatMap((_, i) => layerBackward(context, last - i)),
      ...embedGradient(context),
    ];
    return this.#updates ? withUpdates(calls, this.parameters.list, this.#updates) : calls;
  }

  /** Kernels of one layer; backward with those that checkpointing runs again. */
  get kernelsPerLayer(): { forward: number; backward: number } {
    return {
      forward: layerForward(this.#context, 0).length,
      backward: layerBackward(this.#context, 0).length,
    };
  }

  /** Creates the plan's buffers and compiles every kernel. The weights are still to be loaded. */
  async allocate(gpu: Gpu, pipelines: Pipelines): Promise<void> {
    if (this.options.earlyUpdates && !this.#updates) {
      throw new Error("earlyUpdates: updateEarly was not called");
    }
    const forward = this.#forwardCalls();
    const backward = this.options.training ? this.#backwardCalls() : [];
    this.plan.checkShared([...forward, ...backward]);
    await this.plan.allocate(gpu);
    this.#context.products.upload(gpu);
    this.#forward = await Program.compile(pipelines, forward);
    this.#backward = await Program.compile(pipelines, backward);
    writeTensor(gpu, this.activations.cosSin, ropeTable(this.config, this.capacity.positions));
    gpu.check();
  }

  /** Uploads a batch and its row counts; must come before the submission that works on it. */
  upload(gpu: Gpu, batch: Batch, { firstOfStep, pairsOfStep }: StepPlace): void {
    const a = this.activations;
    const tokens = batch.ids.length;
    const labels = batch.targets.length;
    if (tokens > this.capacity.tokens || labels > this.capacity.labels || batch.pairs > this.capacity.pairs) {
      throw new RangeError(
        `a batch of ${tokens} tokens, ${labels} labels, ${batch.pairs} pairs exceeds the plan's ` +
          `${this.capacity.tokens}, ${this.capacity.labels}, ${this.capacity.pairs}`,
      );
    }
    this.#batch = batch;
    for (const name of Object.keys(a.batch) as (keyof typeof a.batch)[]) {
      if (batch[name].length > 0) writeTensor(gpu, a.batch[name], batch[name]);
    }
    const accumulate = !firstOfStep;
    a.rowCounts.set(a.tokenRows.slot, { count: tokens, accumulate });
    a.rowCounts.set(a.tokenRowsAdding.slot, { count: tokens, accumulate: true });
    a.rowCounts.set(a.labelSlot.slot, { count: labels, accumulate });
    a.rowCounts.set(a.pairSlot.slot, { count: batch.pairs, scale: 1 / pairsOfStep });
    a.rowCounts.set(a.distinctSlot.slot, { count: batch.distinctIds.length });
    const pieces = Math.ceil(labels / a.pieceRows);
    a.pieces.forEach(({ slot }, i) => {
      const count = Math.max(0, Math.min(a.pieceRows, labels - i * a.pieceRows));
      // The last piece comes first in the backward pass, and so is the one that may begin the head's gradient.
      a.rowCounts.set(slot, { count, accumulate: accumulate || i < pieces - 1 });
      a.rowCounts.set(a.piecesAdding[i].slot, { count, accumulate: true });
    });
    a.rowCounts.upload(gpu, a.rows);
  }

  /** What the work of the uploaded batch's kernels follows from. */
  workSize(): WorkSize {
    return {
      counts: this.activations.rowCounts.counts,
      visible: this.#batch ? visiblePairs(this.#batch) : 0,
      attentionWidth: this.config.numAttentionHeads * this.config.headDim,
    };
  }

  /** Log-probabilities and the loss of the uploaded batch. */
  encodeForward(encoder: GPUCommandEncoder): void {
    this.#forward!.encode(encoder, this.activations.rowCounts.counts);
  }

  /** Gradients of every parameter, after `encodeForward` of the same batch. */
  encodeBackward(encoder: GPUCommandEncoder): void {
    this.#backward!.encode(encoder, this.activations.rowCounts.counts);
  }

  /**
   * Runs forward and backward of a batch kernel by kernel, over memory that holds nothing of earlier batches, until `look` has
   * seen enough: for finding where numbers went wrong. The gradients are lost.
   */
  async walk(gpu: Gpu, batch: Batch, look: Look): Promise<void> {
    const encoder = gpu.device.createCommandEncoder();
    for (const slab of this.plan.slabs) {
      const isKept = slab.purpose === "weights" || slab.purpose === "moments" || slab.purpose === "batch";
      if (!isKept && isReadable(slab)) encoder.clearBuffer(slab.buffer!);
    }
    gpu.device.queue.submit([encoder.finish()]);
    this.upload(gpu, batch, { firstOfStep: true, pairsOfStep: batch.pairs });
    const { counts } = this.activations.rowCounts;
    await this.#forward!.walk(gpu, counts, look) || await this.#backward!.walk(gpu, counts, look);
  }

  /**
   * Logits that follow the given rows of a batch without pairs, [rows, vocabulary]; they must fit one piece.
   * Every label row of the batch is computed; targets do not matter.
   */
  async logits(gpu: Gpu, batch: Batch): Promise<Float32Array> {
    const a = this.activations;
    const labels = batch.targets.length;
    if (labels > a.pieceRows) {
      throw new RangeError(`${labels} rows of logits exceed a piece of ${a.pieceRows}`);
    }
    this.upload(gpu, batch, { firstOfStep: true, pairsOfStep: 1 });
    const encoder = gpu.device.createCommandEncoder();
    this.encodeForward(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    // Still there: without pairs, no kernel that runs after the logits' takes their place.
    const stride = a.logits.shape[1];
    const padded = new Float32Array(await readTensor(gpu, a.logits, 0, labels * stride));
    const { vocabSize } = this.config;
    const out = new Float32Array(labels * vocabSize);
    for (let row = 0; row < labels; row++) {
      out.set(padded.subarray(row * stride, row * stride + vocabSize), row * vocabSize);
    }
    return out;
  }

  destroy(): void {
    this.plan.destroy();
  }
}

/** `calls`, with the updates of each parameter after the last of them that reads or writes its weights or gradient. */
function withUpdates(
  calls: readonly KernelCall[],
  parameters: readonly Parameter[],
  updates: (parameter: Parameter) => KernelCall[],
): KernelCall[] {
  const parameterOf = new Map<Tensor, Parameter>(
    parameters.flatMap((parameter) =>
      [parameter.weights, parameter.gradients].map((tensor) => [tensor, parameter] as const)
    ),
  );
  const lastUse = new Map<Parameter, number>();
  calls.forEach((call, index) => {
    for (const tensor of tensorsOf(call)) {
      const parameter = parameterOf.get(tensor.base ?? tensor);
      if (parameter) lastUse.set(parameter, index);
    }
  });
  const complete = Map.groupBy(lastUse, ([, index]) => index);
  return calls.flatMap((call, index) => [
    call,
    ...(complete.get(index) ?? []).flatMap(([parameter]) => updates(parameter)),
  ]);
}
