import { gather } from "../distributed/collectives.ts";
import type { Communicator } from "../distributed/communicator.ts";
import type { Gpu } from "../gpu/device.ts";
import { ALIGNMENT, type Tensor } from "../gpu/memory.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import { dynamicTables } from "../../kernels/dynamic_map.ts";
import {
  clipByNorm,
  hyperWords,
  type NormTensors,
  optimizerUpdate,
  parameterNorms,
  sumSquares,
} from "../gpu/optimizer_operations.ts";
import { type KernelCall, readTensor, slotOf, writeTensor } from "../gpu/program.ts";
import type { Hyperparameters, UpdateRule } from "../optimizers/rule.ts";
import { absmaxSources, checkAbsmax, loadAbsmax } from "../parameters/absmax.ts";
import type { ParameterChunk, Parameters, TrainedParameter } from "../parameters/parameters.ts";
import type { OnProgress } from "../progress/progress.ts";
import { uniform } from "../random.ts";
import { type Checkpoint, withPrefix } from "../safetensors/read.ts";
import type { TensorSource } from "../safetensors/write.ts";

export interface OptimizerOptions extends Hyperparameters {
  /** Gradients are scaled down to this norm; 0 leaves them as they are. */
  maxGradNorm: number;
  /** Of what is rounded by chance; by default 0. */
  seed?: number;
}

const ABSMAX = "absmax.";

/** UNIFORM, COPY_DST */
const UNIFORM = 0x40 | 0x08;

/** What clipping found: bytes 0 to 15 of the `clip` tensor. */
export interface ClipResult {
  /** Norm of all gradients before clipping. */
  norm: number;
  /**
   * The norm was infinite or not a number: the update was not made, nor will any later one be. Early updates stop at
   * the parameter whose gradient was.
   */
  broken: boolean;
}

/**
 * Updates of a rule with clipping by the global norm, as torch.nn.utils.clip_grad_norm_ computes it: kernel calls,
 * which a step puts after its backward pass. It updates all trained parameters by `update`, or each by
 * its `updateOf` as soon as its gradient is complete, where gradients are not clipped, and then has only the `norm`
 * left to compute.
 */
export class Optimizer {
  readonly clip: Tensor;
  readonly #hyper: Tensor;
  /** Where each parameter stands, then each chunk: a slot of `ALIGNMENT` bytes each. */
  readonly #places: Tensor;
  /** Those of the parameters that are here. */
  readonly #norm: NormTensors;
  /** The squares of all of the model's, in the order of its own list. */
  readonly #squares: Tensor;
  /** What bytes of moments stand for, where there are such. */
  readonly #map?: Tensor;

