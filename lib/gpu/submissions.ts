import type { Gpu } from "./device.ts";

/** Milliseconds that no submission takes which a GPU works on by itself. */
const BLOCKED = 100;

/** The commands of a step, which are encoded one after the other and submitted in parts. */
export class Submissions {
  #encoder?: GPUCommandEncoder;

  /**
   * @param on `encoded` is called before the first submission, `blocked` after each that has blocked this thread: a
   * driver that works in it has done then what it was given; of others nothing is known yet.
   */
  constructor(readonly gpu: Gpu, readonly on: { encoded?: () => void; blocked?: () => void } = {}) {}

  /** What takes the next commands, until they are submitted. */
  get encoder(): GPUCommandEncoder {
    return this.#encoder ??= this.gpu.device.createCommandEncoder();
  }

  /** Submits what is encoded. */
  submit(): void {
    if (!this.#encoder) return;
    const { gpu, on } = this;
    const commands = this.#encoder.finish();
    this.#encoder = undefined;
    on.encoded?.();
    on.encoded = undefined;
    const start = performance.now();
    gpu.device.queue.submit([commands]);
    if (performance.now() - start > BLOCKED) on.blocked?.();
  }

  /** Where a program is submitted in parts, to be seen to move: on the processor. A GPU is given more at once. */
  get split(): (() => GPUCommandEncoder) | undefined {
    const next = () => {
      this.submit();
      return this.encoder;
    };
    return this.gpu.isSoftware ? next : undefined;
  }
}
