import type { Gpu } from "./gpu/device.ts";
import { ALIGNMENT, type MemoryPlan, type Tensor } from "./gpu/memory.ts";
import { adamw, clipByNorm, sumSquares } from "./gpu/optimizer_operations.ts";
import { type Pipelines, Program, readTensor, writeTensor } from "./gpu/program.ts";
import type { Parameter, Parameters } from "./model/parameters.ts";

export interface AdamWOptions {
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  /** Gradients are scaled down to this norm; 0 leaves them as they are. */
  maxGradNorm: number;
}

/** What clipping found: bytes 0 to 15 of the `clip` tensor. */
export interface ClipResult {
  /** Norm of all gradients before clipping. */
  norm: number;
  /** The norm was infinite or not a number: the update was not made, nor will any later one be. */
  broken: boolean;
}

/** AdamW with clipping by the global norm, as torch.optim.AdamW and torch.nn.utils.clip_grad_norm_ compute them. */
export class AdamW {
  readonly clip: Tensor;
  readonly #hyper: Tensor;
  readonly #blocks: Tensor;
  readonly #partial: Tensor;
  readonly #squares: Tensor;
  #program?: Program;

  constructor(plan: MemoryPlan, readonly parameters: Parameters, readonly options: AdamWOptions) {
    this.clip = plan.tensor("clip", "scratch", [4]);
    this.#hyper = plan.tensor("hyperparameters", "batch", [ALIGNMENT / 4]);
    // UNIFORM, COPY_DST
    Object.assign(this.#hyper.slab, { usage: 0x40 | 0x08 });
    this.#blocks = plan.tensor("norm blocks", "scratch", [parameters.list.length, 2]);
    this.#partial = plan.tensor("norm partial sums", "scratch", [parameters.blocks]);
    this.#squares = plan.tensor("norm squares", "scratch", [parameters.list.length]);
  }

  async compile(gpu: Gpu, pipelines: Pipelines): Promise<void> {
    const { list, chunks } = this.parameters;
    const tensors = { blocks: this.#blocks, partial: this.#partial, squares: this.#squares, clip: this.clip };
    this.#program = await Program.compile(pipelines, [
      ...chunks.map(({ gradients, firstBlock }) => sumSquares(gradients, this.#partial, firstBlock)),
      ...clipByNorm(tensors, list.length, this.options.maxGradNorm),
      ...chunks.map(({ gradients, weights, first, second, decayedElements }) =>
        adamw(
          { hyper: this.#hyper, clip: this.clip, gradients, weights, first, second },
          decayedElements,
        )
      ),
    ]);
    writeTensor(
      gpu,
      this.#blocks,
      Uint32Array.from(list.flatMap(({ firstBlock, blocks }) => [firstBlock, firstBlock + blocks])),
    );
  }

  /** Sets the figures of update `step` (from 1); must come before its submission. */
  upload(gpu: Gpu, step: number, learningRate: number): void {
    const { beta1, beta2, epsilon, weightDecay } = this.options;
    const figures = Float32Array.of(
      learningRate / (1 - beta1 ** step),
      1 - learningRate * weightDecay,
      1 - beta1,
      beta2,
      1 - beta2,
      epsilon,
      Math.sqrt(1 - beta2 ** step),
    );
    writeTensor(gpu, this.#hyper, figures);
  }

  /** Norm, clipping and update of all parameters. */
  encode(encoder: GPUCommandEncoder): void {
    const pass = encoder.beginComputePass();
    this.#program!.encode(pass, new Uint32Array());
    pass.end();
  }

  static readClip([norm, , broken]: ArrayLike<number> & Iterable<number>): ClipResult {
    return { norm, broken: broken !== 0 };
  }

  /** The parameters whose gradients are infinite or not a number, in the order of the forward pass. */
  async brokenParameters(gpu: Gpu): Promise<Parameter[]> {
    const squares = new Float32Array(await readTensor(gpu, this.#squares));
    return this.parameters.list.filter((_, i) => !Number.isFinite(squares[i]));
  }
}
