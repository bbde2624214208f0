import { bytesOf as storageBytes } from "../../kernels/storage.ts";
import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import { elementBytes } from "../gpu/memory.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import { writeTensor } from "../gpu/program.ts";
import { BatchedReader, dtypeOf, firstNonFinite, type Range } from "../gpu/readback.ts";
import type { OnProgress } from "../progress/progress.ts";
import { type FloatDtype, fromF32, isFloatDtype } from "../safetensors/dtype.ts";
import type { TensorReader } from "../safetensors/read.ts";
import type { TensorSource } from "../safetensors/write.ts";
import {
  parameterCount,
  type ParameterPart,
  type ParameterSpec,
  rowRuns,
  shapeOf,
  shapeOfPart,
} from "./parameter.ts";
import { quantizedWords } from "./quantized_matrix.ts";
import {
  type Parameter,
  type ParameterChunk,
  type ParameterKind,
  type ParameterOptions,
  placeParameters,
  storageOfWeights,
  type TrainedParameter,
} from "./layout.ts";
import type { SavedTensor } from "./saved_tensor.ts";

export type {
  Parameter,
  ParameterChunk,
  ParameterKind,
  ParameterOptions,
  TrainedParameter,
} from "./layout.ts";

/** Elements moved between host and GPU at a time. */
const PIECE = 4 * 2 ** 20;

/** The weights of a model on the GPU, with gradients and moments where it is trained. */
export class Parameters {
  /** In the order of their places; a parameter that is too large to be bound is there in pieces. */
  readonly list: readonly Parameter[];
  /** Those that are trained: what the optimizer updates. */
  readonly trainedList: readonly TrainedParameter[];
  readonly chunks: readonly ParameterChunk[];
  readonly blocks: number;
  /** Whether other ranks have a part of the moments, and update what they belong to. */
  readonly isShared: boolean;
  readonly #byPart = new Map<string, { spec: ParameterSpec; firstRow: number; part: ParameterPart }>();
  /** The elements of those whose rows stay here, once they are loaded. */
  readonly #onHost = new Map<ParameterSpec, Float32Array | Uint16Array>();
  readonly #bySpec: ReadonlyMap<ParameterSpec, Parameter[]>;
  readonly #trainedBySpec: ReadonlyMap<ParameterSpec, TrainedParameter[]>;

