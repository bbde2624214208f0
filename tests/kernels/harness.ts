/**
 * Runs kernels on fresh random inputs and compares what they leave with a reference. Everything that a kernel
 * must not read or write holds NaNs of one bit pattern: outputs before the run, rows past the row count, and
 * the room behind every tensor; where nothing was to be written, the same bits must still stand afterwards.
 * Since arithmetic on a NaN can give the same NaN, inputs have another one than outputs, and tensors that are
 * changed in place have a number there.
 */
import assert from "node:assert/strict";
import { type Gpu, openGpu } from "../../lib/gpu/device.ts";
import { MemoryPlan } from "../../lib/gpu/memory_plan.ts";
import { isReadable, type Tensor } from "../../lib/gpu/memory.ts";
import {
  type KernelCall,
  Pipelines,
  Program,
  readTensor,
  type RowCount,
  RowCounts,
  type RowSlot,
  slotOf,
} from "../../lib/gpu/program.ts";
import { Products } from "../../lib/gpu/products.ts";
import { type ProductTiles, usualTiles } from "../../lib/gpu/tuning.ts";
import { normal, uniform } from "../../lib/random.ts";
import { assertEqualBytes } from "../equal_bytes.ts";

/** Two NaNs, and 123.25. */
const POISON = { input: 0x7fc0_0bad, output: 0x7fc0_0dad, inPlace: 0x42f6_8000 };
const SLOTS = 4;

/** How a tensor is compared with its reference. */
export interface Comparison {
  /** Largest error, in units of `scale`. */
  tolerance: number;
  /**
   * What errors are measured by: the largest reference value, unless sums can cancel to less than the
   * roundings of their terms, where the size of the terms is the measure.
   */
  scale?: number;
  /**
   * Rows of the tensor are `stride` long, of which the reference has `columns`; the padding between may hold
   * anything.
   */
  columns?: number;
  stride?: number;
}

/** Tensors for one run of some kernels, and what is in them. */
export class KernelCase {
  readonly gpu: Gpu;
  readonly plan = new MemoryPlan();
  #products?: Products;
  /** Standard normal numbers, and uniform ones in [0, 1). */
  readonly normal: () => number;
  readonly uniform: () => number;
  readonly #contents = new Map<Tensor, { data?: Float32Array | Uint32Array; poison: number }>();
  readonly #rowCounts = new RowCounts(SLOTS);
  readonly #rows: Tensor;
  #slots = 0;

