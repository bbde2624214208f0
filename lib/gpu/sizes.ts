import type { Gpu } from "./device.ts";
import type { DeviceClass } from "./tuning.ts";
import { ALIGNMENT, type MemoryPlan, type Tensor } from "./memory.ts";

/** Sizes of a matrix product that do not change from batch to batch; `lda`, `ldb`, `ldc` are floats from row to row. */
export interface GemmSize {
  m: number;
  n: number;
  k: number;
  lda: number;
  ldb: number;
  ldc: number;
}

/** What matrix products share: the uniforms that hold their sizes, one for each distinct size, and the kind of device. */
export class GemmSizes {
  /** Picks the products' tiles; to be set, where there is a device, before products are built. */
  device: DeviceClass = "software";
  readonly #tensor: Tensor;
  readonly #sizes: GemmSize[] = [];

  constructor(plan: MemoryPlan, private readonly capacity = 32) {
    this.#tensor = plan.tensor("product sizes", "batch", [capacity * ALIGNMENT / 4]);
    // UNIFORM, COPY_DST
    Object.assign(this.#tensor.slab, { usage: 0x40 | 0x08 });
  }

  /** The uniform for `size`, to be filled by `upload`. */
  tensorOf(size: GemmSize): Tensor {
    const key = JSON.stringify(size);
    let index = this.#sizes.findIndex((known) => JSON.stringify(known) === key);
    if (index < 0) index = this.#sizes.push(size) - 1;
    if (index >= this.capacity) throw new RangeError(`more than ${this.capacity} distinct product sizes`);
    return { ...this.#tensor, offset: this.#tensor.offset + index * ALIGNMENT, bytes: 32 };
  }

  upload(gpu: Gpu): void {
    this.#sizes.forEach(({ m, n, k, lda, ldb, ldc }, index) => {
      const offset = this.#tensor.offset + index * ALIGNMENT;
      gpu.device.queue.writeBuffer(this.#tensor.slab.buffer!, offset, Uint32Array.of(m, n, k, lda, ldb, ldc));
    });
  }
}
