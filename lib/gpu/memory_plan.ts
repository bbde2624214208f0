import { bytesOf as storageBytes, type StorageType } from "../../kernels/storage.ts";
import { UserError } from "../errors.ts";
import { formatBytes } from "../text/format_bytes.ts";
import type { Gpu } from "./device.ts";
import {
  align,
  elements,
  type Purpose,
  PURPOSES,
  type Slab,
  type Tensor,
  type TextureSlab,
} from "./memory.ts";
import { checkPlacement, livesIn, peakOf, place, SharedTensor, type TensorUse } from "./placement.ts";

// Constants of GPUBufferUsage, which does not exist where the plan is only printed: STORAGE, COPY_DST, COPY_SRC.
const STORAGE = 0x80 | 0x08 | 0x04;

/** The whole memory of a run, known before anything is allocated; what is then allocated equals it to the byte. */
export class MemoryPlan {
  /** @internal */
  readonly textures: TextureSlab[] = [];
  readonly #own: Slab[] = [];
  #shared: Slab[] = [];
  /** What the shared slabs hold when most is alive. */
  #peak = new Map<Purpose, number>();

  /**
   * Of nothing yet.
   * @param advice what to do where the GPU has not enough memory.
   */
  constructor(
    readonly advice = "set gradient_checkpointing: true, or lower per_device_train_batch_size or max_length",
  ) {}

  /**
   * Every buffer.
   *
   * @internal
   */
  get slabs(): readonly Slab[] {
    return [...this.#own, ...this.#shared];
  }

  /** @internal */
  slab(name: string, purpose: Purpose, bytes: number, usage = 0): Slab {
    const slab: Slab = {
      name,
      purpose,
      bytes: align(bytes),
      usage: usage || STORAGE,
    };
    this.#own.push(slab);
    return slab;
  }

  /**
   * A tensor with a slab of its own.
   *
   * @internal
   */
  tensor(name: string, purpose: Purpose, shape: readonly number[], storage: StorageType = "f32"): Tensor {
    const bytes = align(elements(shape) * storageBytes(storage));
    return { name, shape, storage, slab: this.slab(name, purpose, bytes), offset: 0, bytes };
  }

  /**
   * A tensor that lies where others do before and after it lives; `share` decides where.
   *
   * @internal
   */
  shared(
    name: string,
    purpose: Purpose,
    shape: readonly number[],
    storage: StorageType = "f32",
  ): SharedTensor {
    return new SharedTensor(name, purpose, shape, storage, align(elements(shape) * storageBytes(storage)));
  }

  /**
   * Places every shared tensor that `calls`, in this order, bind: in slabs of at most `largest` bytes. Doing it
   * again, for other calls, begins anew.
   *
   * @internal
   */
  share(calls: readonly TensorUse[], largest: number): void {
    const lives = livesIn(calls);
    this.#peak = peakOf(lives);
    this.#shared = place(lives, largest, (name) => ({ name, purpose: "scratch", bytes: 0, usage: STORAGE }));
  }

  /**
   * Checks that shared tensors lie where these calls, too, can use them. @throws {Error} where not: a defect.
   *
   * @internal
   */
  checkShared(calls: readonly TensorUse[]): void {
    checkPlacement(livesIn(calls));
  }

  /**
   * A texture of `width` x `height` texels of four floats, or of four words.
   *
   * @internal
   */
  texture(
    name: string,
    purpose: Purpose,
    width: number,
    height: number,
    format: TextureSlab["format"] = "rgba32float",
  ): TextureSlab {
    const texture: TextureSlab = { name, purpose, width, height, bytes: width * height * 16, format };
    this.textures.push(texture);
    return texture;
  }

  get #all(): readonly (Slab | TextureSlab)[] {
    return [...this.slabs, ...this.textures];
  }

  /** Bytes of all buffers and textures. */
  get bytes(): number {
    return sizeOf(this.#all);
  }

  /**
   * Bytes of one purpose; those of all add up to `bytes`. Of the shared slabs, what they hold when most is alive; gaps
   * count as scratch.
   */
  bytesOf(purpose: Purpose): number {
    const own = sizeOf([...this.#own, ...this.textures].filter((slab) => slab.purpose === purpose));
    if (purpose !== "scratch") return own + (this.#peak.get(purpose) ?? 0);
    const others = [...this.#peak].reduce((sum, [other, bytes]) => sum + (other === purpose ? 0 : bytes), 0);
    return own + sizeOf(this.#shared) - others;
  }

  /** Bytes by purpose, a line each, for people. */
  table(): string {
    const purposes = PURPOSES.filter((purpose) => this.bytesOf(purpose) > 0);
    return [
      ...purposes.map((purpose) => [purpose, this.bytesOf(purpose)] as const),
      ["total", this.bytes] as const,
    ]
      .map(([name, bytes]) => `${name.padEnd(12)} ${formatBytes(bytes).padStart(10)}  ${bytes}`).join("\n");
  }

  /**
   * Creates every buffer.
   * @throws {UserError} where a buffer is larger than the adapter allows, or the driver has not enough memory.
   *
   * @internal
   */
  async allocate(gpu: Gpu): Promise<void> {
    const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
    const largest = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    for (const slab of this.slabs) {
      if (slab.bytes > largest) {
        throw new UserError(
          `${slab.name} needs a buffer of ${formatBytes(slab.bytes)}, and ${gpu.name} allows ${
            formatBytes(largest)
          }: ${this.advice}`,
          1,
          "OUT_OF_MEMORY",
        );
      }
    }
    gpu.device.pushErrorScope("out-of-memory");
    for (const slab of this.slabs) {
      slab.buffer = gpu.device.createBuffer({ label: slab.name, size: slab.bytes, usage: slab.usage });
    }
    for (const slab of this.textures) {
      slab.texture = gpu.device.createTexture({
        label: slab.name,
        size: [slab.width, slab.height],
        format: slab.format,
        usage: GPUTextureUsage.COPY_DST | GPUTextureUsage.STORAGE_BINDING,
      });
    }
    const error = await gpu.device.popErrorScope();
    if (error) {
      this.destroy();
      throw new UserError(
        `the GPU has not enough memory for ${
          formatBytes(this.bytes)
        } (${error.message}):\n${this.table()}\n${this.advice}`,
        1,
        "OUT_OF_MEMORY",
      );
    }
  }

  /** Bytes of the buffers that exist: equal to `bytes` from `allocate` to `destroy`. */
  get allocatedBytes(): number {
    return this.slabs.reduce((sum, { buffer }) => sum + (buffer?.size ?? 0), 0) +
      this.textures.reduce(
        (sum, { texture }) => sum + (texture ? texture.width * texture.height * 16 : 0),
        0,
      );
  }

  /** The garbage collector does not see GPU memory. */
  destroy(): void {
    for (const slab of this.slabs) {
      slab.buffer?.destroy();
      slab.buffer = undefined;
    }
    for (const slab of this.textures) {
      slab.texture?.destroy();
      slab.texture = undefined;
    }
  }
}

const sizeOf = (slabs: readonly { bytes: number }[]) => slabs.reduce((sum, slab) => sum + slab.bytes, 0);