  constructor(readonly pipelines: Pipelines, seed: number) {
    this.gpu = pipelines.gpu;
    this.normal = normal(seed);
    this.uniform = uniform(seed, 1);
    this.#rows = this.plan.tensor("row counts", "batch", [this.#rowCounts.bytes / 4]);
    // UNIFORM, COPY_DST
    Object.assign(this.#rows.slab, { usage: 0x40 | 0x08 });
  }

  /** A whole number from `low` to `high`, both included. */
  integer(low: number, high: number): number {
    return low + Math.floor(this.uniform() * (high - low + 1));
  }

  /** Normal numbers times `deviation`. */
  values(count: number, deviation = 1): Float32Array<ArrayBuffer> {
    return Float32Array.from({ length: count }, () => this.normal() * deviation);
  }

  /** Matrix products by way of `tiles`, which the first call may choose. */
  products(tiles: ProductTiles = usualTiles("software")): Products {
    return this.#products ??= new Products(this.plan, tiles);
  }

  /** A row count that kernels read. */
  rows(count: number, options: Partial<RowCount> = {}): RowSlot {
    const slot = this.#slots++;
    this.#rowCounts.set(slot, { count, ...options });
    return { slot, tensor: slotOf(this.#rows, slot) };
  }

  /** A tensor that begins with `data` and goes on with poison. */
  tensor(
    shape: number[],
    data?: Float32Array | Uint32Array,
    poison = data ? POISON.input : POISON.output,
  ): Tensor {
    const tensor = this.plan.tensor(`tensor ${this.#contents.size}`, "scratch", shape);
    this.#contents.set(tensor, { data, poison });
    return tensor;
  }

  /** A tensor that kernels read and write. */
  tensorInPlace(shape: number[], data: Float32Array): Tensor {
    return this.tensor(shape, data, POISON.inPlace);
  }

  /** Allocates everything, fills it, and runs `calls` in order in one pass. */
  async run(calls: KernelCall[]): Promise<void> {
    const { queue } = this.gpu.device;
    this.plan.share(calls, this.gpu.device.limits.maxStorageBufferBindingSize);
    await this.plan.allocate(this.gpu);
    // Scratch that the kernels' own callers have planned.
    const known = new Set([...this.#contents.keys(), this.#rows].map(({ slab }) => slab));
    for (const slab of this.plan.slabs.filter((slab) => !known.has(slab) && isReadable(slab))) {
      queue.writeBuffer(slab.buffer!, 0, new Uint32Array(slab.bytes / 4).fill(POISON.output));
    }
    for (const [tensor, { data, poison }] of this.#contents) {
      queue.writeBuffer(tensor.slab.buffer!, 0, new Uint32Array(tensor.slab.bytes / 4).fill(poison));
      if (data) queue.writeBuffer(tensor.slab.buffer!, 0, data as Float32Array<ArrayBuffer>);
    }
    this.#rowCounts.upload(this.gpu, this.#rows);
    const program = await Program.compile(this.pipelines, calls);
    this.#products?.upload(this.gpu);
    const encoder = this.gpu.device.createCommandEncoder();
    program.encode(encoder, this.#rowCounts.counts);
    queue.submit([encoder.finish()]);
  }

  /** The first `count` floats of a tensor after the run. */
  async read(tensor: Tensor, count: number): Promise<Float32Array> {
    return new Float32Array(await readTensor(this.gpu, tensor, 0, count));
  }

  /** Compares the beginning of `tensor` with `expected`, and the rest with poison. */
  async compare(tensor: Tensor, expected: ArrayLike<number>, comparison: Comparison): Promise<void> {
    const bits = await readTensor(this.gpu, tensor);
    const actual = new Float32Array(bits);
    const { columns = expected.length, stride = columns } = comparison;
    const rows = columns ? expected.length / columns : 0;
    this.#assertPoison(tensor, bits, rows * stride);
    const rowsOnly = Float32Array.from(
      { length: expected.length },
      (_, i) => actual[Math.floor(i / columns) * stride + i % columns],
    );
    assertClose(rowsOnly, expected, comparison, `${tensor.name} [${tensor.shape}]`);
  }

  /** Checks that nothing was written to `tensor` since it was made, bit by bit. */
  async compareUnchanged(tensor: Tensor): Promise<void> {
    const bits = await readTensor(this.gpu, tensor);
    const { data } = this.#contents.get(tensor)!;
    const known = data ? new Uint32Array(data.buffer, data.byteOffset, data.length) : new Uint32Array();
    assertEqualBytes(new Uint32Array(bits, 0, known.length), known, tensor.name);
    this.#assertPoison(tensor, bits, known.length);
  }

  #assertPoison(tensor: Tensor, bits: ArrayBuffer, firstElement: number): void {
    const { poison } = this.#contents.get(tensor)!;
    const written = new Uint32Array(bits).findIndex((word, i) => i >= firstElement && word !== poison);
    if (written >= 0) {
      const [value] = new Float32Array(bits, 4 * written, 1);
      assert.fail(
        `${tensor.name} [${tensor.shape}]: element ${written}, past its rows, was written to: ${value}`,
      );
    }
  }
}

export const largest = (...arrays: ArrayLike<number>[]): number =>
  Math.max(
    ...arrays.map((values) => Array.from(values).reduce((max, value) => Math.max(max, Math.abs(value)), 0)),
  );

/** Compares with `expected` element by element; a NaN on either side is a difference. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { tolerance, scale = largest(expected) }: Comparison,
  what: string,
): void {
  assert.equal(actual.length, expected.length, `${what}: lengths`);
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i] - expected[i]);
    if (!(error <= tolerance * scale)) {
      assert.fail(
        `${what}: element ${i} is ${actual[i]}, expected ${expected[i]}: off by ${
          (error / scale).toExponential(2)
        } ` +
          `of ${scale.toPrecision(3)}, more than ${tolerance}`,
      );
    }
  }
}

let shared: Pipelines | undefined;

/** Opens one device for all tests of a file, and destroys it after them. Call once, before the first test. */
export function useGpu(): void {
  Deno.test.beforeAll(async () => {
    shared = new Pipelines(await openGpu());
  });
  Deno.test.afterAll(() => {
    shared?.gpu.destroy();
    shared = undefined;
  });
}

/** A test with the file's device; it is not run where the adapter has no `missing`. */
export function deviceTest(
  name: string,
  body: (pipelines: Pipelines) => Promise<void>,
  missing?: string,
): void {
  const ignore = missing !== undefined;
  const why = ignore ? ` (not run: this adapter has no ${missing})` : "";
  Deno.test({ name: name + why, ignore, fn: () => body(shared!) });
}

/**
 * A seed that differs from run to run; `KERNEL_SEED` in the environment repeats one that a failure has
 * printed.
 */
export const freshSeed = (): number =>
  Number(Deno.env.get("KERNEL_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);

/** One test that runs `body` for each of `shapes`, on inputs that no earlier run had; `missing` as in `deviceTest`. */
export function kernelTest<Shape>(
  name: string,
  shapes: readonly Shape[],
  body: (kernels: KernelCase, shape: Shape) => Promise<void>,
  missing?: string,
): void {
  const check = async (pipelines: Pipelines) => {
    const seed = freshSeed();
    for (const shape of shapes) {
      const kernels = new KernelCase(pipelines, seed);
      try {
        await body(kernels, shape);
        pipelines.gpu.check();
      } catch (error) {
        throw new Error(`${JSON.stringify(shape)}, KERNEL_SEED=${seed}: ${(error as Error).message}`, {
          cause: error,
        });
      } finally {
        kernels.plan.destroy();
      }
    }
  };
  deviceTest(name, check, missing);
}