  /** @throws {UserError} where a few rows of a matrix are larger than `largestBuffer` bytes. */
  constructor(
    plan: MemoryPlan,
    readonly specs: readonly ParameterSpec[],
    largestBuffer: number,
    options: ParameterOptions,
  ) {
    const { list, trained, chunks, blocks } = placeParameters(plan, specs, largestBuffer, options);
    this.isShared = (options.share?.size ?? 1) > 1;
    this.list = list;
    this.trainedList = trained;
    this.chunks = chunks;
    this.blocks = blocks;
    this.#bySpec = Map.groupBy(list, ({ spec }) => spec);
    this.#trainedBySpec = Map.groupBy(trained, ({ spec }) => spec);
    const onHost = specs.filter(({ isOnHost }) => isOnHost);
    for (const spec of onHost) this.#onHost.set(spec, new Float32Array());
    for (const spec of [...this.#bySpec.keys(), ...onHost]) {
      let firstRow = 0;
      for (const part of spec.parts) {
        this.#byPart.set(part.name, { spec, firstRow, part });
        firstRow += part.rows;
      }
    }
  }

  /** A parameter, in pieces of its rows where it is too large to be bound whole. */
  pieces(spec: ParameterSpec): readonly Parameter[] {
    return this.#bySpec.get(spec)!;
  }

  /** As `pieces`, with gradients and moments; none where they are frozen. */
  trained(spec: ParameterSpec): readonly TrainedParameter[] {
    return this.#trainedBySpec.get(spec) ?? [];
  }

  /** A parameter that is in one piece, as every norm is. */
  of(spec: ParameterSpec): Parameter {
    return this.pieces(spec)[0];
  }

  /** The number of weights. */
  get count(): number {
    const onHost = [...this.#onHost.keys()].map(shapeOf);
    return elementsOf(this.list) + onHost.reduce((sum, [rows, columns]) => sum + rows * columns, 0);
  }

  /** Bytes of the machine's memory that rows take which stay there. */
  get hostBytes(): number {
    return [...this.#onHost.keys()].reduce((sum, spec) => {
      const [rows, columns] = shapeOf(spec);
      return sum + rows * columns * storageBytes(storageOfWeights(spec));
    }, 0);
  }

  /** Rows of a parameter that stays here, one after the other, as they are stored. */
  hostRows(spec: ParameterSpec, rows: Uint32Array): Float32Array | Uint16Array {
    const all = this.#onHost.get(spec)!;
    const { columns } = spec;
    const found = all instanceof Uint16Array
      ? new Uint16Array(rows.length * columns)
      : new Float32Array(rows.length * columns);
    rows.forEach((row, i) => found.set(all.subarray(row * columns, (row + 1) * columns), i * columns));
    return found;
  }

  /** How many of them are trained. */
  get trainedCount(): number {
    return elementsOf(this.trainedList);
  }

  /**
   * Checks that a checkpoint holds every tensor of a kind, or those of `names`, in its shape and a dtype that it can
   * be read from, before anything is read.
   * @throws {UserError} naming all that are wrong.
   */
  check(
    checkpoint: TensorReader,
    otherwise = "the weights do not fit config.json",
    kind: ParameterKind = "weights",
    names: readonly string[] = this.namesOf(kind),
  ): void {
    const problems: string[] = [];
    for (const name of names) {
      const expected = this.shape(name);
      const info = checkpoint.tensors.get(name);
      const isCodes = this.dtype(name, kind) === "U8";
      if (!info) problems.push(`${name}: missing, expected shape [${expected}]`);
      else if (isCodes ? info.dtype !== "U8" : !isFloatDtype(info.dtype)) {
        problems.push(`${name}: dtype ${info.dtype}, expected ${isCodes ? "U8" : "F32, F16 or BF16"}`);
      } else if (String(info.shape) !== String(expected)) {
        problems.push(`${name}: shape [${info.shape}], expected [${expected}]`);
      }
    }
    if (problems.length) {
      const shown = problems.slice(0, 8).join("\n  ");
      const more = problems.length > 8 ? `\n  and ${problems.length - 8} more` : "";
      throw new UserError(`${otherwise}:\n  ${shown}${more}\nare both of the same model?`);
    }
  }

  /**
   * Uploads tensors that `check` has passed: the weights of a checkpoint, all or those of `names`, or another of
   * `ParameterKind`. Matrices that are to be quantized are, on the way.
   * @throws {UserError} where one of those holds what is not finite.
   */
  async load(
    gpu: Gpu,
    checkpoint: TensorReader,
    kind: ParameterKind = "weights",
    onProgress?: OnProgress,
    names: readonly string[] = this.namesOf(kind),
  ): Promise<void> {
    const asked = new Set(names);
    const plain = this.#readable(kind).filter((name) => asked.has(name));
    const quantized = kind === "weights"
      ? [...this.#bySpec].filter(([{ parts: [part] }, pieces]) => isQuantized(pieces) && asked.has(part.name))
      : [];
    const what = kind === "weights" ? "loading weights" : `loading the optimizer's ${kind} moments`;
    const bytesOf = ({ tensor, count }: Range) => count * elementBytes(tensor);
    const ranges = plain.flatMap((name) => this.ranges(name, kind));
    const pieces = quantized.flatMap(([, pieces]) => pieces);
    const total = ranges.reduce((sum, range) => sum + bytesOf(range), 0) +
      pieces.reduce((sum, { weights }) => sum + weights.bytes, 0);
    if (kind === "weights") await this.#loadHost(checkpoint, asked);
    let done = 0;
    const report = (bytes: number) => onProgress?.({ what, done: done += bytes, total, unit: "bytes" });
    report(0);
    for (const name of plain) {
      let at = 0;
      for (const range of this.ranges(name, kind)) {
        const { tensor, firstElement, count } = range;
        const values = await readStored(checkpoint, name, dtypeOf(tensor), at, count);
        writeTensor(gpu, tensor, values, firstElement);
        at += count;
        report(bytesOf(range));
      }
    }
    for (const [spec, pieces] of quantized) {
      const words = await quantizedWords(checkpoint, spec, pieces, pieces[0].weights.quantized!);
      for (const [i, { weights }] of pieces.entries()) {
        writeTensor(gpu, weights, words[i]);
        report(weights.bytes);
      }
    }
  }

  /** Where a checkpoint tensor lies, in its order, in pieces that are small enough to be moved at a time. */
  ranges(name: string, kind: ParameterKind): Range[] {
    const { spec, firstRow, part } = this.#byPart.get(name)!;
    const ranges: Range[] = [];
    for (const run of rowRuns(part)) {
      for (const piece of this.#tensorsOf(spec, kind)) {
        const first = Math.max(firstRow + run.first, piece.firstRow);
        const end = Math.min(firstRow + run.first + run.rows, piece.firstRow + piece.rows);
        const last = (end - piece.firstRow) * spec.columns;
        for (let at = (first - piece.firstRow) * spec.columns; at < last; at += PIECE) {
          ranges.push({ tensor: piece.tensor, firstElement: at, count: Math.min(PIECE, last - at) });
        }
      }
    }
    return ranges;
  }

  /**
   * Sets matrices to values from `normal` times `deviation`, norms to their parts' initial values and biases to 0, as
   * transformers initialises a model: the embedding of the padding token is 0.
   *
   * @param options `specs`: those of the whole model, where these are of a stage of it.
   */
  initialize(
    gpu: Gpu,
    normal: () => number,
    deviation: number,
    { specs = this.specs, onProgress }: { specs?: readonly ParameterSpec[]; onProgress?: OnProgress } = {},
  ): void {
    let done = 0;
    const total = parameterCount(specs);
    // In the graph's order, whatever is trained: so a reference model, which trains nothing, begins with the same
    // weights.
    const here = (spec: ParameterSpec): (Omit<Parameter, "weights"> & Partial<Parameter>)[] =>
      this.#bySpec.get(spec) ?? [{ spec, firstRow: 0, rows: shapeOf(spec)[0] }];
    for (const { spec, firstRow, rows, weights } of specs.flatMap(here)) {
      const { columns } = spec;
      const values = new Float32Array(rows * columns);
      const filled = spec.kind === "matrix" ? values.map(() => normal() * deviation) : values;
      done += values.length;
      onProgress?.({ what: "drawing random weights", done, total });
      // Of another stage of a pipeline: its numbers are drawn all the same.
      if (!weights) continue;
      let at = 0;
      for (const part of spec.kind === "norm" ? spec.parts : []) {
        filled.fill(part.initial ?? 1, at, at += part.rows * columns);
      }
      const row = (spec.padTokenId ?? -1) - firstRow;
      if (row >= 0 && row < rows) {
        filled.fill(0, row * columns, (row + 1) * columns);
      }
      const dtype = dtypeOf(weights) as FloatDtype;
      writeTensor(gpu, weights, dtype === "F32" ? filled : new Uint16Array(fromF32(filled, dtype).buffer));
    }
  }

  async #loadHost(checkpoint: TensorReader, names: ReadonlySet<string>): Promise<void> {
    for (const spec of this.#onHost.keys()) {
      if (!names.has(spec.parts[0].name)) continue;
      const [rows, columns] = shapeOf(spec);
      const storage = storageOfWeights(spec);
      const all = storage === "f32" ? new Float32Array(rows * columns) : new Uint16Array(rows * columns);
      let at = 0;
      for (const part of spec.parts) {
        const end = at + part.rows * columns;
        for (let first = 0; at < end; first += PIECE) {
          const count = Math.min(PIECE, end - at);
          all.set(await readStored(checkpoint, part.name, dtypeOf({ storage }), first, count), at);
          at += count;
        }
      }
      this.#onHost.set(spec, all);
    }
  }

  /** The values of one checkpoint tensor that is on the GPU and not quantized. */
  async read(gpu: Gpu, name: string, kind: ParameterKind = "weights"): Promise<Float32Array> {
    const ranges = this.ranges(name, kind).map((range) => ({ name, ...range }));
    const pieces = await Array.fromAsync(new BatchedReader(gpu, ranges).pieces(name));
    const all = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }

  /** Checkpoint tensor names, in the order of the plan. */
  get names(): string[] {
    return [...this.#byPart.keys()];
  }

  /**
   * The names of those that have a kind: all have weights, those that are trained gradients too, and moments where
   * they are here.
   */
  namesOf(kind: ParameterKind): string[] {
    return this.names.filter((name) =>
      kind === "weights" || this.trained(this.#byPart.get(name)!.spec)[0]?.[kind] !== undefined
    );
  }

  /** Whether a checkpoint tensor is one of theirs. */
  has(name: string): boolean {
    return this.#byPart.has(name);
  }

  isTrained(name: string): boolean {
    return this.trained(this.#byPart.get(name)!.spec).length > 0;
  }

  /** The type that a checkpoint tensor is stored in. */
  dtype(name: string, kind: ParameterKind = "weights"): FloatDtype | "U8" {
    const { spec } = this.#byPart.get(name)!;
    return dtypeOf(
      this.#onHost.has(spec) ? { storage: storageOfWeights(spec) } : this.#tensorsOf(spec, kind)[0].tensor,
    );
  }

  /** A parameter's pieces, each with its tensor of a kind. */
  #tensorsOf(spec: ParameterSpec, kind: ParameterKind) {
    return kind === "weights"
      ? this.pieces(spec).map(({ firstRow, rows, weights }) => ({ firstRow, rows, tensor: weights }))
      : this.trained(spec).map(({ firstRow, rows, [kind]: tensor }) => ({ firstRow, rows, tensor: tensor! }));
  }

  /** Shape of a checkpoint tensor. */
  shape(name: string): number[] {
    const { spec, part } = this.#byPart.get(name)!;
    return shapeOfPart(spec, part);
  }

  /**
   * What to save of all parameters that have it, and lie on the GPU as numbers: weights, or another of
   * `ParameterKind`, in `dtype` or as they are stored, with `prefix` before their names. Their `chunks` throw a
   * UserError where a value is not finite.
   */
  newSources(
    gpu: Gpu,
    dtype: FloatDtype | "stored",
    kind: ParameterKind = "weights",
    prefix = "",
  ): TensorSource[] {
    const reader = this.#reader(gpu, kind);
    return this.#readable(kind).map((name) => {
      const saved = dtype === "stored" ? this.dtype(name, kind) : dtype;
      return {
        name: prefix + name,
        dtype: saved,
        shape: this.shape(name),
        chunks: chunksOf(reader, name, saved, `${prefix}${name}`),
      };
    });
  }

  #reader(gpu: Gpu, kind: ParameterKind): BatchedReader {
    const rangesOf = (name: string) => this.ranges(name, kind).map((range) => ({ name, ...range }));
    return new BatchedReader(gpu, this.#readable(kind).flatMap(rangesOf));
  }

  /** The names of those that lie on the GPU as numbers. */
  #readable(kind: ParameterKind): string[] {
    return this.namesOf(kind).filter((name) => {
      const pieces = this.#bySpec.get(this.#byPart.get(name)!.spec);
      return pieces !== undefined && !isQuantized(pieces);
    });
  }

