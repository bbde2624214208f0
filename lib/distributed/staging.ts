/** What is on its way from the GPU to the host: by way of memory that both see, in pieces one after the other. */
import type { Gpu } from "../gpu/device.ts";
import type { Slab } from "../gpu/memory.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";

/** MAP_READ, COPY_DST */
const READ_BACK = 0x01 | 0x08;

/** Several buffers, by turns: a piece takes that of the one so many before it, which has to be released. */
export class Staging {
  readonly #slabs: readonly Slab[];
  /** Of pieces that are on their way, when they are there, and how long they are. */
  readonly #mapped = new Map<number, { bytes: number; ready: Promise<void> }>();

  constructor(plan: MemoryPlan, readonly count: number, readonly bytes: number) {
    this.#slabs = Array.from(
      { length: count },
      (_, i) => plan.slab(`read back ${i}`, "scratch", bytes, READ_BACK),
    );
  }

  /** What piece `index` is copied to. */
  bufferOf(index: number): GPUBuffer {
    return this.#slabs[index % this.count].buffer!;
  }

  /** Asks for so many bytes of a piece, whose copy is submitted: at once, since Deno looks for them some 10 ms apart. */
  map(index: number, bytes: number): void {
    const ready = this.bufferOf(index).mapAsync(GPUMapMode.READ, 0, bytes);
    // Should a piece before it fail, that is told and not this.
    ready.catch(() => {});
    this.#mapped.set(index, { bytes, ready });
  }

  /** The bytes of a piece, until it is released: Deno's are a copy, and Dawn's the memory itself. */
  async read(gpu: Gpu, index: number): Promise<ArrayBuffer> {
    const { bytes, ready } = this.#mapped.get(index)!;
    await ready;
    gpu.check();
    return this.bufferOf(index).getMappedRange(0, bytes);
  }

  /** Gives up the bytes of a piece. */
  release(index: number): void {
    this.#mapped.delete(index);
    this.bufferOf(index).unmap();
  }
}
