import { type FloatDtype, toF32 } from "../safetensors/dtype.ts";
import type { Gpu } from "./device.ts";
import { elementBytes, type Tensor } from "./memory.ts";

/** What a tensor's storage is called in a file. */
export const dtypeOf = (
  { storage = "f32", isCodes }: Pick<Tensor, "storage" | "isCodes">,
): FloatDtype | "U8" => isCodes ? "U8" : storage === "f32" ? "F32" : storage === "bf16" ? "BF16" : "F16";

/** A run of a tensor's elements, which starts on a word of 4 bytes. */
export interface Range {
  tensor: Tensor;
  firstElement: number;
  count: number;
}

/** Elements of one read-back: at most 16 MiB of staging memory. */
const BATCH_ELEMENTS = 4 * 2 ** 20;

/**
 * Reads named tensors back piece by piece. A read-back costs 10 ms whatever its size, and a model has hundreds of small
 * tensors: neighbours in the order of `ranges` share one. A tensor may lie in several.
 */
export class BatchedReader {
  readonly #batches: Range[][] = [[]];
  readonly #places = new Map<string, { batch: number; index: number }[]>();
  #loaded: { batch: number; pieces: Uint8Array[] } = { batch: -1, pieces: [] };

  constructor(readonly gpu: Gpu, ranges: Iterable<Range & { name: string }>) {
    let room = BATCH_ELEMENTS;
    for (const { name, tensor, firstElement, count } of ranges) {
      const places = this.#places.get(name) ?? [];
      for (let at = 0; at < count; at += BATCH_ELEMENTS) {
        const size = Math.min(BATCH_ELEMENTS, count - at);
        if (size > room) {
          this.#batches.push([]);
          room = BATCH_ELEMENTS;
        }
        room -= size;
        const last = this.#batches.at(-1)!;
        places.push({ batch: this.#batches.length - 1, index: last.length });
        last.push({ tensor, firstElement: firstElement + at, count: size });
      }
      this.#places.set(name, places);
    }
  }

  /** The elements of a tensor of floats in order, as 32-bit ones. */
  async *pieces(name: string): AsyncGenerator<Float32Array> {
    const { batch, index } = this.#places.get(name)![0];
    const dtype = dtypeOf(this.#batches[batch][index].tensor) as FloatDtype;
    for await (const stored of this.stored(name)) yield toF32(stored, dtype);
  }

  /** The bytes of a tensor in order, as they are stored. */
  async *stored(name: string): AsyncGenerator<Uint8Array> {
    for (const { batch, index } of this.#places.get(name)!) {
      if (this.#loaded.batch !== batch) {
        this.#loaded = { batch, pieces: await readRanges(this.gpu, this.#batches[batch]) };
      }
      yield this.#loaded.pieces[index];
    }
  }
}

/** Index of the first infinity or NaN, or -1. */
export function firstNonFinite(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) {
    // Cheaper than Number.isFinite: a checkpoint has a thousand million of them.
    if (values[i] - values[i] !== 0) return i;
  }
  return -1;
}

async function readRanges(gpu: Gpu, ranges: readonly Range[]): Promise<Uint8Array[]> {
  const { device } = gpu;
  const bytesOf = ({ tensor, count }: Range) => Math.ceil(count * elementBytes(tensor) / 4) * 4;
  const size = ranges.reduce((sum, range) => sum + bytesOf(range), 0);
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  let at = 0;
  for (const range of ranges) {
    const { tensor, firstElement } = range;
    const from = tensor.offset + firstElement * elementBytes(tensor);
    encoder.copyBufferToBuffer(tensor.slab.buffer!, from, staging, at, bytesOf(range));
    at += bytesOf(range);
  }
  device.queue.submit([encoder.finish()]);
  try {
    await staging.mapAsync(GPUMapMode.READ);
    const bytes = staging.getMappedRange().slice(0);
    staging.unmap();
    at = 0;
    return ranges.map((range) => {
      const begin = at;
      at += bytesOf(range);
      return new Uint8Array(bytes, begin, range.count * elementBytes(range.tensor));
    });
  } finally {
    staging.destroy();
    gpu.check();
  }
}
