/** Whether a device has subgroups, and what follows for the choice of kernels. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { isTuningRecord, suits, tilesOf, type TuningRecord, usualTuning } from "../../lib/gpu/tuning.ts";
import { run, stopAt } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

interface Fake {
  lists: boolean;
  grants: boolean;
  minSize?: number;
  /** What else the adapter lists. */
  features?: string[];
  maxSize?: number;
}

/** A GPU that has a device with subgroups, or none, and what was asked of it. */
function fakeGpu({ lists, grants, minSize = 32, features: more = [], maxSize = minSize }: Fake) {
  const requests: string[][] = [];
  const sources: string[] = [];
  const requestDevice = (
    { requiredFeatures, requiredLimits }: { requiredFeatures: string[]; requiredLimits: object },
  ) => {
    requests.push(requiredFeatures);
    if (!grants && requiredFeatures.includes("subgroups")) return Promise.reject(new TypeError("refused"));
    return Promise.resolve({
      features: new Set(requiredFeatures),
      limits: requiredLimits,
      lost: new Promise(() => {}),
      addEventListener() {},
      pushErrorScope() {},
      popErrorScope: () => Promise.resolve(null),
      createShaderModule: ({ code }: { code: string }) => sources.push(code),
      createComputePipeline() {},
    });
  };
  const features = new Set(["timestamp-query", ...lists ? ["subgroups"] : [], ...more]);
  const info = {
    description: "an adapter",
    subgroupMinSize: minSize,
    subgroupMaxSize: maxSize,
    subgroupMatrixConfigs: [{ componentType: "f16", resultComponentType: "f32", M: 16, N: 16, K: 16 }],
  };
  const limits = { maxComputeWorkgroupStorageSize: 2 ** 15 };
  const requestAdapter = () => Promise.resolve({ limits, features, info, requestDevice });
  return { gpu: { requestAdapter } as unknown as GPU, requests, sources };
}

Deno.test("subgroups are asked for though no adapter lists them, and a refusal costs nothing else", async () => {
  const granted = fakeGpu({ lists: false, grants: true });
  assert.deepEqual((await openGpu(granted)).subgroups, { minSize: 32, areEnabledInSource: false });
  assert.deepEqual(granted.requests, [["timestamp-query", "subgroups"]]);
  const refused = fakeGpu({ lists: false, grants: false });
  assert.equal((await openGpu(refused)).subgroups, undefined);
  assert.deepEqual(refused.requests, [["timestamp-query", "subgroups"], ["timestamp-query"]]);
});

Deno.test("subgroups whose least size is no power of two, or unknown, are left alone", async () => {
  for (const minSize of [0, 1, 12, NaN]) {
    const { gpu } = fakeGpu({ lists: true, grants: true, minSize });
    assert.equal((await openGpu({ gpu })).subgroups, undefined);
  }
});

Deno.test("WGSL that uses subgroups enables them where the adapter lists them, as browsers want, and only there", async () => {
  const source = "subgroupBroadcast(x, 0u)";
  for (const lists of [true, false]) {
    const { gpu, sources } = fakeGpu({ lists, grants: true });
    const pipelines = new Pipelines(await openGpu({ gpu }));
    await pipelines.compile("a kernel", source);
    await pipelines.compile("another", "source");
    assert.deepEqual(sources, [lists ? `enable subgroups;\n${source}` : source, "source"]);
  }
});

Deno.test("kernels of matrices ask for the smallest subgroups of a GPU that has several, or are none", async () => {
  const features = ["shader-f16", "chromium-experimental-subgroup-matrix"];
  const varying = { lists: true, grants: true, minSize: 8, maxSize: 32 };
  assert.equal((await openGpu(fakeGpu({ ...varying, features }))).matrices, undefined);
  assert.equal((await openGpu(fakeGpu({ ...varying, maxSize: 8, features }))).matrices?.lanes, 8);
  const asked = fakeGpu({ ...varying, features: [...features, "subgroup-size-control"] });
  const opened = await openGpu(asked);
  assert.equal(opened.matrices?.lanes, 8);
  const pipelines = new Pipelines(opened);
  const kernel = (main: string) => `var x: subgroup_matrix_left<f16, 8, 8>;\n${main} fn main() {}`;
  await pipelines.compile("a kernel", kernel("@compute @workgroup_size(64)"));
  await pipelines.compile("another", "subgroupBroadcast(x, 0u) @compute");
  assert.deepEqual(asked.sources, [
    `enable f16, subgroups, chromium_experimental_subgroup_matrix, subgroup_size_control;\n${
      kernel("@compute @subgroup_size(8) @workgroup_size(64)")
    }`,
    "enable subgroups;\nsubgroupBroadcast(x, 0u) @compute",
  ]);
});

Deno.test("this machine's device opens, with subgroups or without", async () => {
  const gpu = await openGpu();
  // A device may grant them without saying what is needed to use them.
  if (gpu.subgroups) assert.ok(gpu.device.features.has("subgroups"));
  gpu.destroy();
});

const record = (): TuningRecord => {
  const { buffer, fuses } = usualTuning("software");
  return { buffer: { ...buffer, "nn wide": "subgroup 16x16" }, textured: [], fuses };
};

Deno.test("a record that names a tile for subgroups suits devices that have them", () => {
  assert.ok(isTuningRecord(record()));
  const subgroups = { minSize: 16, areEnabledInSource: false };
  assert.deepEqual([suits(record(), { subgroups }), suits(record(), {})], [true, false]);
  assert.ok(suits(usualTuning("gpu"), {}));
  const tile = (isSoftware: boolean) => tilesOf(record(), { isSoftware, subgroups }).buffer["nn wide"];
  const cut = { memory: "subgroup", threadRows: 16, threadColumns: 16, groupRows: 1, lanes: 16 };
  assert.deepEqual(tile(true), { ...cut, groupColumns: 16 });
  assert.deepEqual(tile(false), { ...cut, groupColumns: 32 });
  assert.throws(() => tilesOf(record(), { isSoftware: true }), /subgroup 16x16 is for devices that have/);
});

/** This machine's GPU, of which subgroups are not to be had. */
function gpuWithoutSubgroups(): GPU {
  const requestAdapter = async (options?: GPURequestAdapterOptions) => {
    const adapter = (await navigator.gpu.requestAdapter(options))!;
    const requestDevice = (descriptor?: GPUDeviceDescriptor) =>
      [...descriptor?.requiredFeatures ?? []].includes("subgroups")
        ? Promise.reject(new TypeError("refused"))
        : adapter.requestDevice(descriptor);
    const { limits, features, info } = adapter;
    return { limits, features, info, requestDevice };
  };
  return { requestAdapter } as unknown as GPU;
}

Deno.test("a checkpoint made with subgroups goes on without them, and the log says so", () =>
  withTemporaryFolder(async (folder) => {
    await stopAt(2, folder);
    const path = join(folder, "checkpoint-2", "run_state.json");
    const state = JSON.parse(await Deno.readTextFile(path));
    await Deno.writeTextFile(path, JSON.stringify({ ...state, kernels: record() }));
    const lines: string[] = [];
    const onLog = (level: string, line: string) => void (level === "warning" && lines.push(line));
    const { steps } = await run(folder, [], {
      gpu: gpuWithoutSubgroups(),
      onLog,
    });
    assert.equal(steps, 12);
    const found = lines.filter((line) => line.includes("computed with subgroups"));
    assert.equal(found.length, 1);
    const after = JSON.parse(await Deno.readTextFile(join(folder, "checkpoint-12", "run_state.json")));
    assert.ok(suits(after.kernels, {}));
  }));
