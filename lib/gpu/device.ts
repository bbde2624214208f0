import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import { adapterIndex, dawnFeatures, dawnGpu } from "./dawn.ts";
import { type Matrices, matricesOf, matrixFeatures, matrixKinds, multipliesFloat32 } from "./matrices.ts";

/** An implementation of WebGPU: the runtime's own, or Dawn, which is Chrome's. */
export type WebgpuEngine = "deno" | "dawn";
const WEBGPU_ENGINES: readonly WebgpuEngine[] = ["deno", "dawn"];

/** Which of the GPUs that a machine has is opened, and by what. */
export interface GpuChoice {
  /** Any object with the WebGPU API, such as a browser's, in place of an engine. */
  gpu?: GPU;
  /** By default what the environment's SIMPER_WEBGPU_ENGINE says, and else the runtime's own, `deno`. */
  webgpuEngine?: WebgpuEngine;
  /**
   * The number, from 0, or a part of the name of an adapter; by default the one that the engine holds to be the
   * fastest.
   */
  gpuId?: string;
}

/** A WebGPU device with what the rest of the program needs to know about it. */
export interface Gpu {
  /** With all limits and the optional features that help. */
  readonly device: GPUDevice;
  /** Adapter as its driver names it, and the engine where it is not the usual one, for reports. */
  readonly name: string;
  /** What is changed of the engine, as it calls it. */
  readonly toggles: readonly string[];
  /** By what the environment has Vulkan take this one of several adapters of a name. */
  readonly selection: string;
  /** True for a driver that runs on the processor (lavapipe, SwiftShader): it wants other kernels than a GPU. */
  readonly isSoftware: boolean;
  /** Where kernels may use subgroup operations: what they need to know. */
  readonly subgroups?: Subgroups;
  /** Where subgroups multiply matrices of float16 with float32 sums: those that kernels take. */
  readonly matrices?: Matrices;
  /** Where they multiply matrices of float32, in float32: the same. */
  readonly float32Matrices?: Matrices;
  /** Whether such are listed, but round what they multiply, and so are not taken. */
  readonly roundsFloat32: boolean;
  /** Every kind of subgroup matrices that the adapter lists, for people. */
  readonly matrixKinds: readonly string[];
  /** Throws the first validation or out-of-memory error that the device reported, or that it was lost. */
  check(): void;
  /** Gives the device back. */
  destroy(): void;
}

/** An adapter for people, who may have expected another one. */
export const describeAdapter = (
  { name, isSoftware, toggles, roundsFloat32 }: Pick<
    Gpu,
    "name" | "isSoftware" | "toggles" | "roundsFloat32"
  >,
): string =>
  name + (toggles.length > 0 ? ` with ${toggles.join(", ")}` : "") +
  (roundsFloat32 ? ", whose matrices of float32 round what they multiply and are not taken" : "") +
  (isSoftware ? ", a software driver: correct, but slow" : "");

/** What a device says of its subgroups. */
export interface Subgroups {
  /** Lanes that every subgroup has at least: a power of two. */
  readonly minSize: number;
  /**
   * Whether WGSL must ask for them: `enable subgroups;` is an error in Deno, and its lack one in a browser and in
   * Dawn.
   */
  readonly areEnabledInSource: boolean;
}

const NO_ADAPTER =
  "no WebGPU adapter was found: expected a GPU with a Vulkan, Metal or DX12 driver, or a software driver. " +
  "On Debian or Ubuntu `sudo apt-get install -y mesa-vulkan-drivers libvulkan1` gives one without a GPU " +
  "(`simper setup` does this); on a machine with a GPU, install its vendor's Vulkan driver";

const NO_DAWN_ADAPTER =
  "Dawn found no WebGPU adapter that it takes: expected a GPU with a Metal, DX12 or Vulkan 1.1 driver, or a " +
  "new enough software driver (Mesa 25 or later, as Debian 13 has it, or Chromium's SwiftShader by " +
  "VK_DRIVER_FILES; Debian 12's Mesa 22.3 is too old), and on Linux the Vulkan loader (apt-get install libvulkan1): " +
  "install what is missing, or leave webgpu_engine at deno";

/**
 * By these Mesa's layer puts an adapter first, whoever made it: by the maker's and the device's number, and by its place
 * on the bus (`pci-0000_41_00_0`), which tells those of one kind apart.
 */
const SELECTION = ["MESA_VK_DEVICE_SELECT", "DRI_PRIME"];

/** A variable of the environment, where there is one and it may be read. */
function environment(name: string): string | undefined {
  const { Deno: deno } = globalThis as { Deno?: typeof Deno };
  const isAllowed = deno?.permissions.querySync({ name: "env", variable: name }).state === "granted";
  return isAllowed ? deno!.env.get(name) : undefined;
}

/** The variable that says which engine there is where nothing else does. */
const ENGINE = "SIMPER_WEBGPU_ENGINE";

/**
 * The engine that is taken where nothing else says so.
 * @throws {UserError} (status 2) where the environment names one that there is not.
 */
export function usualEngine(): WebgpuEngine {
  const name = environment(ENGINE) || "deno";
  const found = WEBGPU_ENGINES.find((engine) => engine === name);
  if (found) return found;
  throw new UserError(
    `${ENGINE}: expected ${WEBGPU_ENGINES.join(" or ")}, found ${show(name)}`,
    2,
  );
}

/**
 * Says at once what else would be told when a device is opened; by then the package has been asked for, and stands in
 * the lock file of whoever may not load it.
 *
 * @throws {UserError} (status 2) where the engine is Dawn, and this process may load no native code.
 */