  /** What to save: tensors of the source under their names there, with the weights as they are on the GPU. */
  sources(gpu: Gpu, saved: readonly SavedTensor[]): TensorSource[] {
    const reader = this.#reader(gpu, "weights");
    return saved.map((tensor) => {
      if ("chunks" in tensor) return tensor;
      const { name, parameter, dtype, shape } = tensor;
      return { name, dtype, shape, chunks: chunksOf(reader, parameter, dtype, name) };
    });
  }
}

const isQuantized = ([{ weights }]: readonly Parameter[]) => weights.quantized !== undefined;

const elementsOf = (list: readonly Parameter[]) =>
  list.reduce((sum, { rows, spec }) => sum + rows * spec.columns, 0);

/** Nothing that is not a number is ever written over what is. */
function chunksOf(
  reader: BatchedReader,
  name: string,
  dtype: FloatDtype | "U8",
  label: string,
): () => AsyncGenerator<Uint8Array> {
  if (dtype === "U8") return () => reader.stored(name);
  return async function* () {
    for await (const piece of reader.pieces(name)) {
      const bad = firstNonFinite(piece);
      if (bad >= 0) {
        throw new UserError(
          `${label} holds ${
            piece[bad]
          } after the last update, and is not saved. Try a lower learning_rate, a longer ` +
            "warm-up or a larger adam_epsilon",
        );
      }
      yield fromF32(piece, dtype);
    }
  };
}

/**
 * Elements of a checkpoint tensor as they are stored on the GPU; those of the same type are not converted on the way.
 */
async function readStored(
  checkpoint: TensorReader,
  name: string,
  dtype: FloatDtype | "U8",
  first: number,
  count: number,
): Promise<Float32Array | Uint16Array | Uint8Array> {
  if (dtype === "F32") return await checkpoint.readF32(name, first, count);
  if (dtype === "U8") return await checkpoint.readBytes(name, first, count);
  const bytes = checkpoint.tensors.get(name)!.dtype === dtype
    ? await checkpoint.readBytes(name, 2 * first, 2 * count)
    : fromF32(await checkpoint.readF32(name, first, count), dtype);
  return new Uint16Array(bytes.buffer, bytes.byteOffset, count);
}
