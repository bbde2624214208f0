/**
 * Has every kernel that this process compiles note its accesses that are out of bounds, whoever opens the device:
 * the classes of WebGPU are changed, so that nothing of the program has to know.
 */
import { type CheckedSource, checkedSource, meaningOf, type Site } from "./checked_source.ts";

/** The classes of an engine: those of the runtime, or of Dawn. */
interface Classes {
  GPUDevice: { prototype: GPUDevice };
  GPUComputePassEncoder: { prototype: GPUComputePassEncoder };
}
/** Those of the runtime. */
export const RUNTIME: Classes = { GPUDevice, GPUComputePassEncoder };

/** Bytes of a device's notes. */
const NOTES_BYTES = 2 ** 24;
/** Bindings begin at multiples of this. */
const ALIGNMENT = 256;

/** Something that a kernel accessed, and how. */
export interface Access extends Site {
  /** As the program calls the kernel. */
  kernel: string;
  /** Whether any thread came by. */
  isReached: boolean;
  /** By how many elements the largest index was too large; 0: all were in bounds. */
  excess: number;
}

interface Kernel extends CheckedSource {
  label: string;
  /** Where its notes begin. */
  at: number;
  binding?: GPUBindGroup;
}

interface Device {
  notes: GPUBuffer;
  taken: number;
  kernels: Kernel[];
}

/** What was seen of the kernels of a process. */
export class BoundsWatch {
  /** Every kernel that was run, as the program had it. */
  readonly sources = new Set<string>();
  readonly #devices = new Map<GPUDevice, Device>();
  readonly #modules = new WeakMap<GPUShaderModule, CheckedSource & { source: string }>();
  readonly #kernels = new WeakMap<GPUComputePipeline, Kernel & { source: string }>();
  readonly #found: Promise<Access[]>[] = [];

  constructor({ GPUDevice, GPUComputePassEncoder }: Classes) {
    // deno-lint-ignore no-this-alias
    const watch = this;
    const { createShaderModule, createComputePipeline, destroy } = GPUDevice.prototype;
    const { setPipeline } = GPUComputePassEncoder.prototype;
    GPUDevice.prototype.createShaderModule = function (descriptor) {
      const checked = checkedSource(descriptor.code);
      const module = createShaderModule.call(this, { ...descriptor, code: checked.code });
      watch.#modules.set(module, { ...checked, source: descriptor.code });
      return module;
    };
    GPUDevice.prototype.createComputePipeline = function (descriptor) {
      const pipeline = createComputePipeline.call(this, descriptor);
      const checked = watch.#modules.get(descriptor.compute.module)!;
      watch.#kernels.set(pipeline, {
        ...checked,
        ...watch.#place(this, pipeline, checked, descriptor.label ?? ""),
      });
      return pipeline;
    };
    GPUComputePassEncoder.prototype.setPipeline = function (pipeline) {
      setPipeline.call(this, pipeline);
      const { binding, source } = watch.#kernels.get(pipeline)!;
      if (binding) this.setBindGroup(1, binding);
      watch.sources.add(source);
    };
    GPUDevice.prototype.destroy = function () {
      watch.#found.push(watch.#read(this).finally(() => destroy.call(this)));
      return undefined;
    };
  }

  /** Room for a kernel's notes. */
  #place(gpu: GPUDevice, pipeline: GPUComputePipeline, checked: CheckedSource, label: string): Kernel {
    const device = this.#devices.get(gpu) ?? {
      notes: gpu.createBuffer({ size: NOTES_BYTES, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC }),
      taken: 0,
      kernels: [],
    };
    this.#devices.set(gpu, device);
    const kernel: Kernel = { ...checked, label, at: device.taken };
    const size = 4 * checked.sites.length;
    if (size === 0) return kernel;
    device.taken += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
    if (device.taken > NOTES_BYTES) throw new Error("no room for more notes");
    const layout = pipeline.getBindGroupLayout(1);
    kernel.binding = gpu.createBindGroup({
      layout,
      entries: [{ binding: 0, resource: { buffer: device.notes, offset: kernel.at, size } }],
    });
    device.kernels.push(kernel);
    return kernel;
  }

  async #read(gpu: GPUDevice): Promise<Access[]> {
    const device = this.#devices.get(gpu);
    this.#devices.delete(gpu);
    if (!device?.taken) return [];
    const staging = gpu.createBuffer({
      size: device.taken,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    const encoder = gpu.createCommandEncoder();
    encoder.copyBufferToBuffer(device.notes, 0, staging, 0, device.taken);
    gpu.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const notes = new Uint32Array(staging.getMappedRange().slice(0));
    return device.kernels.flatMap(({ at, sites, label }) =>
      sites.map((site, i) => ({ ...site, kernel: label, ...meaningOf(notes[at / 4 + i]) }))
    );
  }

  /** Waits for every device, and gives all accesses of the kernels that they had, each once. */
  async accesses(): Promise<Access[]> {
    this.#found.push(...[...this.#devices.keys()].map((gpu) => this.#read(gpu)));
    const all = new Map<string, Access>();
    for (const access of (await Promise.all(this.#found)).flat()) {
      const key = [access.kernel, access.what, access.index, access.line].join("\n");
      const known = all.get(key);
      if (known && known.excess >= access.excess) known.isReached ||= access.isReached;
      else all.set(key, { ...access, isReached: access.isReached || known?.isReached === true });
    }
    return [...all.values()];
  }
}