export function checkEngine({ gpu, webgpuEngine }: GpuChoice = {}): void {
  const { Deno: deno } = globalThis as { Deno?: typeof Deno };
  if (gpu || (webgpuEngine ?? usualEngine()) !== "dawn") return;
  if (!deno || deno.permissions.querySync({ name: "ffi" }).state === "granted") return;
  throw new UserError(
    `${webgpuEngine ? "webgpu_engine" : ENGINE}: dawn is native code, and this process may load none: ` +
      "`deno task dawn COMMAND ...` gives --allow-ffi, as the npm package does where --webgpu_engine=dawn is on the " +
      `command line or ${ENGINE}=dawn in the environment, and not for a run file alone; a program of ` +
      "`deno install` needs --allow-ffi added to that line",
    2,
  );
}

/** Mesa's device-select layer prints an error where this is not set, as on a server; any absolute path will do. */
function pleaseMesa(): void {
  const name = "XDG_RUNTIME_DIR";
  const { Deno: deno } = globalThis as { Deno?: typeof Deno };
  if (
    deno?.permissions.querySync({ name: "env", variable: name }).state === "granted" && !deno.env.get(name)
  ) {
    deno.env.set(name, "/tmp");
  }
}

/** WebGPU has no list of adapters: these are the ways to ask for one. */
const WAYS: readonly GPURequestAdapterOptions[] = [
  { powerPreference: "high-performance" },
  { powerPreference: "low-power" },
  { forceFallbackAdapter: true },
];

/** The adapter that `gpuId` means, of those that `gpu` gives. */
async function adapterOf(gpu: GPU, gpuId: string): Promise<GPUAdapter | undefined> {
  const found = new Map<string, GPUAdapter>();
  for (const way of WAYS) {
    const adapter = await gpu.requestAdapter(way);
    if (adapter && !found.has(nameOf(adapter))) found.set(nameOf(adapter), adapter);
  }
  // Where there is none at all, that is what is wrong.
  if (found.size === 0) return;
  return [...found.values()][adapterIndex(gpuId, [...found.keys()])];
}

function nameOf({ info }: GPUAdapter): string {
  const { vendor, architecture, device, description } = info;
  return description || [vendor, architecture, device].filter(Boolean).join(" ") || "unknown adapter";
}

/** Dawn's description is the driver's alone. */
const dawnNameOf = ({ info: { device, description } }: GPUAdapter): string =>
  `${[device.replace(/-+$/, ""), description].filter(Boolean).join(", ")}, by Dawn`;

/**
 * Opens a device with all limits and the optional features that help.
 *
 * @param areProven whether no kernels will be run but the program's own, on inputs that it has looked at: they stay in
 * bounds, and need no checks of it where an engine leaves them out (`dawn.ts`).
 * @throws {UserError} where there is no adapter, or not the engine that is asked for, saying how to get one; as of
 * `checkEngine`.
 */
export async function openGpu(
  { gpu: given, webgpuEngine, gpuId }: GpuChoice = {},
  areProven = false,
): Promise<Gpu> {
  checkEngine({ gpu: given, webgpuEngine });
  const isDawn = !given && (webgpuEngine ?? usualEngine()) === "dawn";
  if (!given) pleaseMesa();
  const toggles = isDawn ? dawnFeatures(areProven) : [];
  const gpu = given ??
    (isDawn ? await dawnGpu(toggles, gpuId) : (globalThis.navigator as Navigator | undefined)?.gpu);
  const adapter = gpu && gpuId !== undefined && !isDawn
    ? await adapterOf(gpu, gpuId)
    : await gpu?.requestAdapter(WAYS[0]);
  if (!adapter) throw new UserError(isDawn ? NO_DAWN_ADAPTER : NO_ADAPTER, 1, "NO_GPU");
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
    requiredFeatures: [...requiredFeatures, "subgroups", ...matrixFeatures(adapter)],
  }).catch(() => adapter.requestDevice({ requiredLimits, requiredFeatures }));

  let failure: UserError | undefined;
  let destroyed = false;
  // Without this listener WebGPU errors are silent and results are wrong.
  device.addEventListener("uncapturederror", (event) => {
    const { error } = event as GPUUncapturedErrorEvent;
    // Every engine has a class of its own.
    const isMemory = error.constructor.name === "GPUOutOfMemoryError";
    const advice = isMemory
      ? "set gradient_checkpointing: true, which a run that goes on from a checkpoint may change, or lower " +
        "per_device_train_batch_size or max_length; close other programs that use the GPU"
      : "this is a defect of simper or of the driver: please report it with this text";
    failure ??= new UserError(
      `the GPU reported an error: ${error.message}\n${advice}`,
      1,
      isMemory ? "OUT_OF_MEMORY" : "GPU_FAILED",
    );
  });
  device.lost.then((info) => {
    if (destroyed) return;
    failure ??= new UserError(
      `the GPU device was lost (${info.reason}): ${info.message}\n` +
        "the driver was reset, or the GPU taken away: start again; if it is lost at the same step, a kernel " +
        "may take longer than the driver allows: lower per_device_train_batch_size or max_length",
      1,
      "GPU_FAILED",
    );
  });

  const name = isDawn ? dawnNameOf(adapter) : nameOf(adapter);
  const listed = matricesOf(adapter, device, "f32");
  const float32Matrices = listed && await multipliesFloat32(device, listed) ? listed : undefined;
  return {
    device,
    name,
    toggles,
    selection: SELECTION.map((name) => environment(name) ?? "").join(" ").trim(),
    isSoftware: adapter.info.isFallbackAdapter || /llvmpipe|lavapipe|swiftshader/i.test(name),
    subgroups: subgroupsOf(adapter, device),
    matrices: matricesOf(adapter, device, "f16"),
    float32Matrices,
    roundsFloat32: listed !== float32Matrices,
    matrixKinds: matrixKinds(adapter),
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
