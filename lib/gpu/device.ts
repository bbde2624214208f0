import { UserError } from "../errors.ts";

/** A WebGPU device with what the rest of the program needs to know about it. */
export interface Gpu {
  /** With all limits and the optional features that help. */
  readonly device: GPUDevice;
  /** Adapter as its driver names it, for reports. */
  readonly name: string;
  /** True for a driver that runs on the processor (lavapipe, SwiftShader): it wants other kernels than a GPU. */
  readonly isSoftware: boolean;
  /** Where kernels may use subgroup operations: what they need to know. */
  readonly subgroups?: Subgroups;
  /** Throws the first validation or out-of-memory error that the device reported, or that it was lost. */
  check(): void;
  /** Gives the device back. */
  destroy(): void;
}

/** An adapter for people, who may have expected another one. */
export const describeAdapter = ({ name, isSoftware }: Pick<Gpu, "name" | "isSoftware">): string =>
  isSoftware ? `${name}, a software driver: correct, but slow` : name;

/** What a device says of its subgroups. */
export interface Subgroups {
  /** Lanes that every subgroup has at least: a power of two. */
  readonly minSize: number;
  /** Whether WGSL must ask for them: `enable subgroups;` is an error in Deno, and its lack one in a browser and in Dawn. */
  readonly areEnabledInSource: boolean;
}

const NO_ADAPTER =
  "no WebGPU adapter was found: expected a GPU with a Vulkan, Metal or DX12 driver, or a software driver. " +
  "On Debian or Ubuntu `sudo apt-get install -y mesa-vulkan-drivers libvulkan1` gives one without a GPU " +
  "(`simper setup` does this); on a machine with a GPU, install its vendor's Vulkan driver";

/** The runtime's own WebGPU entry point. */
function defaultGpu(): GPU | undefined {
  const name = "XDG_RUNTIME_DIR";
  const { Deno: deno } = globalThis as { Deno?: typeof Deno };
  // Mesa's device-select layer prints an error where this is not set, as on a server; any absolute path will do.
  if (
    deno?.permissions.querySync({ name: "env", variable: name }).state === "granted" && !deno.env.get(name)
  ) {
    deno.env.set(name, "/tmp");
  }
  return (globalThis.navigator as Navigator | undefined)?.gpu;
}

/**
 * Opens a device with all limits and the optional features that help. Any object with the WebGPU API may be passed
 * (a browser's or Dawn's); the runtime's own is the default.
 *
 * @throws {UserError} where there is no adapter, saying how to get one.
 */
export async function openGpu(gpu: GPU | undefined = defaultGpu()): Promise<Gpu> {
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new UserError(NO_ADAPTER, 1, "NO_GPU");
  const requiredLimits: Record<string, number> = {};
  // Passing adapter.limits itself silently gives the defaults: its keys live on the prototype.
  for (const key in adapter.limits) {
    const value = adapter.limits[key as keyof GPUSupportedLimits];
    if (typeof value === "number") requiredLimits[key] = value;
  }
  const requiredFeatures: GPUFeatureName[] = adapter.features.has("timestamp-query")
    ? ["timestamp-query"]
    : [];
  // Deno grants subgroups where the driver has them, but never lists them. A refused adapter may be asked again.
  const device = await adapter.requestDevice({
    requiredLimits,
    requiredFeatures: [...requiredFeatures, "subgroups"],
  }).catch(() => adapter.requestDevice({ requiredLimits, requiredFeatures }));

  let failure: UserError | undefined;
  let destroyed = false;
  // Without this listener WebGPU errors are silent and results are wrong.
  device.addEventListener("uncapturederror", (event) => {
    const { error } = event as GPUUncapturedErrorEvent;
    const advice = error instanceof GPUOutOfMemoryError
      ? "set gradient_checkpointing: true, which a run that goes on from a checkpoint may change, or lower " +
        "per_device_train_batch_size or max_length; close other programs that use the GPU"
      : "this is a defect of simper or of the driver: please report it with this text";
    failure ??= new UserError(
      `the GPU reported an error: ${error.message}\n${advice}`,
      1,
      error instanceof GPUOutOfMemoryError ? "OUT_OF_MEMORY" : "GPU_FAILED",
    );
  });
  device.lost.then((info) => {
    if (destroyed) return;
    failure ??= new UserError(
      `the GPU device was lost (${info.reason}): ${info.message}\n` +
        "the driver was reset, or the GPU taken away: start again; if it is lost at the same step, a kernel may take longer " +
        "than the driver allows: lower per_device_train_batch_size or max_length",
      1,
      "GPU_FAILED",
    );
  });

  const { vendor, architecture, device: model, description } = adapter.info;
  const name = description || [vendor, architecture, model].filter(Boolean).join(" ") || "unknown adapter";
  return {
    device,
    name,
    isSoftware: adapter.info.isFallbackAdapter || /llvmpipe|lavapipe|swiftshader/i.test(name),
    subgroups: subgroupsOf(adapter, device),
    check() {
      if (failure) throw failure;
    },
    destroy() {
      destroyed = true;
      device.destroy();
    },
  };
}

function subgroupsOf(adapter: GPUAdapter, device: GPUDevice): Subgroups | undefined {
  const { subgroupMinSize: minSize } = adapter.info;
  // The kernels cut their work by it.
  const isPowerOfTwo = minSize >= 4 && Number.isInteger(Math.log2(minSize));
  if (!device.features.has("subgroups") || !isPowerOfTwo) return;
  return { minSize, areEnabledInSource: adapter.features.has("subgroups") };
}
