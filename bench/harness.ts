/** What every benchmark shares: buffers without a model, timing, and the ceilings that figures are compared with. */
import { type Gpu, openGpu } from "../lib/gpu/device.ts";
import { MemoryPlan } from "../lib/gpu/memory_plan.ts";
import type { Tensor } from "../lib/gpu/memory.ts";
import {
  type KernelCall,
  kernelsOf,
  line,
  Pipelines,
  Program,
  RowCounts,
  type RowSlot,
  slotOf,
  writeTensor,
} from "../lib/gpu/program.ts";
import type { AttentionTiles } from "../kernels/attention.ts";
import { Products } from "../lib/gpu/products.ts";
import { measureTuning } from "../lib/gpu/tuner.ts";
import {
  attentionTiles,
  deviceClass,
  type ProductTiles,
  SHAPE_CLASSES,
  tilesOf,
  usualTuning,
} from "../lib/gpu/tuning.ts";
import { type Work, workOf } from "../lib/gpu/work.ts";
import { uniform } from "../lib/random.ts";

/** Seconds that a sample takes at least: the wait at its end, some 11 ms in Deno, is then below 2 % of it. */
const SAMPLE_SECONDS = 0.6;
/** Samples of a measurement; the median counts. */
export const SAMPLES = 3;

/** Does the work `runs` times and returns the seconds from the first submission to the GPU being idle. */
export type Sample = (runs: number) => Promise<number>;

/** Opens the adapter that the program itself would use. */
export async function openBenchGpu(): Promise<Gpu> {
  // Mesa's device-select layer complains on a machine without it; where the permission is lacking it just does.
  if (Deno.permissions.querySync({ name: "env", variable: "XDG_RUNTIME_DIR" }).state === "granted") {
    if (!Deno.env.get("XDG_RUNTIME_DIR")) Deno.env.set("XDG_RUNTIME_DIR", "/tmp");
  }
  return await openGpu();
}

/** How a long run would compute products on this adapter: measured as `train` does, and said on stderr. */
export async function measuredTiles(gpu: Gpu, pipelines: Pipelines): Promise<ProductTiles> {
  const { record } = await measureTuning(gpu, pipelines);
  const ways = SHAPE_CLASSES.map((shape) =>
    `${shape} ${record.textured.includes(shape) ? "textures" : record.buffer[shape]}`
  );
  console.error(`measured as fastest: ${ways.join(", ")}${record.fuses ? "; epilogues fused" : ""}`);
  return tilesOf(record, gpu);
}

/** Tensors and row counts for kernels that run without a model around them. */
export class Workbench {
  readonly plan = new MemoryPlan();
  readonly #counts = new RowCounts(16);
  readonly #rows: Tensor;
  readonly #filled: Tensor[] = [];
  #slots = 0;
  readonly products: Products;
  readonly attention: AttentionTiles;

