import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import { elements, formatBytes, type MemoryPlan, type Slab, type Tensor } from "../gpu/memory.ts";
import { NORM_BLOCK } from "../gpu/optimizer_operations.ts";
import { readTensor, writeTensor } from "../gpu/program.ts";
import { type Checkpoint, type FloatDtype, fromF32, isFloatDtype } from "../safetensors.ts";
import type { TensorSource } from "../safetensors_write.ts";
import { type ParameterPart, type ParameterSpec, shapeOf } from "./llama.ts";

/** What AdamW keeps of each parameter, in slabs of the same layout. */
export type ParameterKind = "weights" | "gradients" | "first" | "second";

/** A parameter on the GPU: the same range of each of its chunk's slabs. */
export interface Parameter {
  spec: ParameterSpec;
  chunk: ParameterChunk;
  weights: Tensor;
  /** Only in a plan made for training. */
  gradients: Tensor;
  /** In blocks of `NORM_BLOCK` vec4s, over all chunks. */
  firstBlock: number;
  blocks: number;
}

/** A slab of parameters that one dispatch can update: as large as a binding may be. */
export interface ParameterChunk {
  slabs: Record<ParameterKind, Slab>;
  bytes: number;
  /** The first floats of the chunk are matrices, which weight decay applies to; norms follow. */
  decayedElements: number;
  firstBlock: number;
}

/** Parameters start at multiples of this many bytes, so that a block of the gradient norm is of one parameter. */
const BLOCK_BYTES = NORM_BLOCK * 16;
/** Elements moved between host and GPU at a time. */
const PIECE = 4 * 2 ** 20;

/** The weights of a model on the GPU with their gradients and moments, placed in as few slabs as bindings allow. */
export class Parameters {
  readonly list: Parameter[] = [];
  readonly chunks: ParameterChunk[] = [];
  readonly blocks: number;
  readonly #byPart = new Map<string, { parameter: Parameter; firstRow: number; part: ParameterPart }>();
  readonly #bySpec = new Map<ParameterSpec, Parameter>();

  /** @throws {UserError} where one matrix is larger than `largestBuffer` bytes. */
  constructor(plan: MemoryPlan, specs: ParameterSpec[], largestBuffer: number, training = true) {
    const ordered = [...specs.filter((spec) => !spec.isVector), ...specs.filter((spec) => spec.isVector)];
    const groups: { spec: ParameterSpec; offset: number; bytes: number }[][] = [];
    let used = Infinity;
    for (const spec of ordered) {
      const bytes = Math.ceil(elements(shapeOf(spec)) * 4 / BLOCK_BYTES) * BLOCK_BYTES;
      if (bytes > largestBuffer) {
        throw new UserError(
          `${spec.name} of ${formatBytes(bytes)} is larger than a buffer of this adapter, ${
            formatBytes(largestBuffer)
          }: ` +
            "this model cannot be trained here",
        );
      }
      if (used + bytes > largestBuffer) {
        groups.push([]);
        used = 0;
      }
      groups.at(-1)!.push({ spec, offset: used, bytes });
      used += bytes;
    }
    const purposes = {
      weights: "weights",
      gradients: "gradients",
      first: "moments",
      second: "moments",
    } as const;
    const kinds: ParameterKind[] = training ? ["weights", "gradients", "first", "second"] : ["weights"];
    let block = 0;
    groups.forEach((group, index) => {
      const bytes = group.reduce((sum, { bytes }) => sum + bytes, 0);
      const slabs = Object.fromEntries(
        kinds.map((kind) => [kind, plan.slab(`${kind} ${index}`, purposes[kind], bytes)]),
      ) as Record<ParameterKind, Slab>;
      const decayed = group.filter(({ spec }) => !spec.isVector).reduce((sum, { bytes }) => sum + bytes, 0);
      const chunk = { slabs, bytes, decayedElements: decayed / 4, firstBlock: block };
      this.chunks.push(chunk);
      for (const { spec, offset, bytes } of group) {
        const tensor = (kind: ParameterKind): Tensor => ({
          name: spec.name,
          shape: shapeOf(spec),
          slab: slabs[kind],
          offset,
          bytes,
        });
        const blocks = bytes / BLOCK_BYTES;
        const parameter: Parameter = {
          spec,
          chunk,
          weights: tensor("weights"),
          gradients: tensor(training ? "gradients" : "weights"),
          firstBlock: block,
          blocks,
        };
        block += blocks;
        this.list.push(parameter);
        this.#bySpec.set(spec, parameter);
        let firstRow = 0;
        for (const part of spec.parts) {
          this.#byPart.set(part.name, { parameter, firstRow, part });
          firstRow += part.rows;
        }
      }
    });
    this.blocks = block;
  }

  of(spec: ParameterSpec): Parameter {
    return this.#bySpec.get(spec)!;
  }