  /**
   * @param parameters have the moments of the rule.
   * @param whole those of the whole model, where these are of a stage of a pipeline.
   */
  constructor(
    plan: MemoryPlan,
    readonly parameters: Parameters,
    readonly rule: UpdateRule,
    readonly options: OptimizerOptions,
    readonly whole: Parameters = parameters,
  ) {
    const { trainedList: list, chunks, blocks } = parameters;
    this.clip = plan.tensor("clip", "scratch", [4]);
    this.#hyper = plan.tensor("hyperparameters", "batch", [ALIGNMENT / 4]);
    const slots = list.length + chunks.length;
    this.#places = plan.tensor("places of parameters", "batch", [slots, ALIGNMENT / 4]);
    for (const { slab } of [this.#hyper, this.#places]) Object.assign(slab, { usage: UNIFORM });
    if (list.some(({ absmax }) => absmax)) {
      this.#map = plan.tensor("dynamic maps", "batch", [dynamicTables.length]);
    }
    this.#norm = {
      blocks: plan.tensor("norm blocks", "scratch", [list.length, 2]),
      partial: plan.tensor("norm partial sums", "scratch", [blocks]),
      squares: plan.tensor("norm squares", "scratch", [list.length]),
      clip: this.clip,
    };
    this.#squares = this.isPart
      ? plan.tensor("norm squares of all stages", "scratch", [whole.trainedList.length])
      : this.#norm.squares;
  }

  /** Whether other stages of a pipeline have the model's other parameters: `gatherSquares` has to come before `apply`. */
  get isPart(): boolean {
    return this.whole !== this.parameters;
  }

  /** Uploads where parameters stand, once the plan is allocated. */
  prepare(gpu: Gpu): void {
    const { trainedList: list, chunks } = this.parameters;
    const { blocks } = this.#norm;
    writeTensor(
      gpu,
      blocks,
      Uint32Array.from(list.flatMap(({ firstBlock, blocks }) => [firstBlock, firstBlock + blocks])),
    );
    const places = new Uint32Array((list.length + chunks.length) * ALIGNMENT / 4);
    list.forEach(({ firstBlock, firstScale }, i) =>
      places.set([firstBlock, i, firstScale], i * ALIGNMENT / 4)
    );
    chunks.forEach(({ firstBlock, firstScale }, i) =>
      places.set([firstBlock, 0, firstScale], (list.length + i) * ALIGNMENT / 4)
    );
    writeTensor(gpu, this.#places, places);
    if (this.#map) writeTensor(gpu, this.#map, dynamicTables);
    // Norm 0, coefficient 1, not broken.
    writeTensor(gpu, this.clip, Float32Array.of(0, 1, 0, 0));
  }

  /** Norm, clipping, and an update of each chunk. */
  update(): KernelCall[] {
    return [...this.squares(), ...this.apply()];
  }

  /** The squared norm of each gradient that is kept here; of others what means nothing. */
  squares(): KernelCall[] {
    const { trainedList: list, chunks } = this.parameters;
    if (list.length === 0) return [];
    return [
      ...chunks.flatMap(({ gradients, elements }, i) =>
        gradients ? [sumSquares(this.#placeOf(i), gradients, this.#norm.partial, elements)] : []
      ),
      parameterNorms(this.#placeOf(0), this.#norm, { count: list.length, guard: false }),
    ];
  }

  /** What is left of `update` after them. */
  apply(): KernelCall[] {
    return [
      ...this.norm(),
      ...this.parameters.chunks.flatMap((chunk, i) =>
        this.#step(this.#placeOf(i), chunk, chunk.elements, chunk.decayedElements)
      ),
    ];
  }

  /** Puts the squares that ranks have found, of the gradients that each has, where those of the whole model stand. */
  async gatherSquares(gpu: Gpu, ranks: Communicator): Promise<void> {
    const own = new Float32Array(await readTensor(gpu, this.#norm.squares));
    const key = ({ spec, firstRow }: TrainedParameter) => `${spec.name} ${firstRow}`;
    const here = this.parameters.trainedList.flatMap((of, i) => of.sums ? [[key(of), own[i]] as const] : []);
    const found = new Map((await gather(ranks, here)).flat());
    writeTensor(gpu, this.#squares, Float32Array.from(this.whole.trainedList, (of) => found.get(key(of))!));
  }

  #placeOf(chunk: number): Tensor {
    return slotOf(this.#places, this.parameters.trainedList.length + chunk);
  }

  /** The update of one parameter, which is not made where its gradient, or one before it, is not finite. */
  updateOf(parameter: TrainedParameter): KernelCall[] {
    const { spec, rows, gradients } = parameter;
    const count = rows * spec.columns;
    const place = slotOf(this.#places, this.parameters.trainedList.indexOf(parameter));
    return [
      sumSquares(place, gradients, this.#norm.partial, count),
      parameterNorms(place, this.#norm, { count: 1, guard: true }),
      ...this.#step(place, parameter, count, spec.kind === "matrix" ? count : 0),
    ];
  }

  /** The update of `count` floats, of which the first `decayed` are decayed; none where the moments are elsewhere. */
  #step(place: Tensor, of: TrainedParameter | ParameterChunk, count: number, decayed: number): KernelCall[] {
    const { gradients, weights, first, second, absmax } = of;
    // Moments that are elsewhere are updated there.
    if (!first || !gradients) return [];
    const tensors = {
      ...{ place, hyper: this.#hyper, clip: this.clip, gradients, weights, first, second },
      ...(absmax && { inBytes: { absmax, map: this.#map! } }),
    };
    return [optimizerUpdate(this.rule, tensors, { count, decayed })];
  }

  /** Norm and clipping coefficient of all gradients, whose squares are known. */
  norm(): KernelCall[] {
    const tensors = { squares: this.#squares, clip: this.clip };
    return [clipByNorm(tensors, this.whole.trainedList.length, this.options.maxGradNorm)];
  }

  /** Sets the figures of update `step` (from 1); must come before its submission. */
  upload(gpu: Gpu, step: number, learningRate: number): void {
    const random = uniform(this.options.seed ?? 0, step);
    const keys = [random() * 2 ** 32, random() * 2 ** 32] as const;
    writeTensor(gpu, this.#hyper, hyperWords(this.rule, this.options, step, learningRate, keys));
  }

  /**
   * The moments by name, the parameter's behind what PyTorch calls the moment (`exp_avg.`, `exp_avg_sq.`), in the dtype
   * that they are kept in, and `absmax.` of those in bytes: what `restore` takes back.
   */
  state(gpu: Gpu, parameters: Parameters = this.parameters): TensorSource[] {
    return [
      ...this.rule.moments.flatMap(({ kind, name }) =>
        parameters.newSources(gpu, "stored", kind, `${name}.`)
      ),
      ...absmaxSources(gpu, parameters, ABSMAX),
    ];
  }

  /**
   * Uploads the moments of a file that was made of `state`.
   * @throws {UserError} where one is missing or of another shape, before anything is uploaded.
   */
  async restore(gpu: Gpu, saved: Checkpoint, onProgress?: OnProgress): Promise<void> {
    const moments = this.rule.moments.map(({ kind, name }) => ({
      kind,
      part: withPrefix(saved, `${name}.`),
    }));
    for (const { kind, part } of moments) {
      this.parameters.check(part, `${saved.files[0]} does not fit the model`, kind);
    }
    const absmax = withPrefix(saved, ABSMAX);
    checkAbsmax(this.parameters, absmax, saved.files[0]);
    for (const { kind, part } of moments) await this.parameters.load(gpu, part, kind, onProgress);
    await loadAbsmax(gpu, this.parameters, absmax);
  }

  static readClip([norm, , broken]: ArrayLike<number> & Iterable<number>): ClipResult {
    return { norm, broken: broken !== 0 };
  }

  /** The parameters whose gradients are infinite or not a number, in the order of the forward pass. */
  async brokenParameters(gpu: Gpu): Promise<TrainedParameter[]> {
    const squares = new Float32Array(await readTensor(gpu, this.#squares));
    return this.whole.trainedList.filter((_, i) => !Number.isFinite(squares[i]));
  }
}
