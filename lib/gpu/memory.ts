import type { Quantization } from "../../kernels/quantized.ts";
import { bytesOf as storageBytes, type StorageType, type WeightStorage } from "../../kernels/storage.ts";

/** What a buffer is for: the rows of the printed plan. */
export type Purpose =
  | "weights"
  | "gradients"
  | "moments"
  | "activations"
  | "logits"
  | "cache"
  | "scratch"
  | "batch";

/** All of them, in the order of the rows. */
export const PURPOSES: readonly Purpose[] = [
  "weights",
  "gradients",
  "moments",
  "activations",
  "logits",
  "cache",
  "scratch",
  "batch",
];

/** One GPU buffer of the plan. `buffer` exists once the plan is allocated. */
export interface Slab {
  readonly name: string;
  readonly purpose: Purpose;
  readonly bytes: number;
  readonly usage: GPUBufferUsageFlags;
  buffer?: GPUBuffer;
}

/** A texture of the plan: rows of `width` texels of 16 bytes, which kernels read, and copies or kernels fill. */
export interface TextureSlab {
  readonly name: string;
  readonly purpose: Purpose;
  readonly width: number;
  readonly height: number;
  readonly bytes: number;
  readonly format: "rgba32float" | "rgba32uint";
  texture?: GPUTexture;
}

/** Whether a slab can be copied from (COPY_SRC), as all but those of sizes and hyperparameters can. */
export const isReadable = ({ usage }: Slab) => (usage & 0x04) !== 0;

/** A range of a slab, read as a matrix. */
export interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Without one, elements are of 4 bytes: float32 or integers. */
  readonly storage?: StorageType;
  /** Elements are bytes that stand for numbers by a map: moments, which only the optimizer's kernel reads. */
  readonly isCodes?: true;
  /** Of a matrix whose elements are no elements of memory: what lies there are the words of this. */
  readonly quantized?: Quantization;
  readonly slab: Slab;
  /** In bytes; a multiple of 256, the strictest offset alignment that WebGPU allows an adapter to ask for. */
  readonly offset: number;
  readonly bytes: number;
  /** The whole that this is a part of. */
  readonly base?: Tensor;
}

/** Offset alignment of bindings, in bytes. */
export const ALIGNMENT = 256;
export const align = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** How kernels read a matrix. */
export const weightStorage = ({ quantized, storage = "f32" }: Tensor): WeightStorage => quantized ?? storage;

/** Bytes of one element. */
export const elementBytes = ({ storage = "f32", isCodes }: Pick<Tensor, "storage" | "isCodes">) =>
  isCodes ? 1 : storageBytes(storage);

export const elements = (shape: readonly number[]) => shape.reduce((product, n) => product * n, 1);

/** `bytes` of `tensor` from byte `start` on, read as `shape`, wherever the plan puts that tensor. */
export function view(tensor: Tensor, start: number, bytes: number, shape: readonly number[]): Tensor {
  if (start % ALIGNMENT) throw new RangeError(`byte ${start} of ${tensor.name} is not aligned`);
  return {
    name: tensor.name,
    shape,
    storage: tensor.storage,
    bytes,
    base: tensor.base ?? tensor,
    get slab() {
      return tensor.slab;
    },
    get offset() {
      return tensor.offset + start;
    },
  };
}

/** A part of `tensor`: `rows` of its first dimension from `firstRow` on, which must start on an aligned byte. */
export function rowsOf(tensor: Tensor, firstRow: number, rows: number): Tensor {
  const rowBytes = elements(tensor.shape.slice(1)) * elementBytes(tensor);
  return view(tensor, firstRow * rowBytes, rows * rowBytes, [rows, ...tensor.shape.slice(1)]);
}