  /** The number of trained weights. */
  get count(): number {
    return this.list.reduce((sum, { spec }) => sum + elements(shapeOf(spec)), 0);
  }

  /**
   * Checks that a checkpoint holds every tensor in its shape and in a float dtype, before anything is read.
   * @throws {UserError} naming all that are wrong.
   */
  check(checkpoint: Checkpoint): void {
    const problems: string[] = [];
    for (const [name, { parameter, part }] of this.#byPart) {
      const expected = partShape(parameter.spec, part);
      const info = checkpoint.tensors.get(name);
      if (!info) problems.push(`${name}: missing, expected shape [${expected}]`);
      else if (!isFloatDtype(info.dtype)) {
        problems.push(`${name}: dtype ${info.dtype}, expected F32, F16 or BF16`);
      } else if (String(info.shape) !== String(expected)) {
        problems.push(`${name}: shape [${info.shape}], expected [${expected}]`);
      }
    }
    if (problems.length) {
      const shown = problems.slice(0, 8).join("\n  ");
      const more = problems.length > 8 ? `\n  and ${problems.length - 8} more` : "";
      throw new UserError(
        `the weights do not fit config.json:\n  ${shown}${more}\nare both of the same model?`,
      );
    }
  }

  /** Uploads the weights of a checkpoint that `check` has passed. */
  async load(gpu: Gpu, checkpoint: Checkpoint): Promise<void> {
    for (const [name, { parameter, firstRow, part }] of this.#byPart) {
      const first = firstRow * parameter.spec.columns;
      const count = part.rows * parameter.spec.columns;
      for (let at = 0; at < count; at += PIECE) {
        const values = await checkpoint.readF32(name, at, Math.min(PIECE, count - at));
        writeTensor(gpu, parameter.weights, values, first + at);
      }
    }
  }

  /** Sets matrices to values from `normal` times `deviation` and norms to 1, as transformers initialises a model. */
  initialize(gpu: Gpu, normal: () => number, deviation: number): void {
    for (const { spec, weights } of this.list) {
      const values = new Float32Array(elements(shapeOf(spec)));
      writeTensor(gpu, weights, spec.isVector ? values.fill(1) : values.map(() => normal() * deviation));
    }
  }

  /** The values of one checkpoint tensor, as they are on the GPU. */
  async read(gpu: Gpu, name: string, kind: "weights" | "gradients" = "weights"): Promise<Float32Array> {
    const pieces = await Array.fromAsync(this.#pieces(gpu, name, kind));
    const all = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }

  async *#pieces(gpu: Gpu, name: string, kind: "weights" | "gradients"): AsyncGenerator<Float32Array> {
    const { parameter, firstRow, part } = this.#byPart.get(name)!;
    const first = firstRow * parameter.spec.columns;
    const count = part.rows * parameter.spec.columns;
    for (let at = 0; at < count; at += PIECE) {
      yield new Float32Array(await readTensor(gpu, parameter[kind], first + at, Math.min(PIECE, count - at)));
    }
  }

  /** Checkpoint tensor names, in the order of the plan. */
  get names(): string[] {
    return [...this.#byPart.keys()];
  }

  /** Shape of a checkpoint tensor. */
  shape(name: string): number[] {
    const { parameter, part } = this.#byPart.get(name)!;
    return partShape(parameter.spec, part);
  }

  /** What to save of a model that has no source: every tensor in `dtype`. */
  newSources(gpu: Gpu, dtype: FloatDtype): TensorSource[] {
    return this.names.map((name) => ({
      name,
      dtype,
      shape: this.shape(name),
      chunks: this.#chunks(gpu, name, dtype),
    }));
  }

  #chunks(gpu: Gpu, name: string, dtype: FloatDtype): () => AsyncGenerator<Uint8Array> {
    const pieces = () => this.#pieces(gpu, name, "weights");
    return async function* () {
      for await (const piece of pieces()) yield fromF32(piece, dtype);
    };
  }

  /**
   * What to save: every tensor of the source in its dtype, trained ones as they are on the GPU, others as in the source.
   * A head stored beside tied embeddings gets the embeddings' values.
   */
  sources(gpu: Gpu, checkpoint: Checkpoint): TensorSource[] {
    return [...checkpoint.tensors.values()].map(({ name, dtype, shape }) => {
      const trained = this.#byPart.has(name)
        ? name
        : name === "lm_head.weight"
        ? "model.embed_tokens.weight"
        : undefined;
      if (trained === undefined || !isFloatDtype(dtype)) {
        return {
          name,
          dtype,
          shape,
          chunks: async function* () {
            yield await checkpoint.readBytes(name);
          },
        };
      }
      return { name, dtype, shape, chunks: this.#chunks(gpu, trained, dtype) };
    });
  }
}

const partShape = (spec: ParameterSpec, part: ParameterPart) =>
  spec.isVector ? [spec.columns] : [part.rows, spec.columns];
