/**
 * The runtime's WebGPU with one device for all runs of a test file. Compiling takes most of the time of a small run on
 * a software driver, and the kernels of two runs are mostly the same.
 */

/** Devices by what was asked of them, with the kernels that they have. */
const devices = new Map<string, Promise<{ device: GPUDevice; kernels: Map<string, GPUComputePipeline> }>>();

/** An entry point in place of `navigator.gpu`. */
export const sharedGpu = {
  async requestAdapter(options?: GPURequestAdapterOptions) {
    const adapter = await navigator.gpu.requestAdapter(options);
    return adapter && like(adapter, {
      requestDevice: async (descriptor?: GPUDeviceDescriptor) => {
        const key = JSON.stringify([adapter.info.description, options, descriptor]);
        const opened = devices.get(key) ?? open(adapter, descriptor);
        devices.set(key, opened);
        return await deviceOfRun(await opened);
      },
    });
  },
} as GPU;

const open = async (adapter: GPUAdapter, descriptor?: GPUDeviceDescriptor) => ({
  device: await adapter.requestDevice(descriptor),
  kernels: new Map<string, GPUComputePipeline>(),
});

/** A device that gives back what one run took of it where the run destroys it. */
function deviceOfRun(
  { device, kernels }: { device: GPUDevice; kernels: Map<string, GPUComputePipeline> },
): GPUDevice {
  const taken: { destroy(): void }[] = [];
  const keep = <T extends { destroy(): void }>(made: T): T => (taken.push(made), made);
  return like(device, {
    createBuffer: (descriptor: GPUBufferDescriptor) => keep(device.createBuffer(descriptor)),
    createTexture: (descriptor: GPUTextureDescriptor) => keep(device.createTexture(descriptor)),
    createQuerySet: (descriptor: GPUQuerySetDescriptor) => keep(device.createQuerySet(descriptor)),
    // What there is a kernel of is not compiled once more.
    createShaderModule: (descriptor: GPUShaderModuleDescriptor) => descriptor,
    createComputePipeline: (descriptor: GPUComputePipelineDescriptor) => {
      const module = descriptor.compute.module as unknown as GPUShaderModuleDescriptor;
      const known = kernels.get(module.code);
      if (known) return known;
      const compute = { ...descriptor.compute, module: device.createShaderModule(module) };
      const kernel = device.createComputePipeline({ ...descriptor, compute });
      kernels.set(module.code, kernel);
      return kernel;
    },
    destroy: () => taken.splice(0).forEach((made) => made.destroy()),
  });
}

/** `object`, which only its own methods know as one of WebGPU's, with other methods. */
const like = <T extends object>(object: T, methods: Record<string, unknown>): T =>
  new Proxy(object, {
    get(target, name) {
      if (Object.hasOwn(methods, name)) return methods[name as string];
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
