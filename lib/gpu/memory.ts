import { UserError } from "../errors.ts";
import type { Gpu } from "./device.ts";

/** What a buffer is for: the rows of the printed plan. */
export type Purpose = "weights" | "gradients" | "moments" | "activations" | "scratch" | "logits" | "batch";

/** One GPU buffer of the plan. `buffer` exists once the plan is allocated. */
export interface Slab {
  readonly name: string;
  readonly purpose: Purpose;
  readonly bytes: number;
  readonly usage: GPUBufferUsageFlags;
  buffer?: GPUBuffer;
}

/** A texture of the plan: rows of `width` texels of four floats, which kernels read and copies fill. */
export interface TextureSlab {
  readonly name: string;
  readonly purpose: Purpose;
  readonly width: number;
  readonly height: number;
  readonly bytes: number;
  texture?: GPUTexture;
}

/** Whether a slab can be copied from (COPY_SRC), as all but those of sizes and hyperparameters can. */
export const isReadable = ({ usage }: Slab) => (usage & 0x04) !== 0;

/** A range of a slab, read as a matrix of 4-byte elements. */
export interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly slab: Slab;
  /** In bytes; a multiple of 256, the strictest offset alignment that WebGPU allows an adapter to ask for. */
  readonly offset: number;
  readonly bytes: number;
}

/** Offset alignment of bindings, in bytes. */
export const ALIGNMENT = 256;
export const align = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** The whole memory of a run, known before anything is allocated; what is then allocated equals it to the byte. */
export class MemoryPlan {
  readonly slabs: Slab[] = [];
  readonly textures: TextureSlab[] = [];

  slab(name: string, purpose: Purpose, bytes: number, usage = 0): Slab {
    const slab: Slab = {
      name,
      purpose,
      bytes: align(bytes),
      // Constants of GPUBufferUsage, which does not exist where the plan is only printed: STORAGE, COPY_DST, COPY_SRC.
      usage: usage || 0x80 | 0x08 | 0x04,
    };
    this.slabs.push(slab);
    return slab;
  }

  /** A tensor with a slab of its own. `shape` counts 4-byte elements. */
  tensor(name: string, purpose: Purpose, shape: readonly number[]): Tensor {
    const bytes = align(elements(shape) * 4);
    return { name, shape, slab: this.slab(name, purpose, bytes), offset: 0, bytes };
  }

  /** A texture of `width` x `height` texels of four floats. */
  texture(name: string, purpose: Purpose, width: number, height: number): TextureSlab {
    const texture: TextureSlab = { name, purpose, width, height, bytes: width * height * 16 };
    this.textures.push(texture);
    return texture;
  }

  get #all(): readonly (Slab | TextureSlab)[] {
    return [...this.slabs, ...this.textures];
  }

  get bytes(): number {
    return this.#all.reduce((sum, slab) => sum + slab.bytes, 0);
  }

  bytesOf(purpose: Purpose): number {
    return this.#all.reduce((sum, slab) => sum + (slab.purpose === purpose ? slab.bytes : 0), 0);
  }

  /** Bytes by purpose, a line each, for people. */
  table(): string {
    const purposes = [...new Set(this.#all.map((slab) => slab.purpose))];
    return [
      ...purposes.map((purpose) => [purpose, this.bytesOf(purpose)] as const),
      ["total", this.bytes] as const,
    ]
      .map(([name, bytes]) => `${name.padEnd(12)} ${formatBytes(bytes).padStart(10)}  ${bytes}`).join("\n");
  }

  /**
   * Creates every buffer.
   * @throws {UserError} where a buffer is larger than the adapter allows, or the driver has not enough memory.
   */
  async allocate(gpu: Gpu): Promise<void> {
    const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
    const largest = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    for (const slab of this.slabs) {
      if (slab.bytes > largest) {
        throw new UserError(
          `${slab.name} needs a buffer of ${formatBytes(slab.bytes)}, and ${gpu.name} allows ${
            formatBytes(largest)
          }: ` +
            "lower per_device_train_batch_size or max_length",
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
        format: "rgba32float",
        usage: GPUTextureUsage.COPY_DST | GPUTextureUsage.STORAGE_BINDING,
      });
    }
    const error = await gpu.device.popErrorScope();
    if (error) {
      this.destroy();
      throw new UserError(
        `the GPU has not enough memory for ${
          formatBytes(this.bytes)
        } (${error.message}):\n${this.table()}\n` +
          "set gradient_checkpointing: true, or lower per_device_train_batch_size or max_length",
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

export const elements = (shape: readonly number[]) => shape.reduce((product, n) => product * n, 1);

/** A part of `tensor`: `rows` of its first dimension from `firstRow` on, which must start on an aligned byte. */
export function rowsOf(tensor: Tensor, firstRow: number, rows: number): Tensor {
  const rowBytes = elements(tensor.shape.slice(1)) * 4;
  const offset = tensor.offset + firstRow * rowBytes;
  if (offset % ALIGNMENT) {
    throw new RangeError(`row ${firstRow} of ${tensor.name} starts at ${offset}, not aligned`);
  }
  return { ...tensor, shape: [rows, ...tensor.shape.slice(1)], offset, bytes: rows * rowBytes };
}

export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  return `${(bytes / 1000 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}