  constructor(gpu: Gpu, tiles: ProductTiles = tilesOf(usualTuning(deviceClass(gpu)), gpu)) {
    this.attention = attentionTiles(deviceClass(gpu));
    this.products = new Products(this.plan, tiles);
    this.#rows = this.plan.tensor("row counts", "batch", [this.#counts.bytes / 4]);
    // UNIFORM, COPY_DST
    Object.assign(this.#rows.slab, { usage: 0x40 | 0x08 });
  }

  /** An empty tensor of 4-byte elements, for a kernel's output or for `writeTensor`. */
  tensor(name: string, ...shape: number[]): Tensor {
    return this.plan.tensor(name, "scratch", shape);
  }

  /** A tensor of float32 values between -0.1 and 0.1. */
  filled(name: string, ...shape: number[]): Tensor {
    const tensor = this.tensor(name, ...shape);
    this.#filled.push(tensor);
    return tensor;
  }

  rows(count: number): RowSlot {
    const slot = this.#slots++;
    this.#counts.set(slot, { count });
    return { slot, tensor: slotOf(this.#rows, slot) };
  }

  /** Creates the buffers; all tensors and kernel calls must have been made. */
  async allocate(gpu: Gpu): Promise<void> {
    await this.plan.allocate(gpu);
    this.products.upload(gpu);
    this.#counts.upload(gpu, this.#rows);
    const next = uniform(1);
    const values = Float32Array.from({ length: 2 ** 16 }, () => 0.2 * next() - 0.1);
    for (const tensor of this.#filled) {
      const elements = tensor.bytes / 4;
      for (let at = 0; at < elements; at += values.length) {
        writeTensor(gpu, tensor, values.subarray(0, elements - at), at);
      }
      gpu.device.queue.submit([]);
    }
    gpu.check();
  }

  /** What `calls` do together; attention, of so many floats a token, looks at `visible` query-key pairs. */
  work(calls: KernelCall[], attentionWidth = 0, visible = 0): Required<Work> {
    const size = { counts: this.#counts.counts, attentionWidth, visible: [visible] };
    return kernelsOf(calls).map((call) => workOf(call, size)).reduce<Required<Work>>(
      (sum, { flops = 0, bytes = 0 }) => ({ flops: sum.flops + flops, bytes: sum.bytes + bytes }),
      { flops: 0, bytes: 0 },
    );
  }

  /** Compiles `calls`, to be run one after the other in each run of a sample. */
  async sample(pipelines: Pipelines, calls: KernelCall[]): Promise<Sample> {
    const program = await Program.compile(pipelines, calls);
    return sampleOf(pipelines.gpu, (encoder, runs) => {
      for (let run = 0; run < runs; run++) program.encode(encoder, this.#counts.counts);
    });
  }
}

/** A sample of one submission, which `encode` fills with `runs` runs; encoding is not timed. */
function sampleOf(gpu: Gpu, encode: (encoder: GPUCommandEncoder, runs: number) => void): Sample {
  return async (runs) => {
    const encoder = gpu.device.createCommandEncoder();
    encode(encoder, runs);
    const commands = encoder.finish();
    const start = performance.now();
    gpu.device.queue.submit([commands]);
    await gpu.device.queue.onSubmittedWorkDone();
    const seconds = (performance.now() - start) / 1000;
    gpu.check();
    return seconds;
  };
}

/** Runs after which a sample is long enough, found by lengthening it; the first run, which compiles, is thrown away. */
export async function calibrate(sample: Sample): Promise<number> {
  await sample(1);
  for (let runs = 1;;) {
    const seconds = await sample(runs);
    if (seconds >= SAMPLE_SECONDS) return runs;
    // At most 20 times longer at once: of a short sample most is the wait.
    runs = Math.ceil(runs * Math.min(20, 1.1 * SAMPLE_SECONDS / seconds));
  }
}

export function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** Seconds of one run, in each of several samples. */
export async function measure(sample: Sample, samples = SAMPLES): Promise<number[]> {
  const runs = await calibrate(sample);
  const seconds: number[] = [];
  for (let i = 0; i < samples; i++) seconds.push(await sample(runs) / runs);
  return seconds;
}

/**
 * What the adapter reaches at most: the best of several samples, per second. A copied byte counts twice, read and
 * written.
 */
export interface Ceilings {
  /** Multiplications and additions of a loop that does nothing else. */
  flops: number;
  /** Of copyBufferToBuffer. */
  copyBytes: number;
  /** Of a kernel that copies, a vec4 a thread. */
  kernelBytes: number;
}

const COPY_BYTES = 64 * 2 ** 20;
const MULTIPLY_ADD_STEPS = 1024;
const MULTIPLY_ADD_THREADS = 2 ** 16;
/**
 * Independent sums a thread, enough to hide the latency and few enough to stay in registers, and steps that are
 * written out: drivers differ. Mesa 22.3 does 183 GFLOP/s of the first and 148 of the second, Mesa 26.1 51 and 128.
 */
const MULTIPLY_ADDS = [{ sums: 12, unrolled: 32 }, { sums: 16, unrolled: 4 }];

const copySource = `
@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4f>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = (group.y * groups.x + group.x) * 64u + local;
  target_[i] = source[i];
}`;

function multiplyAddSource({ sums, unrolled }: typeof MULTIPLY_ADDS[number]): string {
  const names = Array.from({ length: sums }, (_, i) => `s${i}`);
  return `
@group(0) @binding(0) var<storage, read> factors: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let x = factors[id.x];
  let y = factors[id.x + 1u];
${names.map((s, i) => `  var ${s} = x * ${i}.0;`).join("\n")}
  for (var step = 0u; step < ${MULTIPLY_ADD_STEPS / unrolled}u; step += 1u) {
${names.map((s) => `    ${s} = ${s} * x + y;`).join("\n").concat("\n").repeat(unrolled)}
  }
  result[id.x] = ${names.join(" + ")};
}`;
}

/** Measures the ceilings; takes about eight seconds. */
export async function measureCeilings(gpu: Gpu, pipelines: Pipelines): Promise<Ceilings> {
  const bench = new Workbench(gpu);
  const source = bench.filled("copy source", COPY_BYTES / 4);
  const target = bench.tensor("copy target", COPY_BYTES / 4);
  await bench.allocate(gpu);
  try {
    const copy = sampleOf(gpu, (encoder, runs) => {
      for (let run = 0; run < runs; run++) {
        encoder.copyBufferToBuffer(source.slab.buffer!, 0, target.slab.buffer!, 0, COPY_BYTES);
      }
    });
    const kernelCopy = await bench.sample(pipelines, [{
      label: "copy",
      source: copySource,
      bindings: [source, target],
      grid: () => line(COPY_BYTES / 16 / 64),
    }]);
    const best = async (sample: Sample) => Math.min(...await measure(sample));
    let flops = 0;
    for (const way of MULTIPLY_ADDS) {
      const multiplyAdd = await bench.sample(pipelines, [{
        label: "multiply_add",
        source: multiplyAddSource(way),
        bindings: [source, target],
        grid: () => line(MULTIPLY_ADD_THREADS / 64),
      }]);
      const operations = 2 * way.sums * MULTIPLY_ADD_STEPS * MULTIPLY_ADD_THREADS;
      flops = Math.max(flops, operations / await best(multiplyAdd));
    }
    return {
      flops,
      copyBytes: 2 * COPY_BYTES / await best(copy),
      kernelBytes: 2 * COPY_BYTES / await best(kernelCopy),
    };
  } finally {
    bench.plan.destroy();
  }
}
