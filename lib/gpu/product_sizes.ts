import { type GemmSize, sizeWords } from "../../kernels/gemm.ts";
import type { Gpu } from "./device.ts";
import { ALIGNMENT, type Tensor } from "./memory.ts";
import type { MemoryPlan } from "./memory_plan.ts";

/** Sizes that one slab holds: each is a uniform of 256 bytes. Hardly a model needs a second. */
const SIZES = 256;

/** The uniforms that hold the sizes of a plan's products. */
export class ProductSizes {
  readonly #slabs: Tensor[] = [];
  /** The uniform of each size, by its words. */
  readonly #sizes = new Map<string, { tensor: Tensor; words: number[] }>();

  constructor(readonly plan: MemoryPlan) {
    this.#addSlab();
  }

  /** The uniform that holds `size`. */
  of(size: GemmSize): Tensor {
    return this.uniform(sizeWords(size));
  }

  /** The uniform that holds these words. */
  uniform(words: number[]): Tensor {
    const key = words.join(" ");
    const known = this.#sizes.get(key);
    if (known) return known.tensor;
    const index = this.#sizes.size % SIZES;
    if (index === 0 && this.#sizes.size > 0) this.#addSlab();
    const tensor = { ...this.#slabs.at(-1)!, offset: index * ALIGNMENT, bytes: words.length * 4 };
    this.#sizes.set(key, { tensor, words });
    return tensor;
  }

  /** Writes them; after all were asked for and the plan is allocated. */
  upload(gpu: Gpu): void {
    for (const { tensor, words } of this.#sizes.values()) {
      gpu.device.queue.writeBuffer(tensor.slab.buffer!, tensor.offset, Uint32Array.from(words));
    }
  }

  #addSlab(): void {
    const sizes = this.plan.tensor("product sizes", "batch", [SIZES, ALIGNMENT / 4]);
    // UNIFORM, COPY_DST
    Object.assign(sizes.slab, { usage: 0x40 | 0x08 });
    this.#slabs.push(sizes);
  }
}
