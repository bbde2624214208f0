import type { MemoryPlan } from "../gpu/memory_plan.ts";
import type { Slab, Tensor } from "../gpu/memory.ts";
import { livesIn } from "../gpu/placement.ts";
import type { KernelCall } from "../gpu/program.ts";

/**
 * What micro-batches whose backward pass is still to come keep for it, while the forward passes of others go on: a
 * set of copies for each, of all that lives from one pass to the other.
 */
export class KeptActivations {
  readonly #tensors: readonly Tensor[];
  /** The sets: a buffer for each tensor, which might be larger together than one may be. */
  readonly #sets: readonly Slab[][];
  /** Which set a micro-batch has. */
  readonly #setOf = new Map<number, Slab[]>();

  /** Plans so many sets. */
  constructor(
    plan: MemoryPlan,
    forward: readonly KernelCall[],
    backward: readonly KernelCall[],
    sets: number,
  ) {
    this.#tensors = livesIn([...forward, ...backward])
      .filter(({ first, last }) => first < forward.length && last >= forward.length)
      .map(({ tensor }) => tensor);
    this.#sets = Array.from(
      { length: sets },
      (_, i) =>
        this.#tensors.map(({ name, bytes }) => plan.slab(`${name} (kept ${i})`, "activations", bytes)),
    );
  }

  /** Copies what the forward pass of a micro-batch has left. */
  save(encoder: GPUCommandEncoder, batch: number): void {
    const taken = new Set(this.#setOf.values());
    const set = this.#sets.find((set) => !taken.has(set))!;
    this.#setOf.set(batch, set);
    this.#tensors.forEach(({ slab, offset, bytes }, i) =>
      encoder.copyBufferToBuffer(slab.buffer!, offset, set[i].buffer!, 0, bytes)
    );
  }

  /** Puts it back, before the backward pass. */
  restore(encoder: GPUCommandEncoder, batch: number): void {
    const set = this.#setOf.get(batch)!;
    this.#setOf.delete(batch);
    this.#tensors.forEach(({ slab, offset, bytes }, i) =>
      encoder.copyBufferToBuffer(set[i].buffer!, 0, slab.buffer!, offset, bytes)
    );
  }
}
