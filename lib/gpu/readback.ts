import type { Gpu } from "./device.ts";
import type { Tensor } from "./memory.ts";

/** A run of 4-byte elements of a tensor. */
export interface Range {
  tensor: Tensor;
  firstElement: number;
  count: number;
}

/** Elements of one read-back: 16 MiB of staging memory. */
const BATCH_ELEMENTS = 4 * 2 ** 20;

/**
 * Reads named tensors back piece by piece. A read-back costs 10 ms whatever its size, and a model has hundreds of small
 * tensors: neighbours in the order of `names` share one.
 */
export class BatchedReader {
  readonly #batches: Range[][] = [[]];
  readonly #places = new Map<string, { batch: number; index: number }[]>();
  #loaded: { batch: number; pieces: Float32Array[] } = { batch: -1, pieces: [] };

  constructor(readonly gpu: Gpu, ranges: Iterable<Range & { name: string }>) {
    let room = BATCH_ELEMENTS;
    for (const { name, tensor, firstElement, count } of ranges) {
      const places: { batch: number; index: number }[] = [];
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

  /** The elements of a tensor in order, as 32-bit floats. */
  async *pieces(name: string): AsyncGenerator<Float32Array> {
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

async function readRanges(gpu: Gpu, ranges: readonly Range[]): Promise<Float32Array[]> {
  const { device } = gpu;
  const size = ranges.reduce((sum, { count }) => sum + count * 4, 0);
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  let at = 0;
  for (const { tensor, firstElement, count } of ranges) {
    const from = tensor.offset + firstElement * 4;
    encoder.copyBufferToBuffer(tensor.slab.buffer!, from, staging, at, count * 4);
    at += count * 4;
  }
  device.queue.submit([encoder.finish()]);
  try {
    await staging.mapAsync(GPUMapMode.READ);
    const bytes = staging.getMappedRange().slice(0);
    staging.unmap();
    at = 0;
    return ranges.map(({ count }) => {
      at += count * 4;
      return new Float32Array(bytes, at - count * 4, count);
    });
  } finally {
    staging.destroy();
    gpu.check();
  }
}
