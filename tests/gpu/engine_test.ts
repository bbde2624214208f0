/** Which engine and which adapter are opened. */
import assert from "node:assert/strict";
import { dawnFeatures, dawnGpu } from "../../lib/gpu/dawn.ts";
import { openGpu, usualEngine } from "../../lib/gpu/device.ts";
import { refusal } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const H200 = "NVIDIA H200";

/** A GPU with a fast adapter, a slow one, and none that is a fallback. */
function twoAdapters() {
  let report: ((event: { error: Error }) => void) | undefined;
  const adapter = (description: string) => ({
    limits: {},
    features: new Set(),
    info: { description },
    requestDevice: () =>
      Promise.resolve({
        features: new Set(),
        lost: new Promise(() => {}),
        addEventListener: (_: string, listener: typeof report) => report = listener,
      }),
  });
  const requestAdapter = ({ powerPreference }: GPURequestAdapterOptions = {}) =>
    Promise.resolve(
      powerPreference === "high-performance"
        ? adapter(H200)
        : powerPreference === "low-power"
        ? adapter("Intel UHD")
        : null,
    );
  return { gpu: { requestAdapter } as unknown as GPU, report: (error: Error) => report!({ error }) };
}

Deno.test("an adapter is taken by its number or a part of its name", async () => {
  const { gpu } = twoAdapters();
  const nameOf = async (gpuId?: string) => (await openGpu({ gpu, gpuId })).name;
  assert.deepEqual(
    [await nameOf(), await nameOf("0"), await nameOf("1"), await nameOf("h2"), await nameOf("uhd")],
    [H200, H200, "Intel UHD", H200, "Intel UHD"],
  );
  const known = "expected 0 (NVIDIA H200), 1 (Intel UHD), or a part of a name";
  for (const gpuId of ["2", "H100"]) {
    assert.equal(await refusal(openGpu({ gpu, gpuId })), `gpu_id: ${known}, found ${gpuId}`);
  }
});

Deno.test("an engine's own class of errors tells memory from the rest", async () => {
  class GPUOutOfMemoryError extends Error {}
  class GPUInternalError extends Error {}
  for (
    const [Own, code] of [[GPUOutOfMemoryError, "OUT_OF_MEMORY"], [GPUInternalError, "GPU_FAILED"]] as const
  ) {
    const { gpu, report } = twoAdapters();
    const opened = await openGpu({ gpu });
    report(new Own("of this engine"));
    assert.throws(() => opened.check(), { code });
  }
});

/** Dawn with adapters of these names, and what each of its entry points was made with. */
function fakeDawn(names: readonly string[]) {
  const made: string[][] = [];
  const list = names.map((name) => `\n * backend: 'vulkan', name: '${name}'`).join("");
  const create = (options: string[]) => {
    made.push(options);
    return {
      requestAdapter: () => Promise.reject(new Error(`none\nAvailable adapters:${list}`)),
    } as unknown as GPU;
  };
  return { load: () => Promise.resolve({ create }), made };
}

Deno.test("Dawn is asked for an adapter by its whole name, and not for one of two that are called the same", async () => {
  const changes = dawnFeatures(false);
  const features = "enable-dawn-features=allow_unsafe_apis";
  for (
    const [gpuId, options] of [[undefined, []], ["1", ["adapter=B (2)"]], ["b", ["adapter=B (2)"]]] as const
  ) {
    const { load, made } = fakeDawn(["A", "B (2)"]);
    await dawnGpu(changes, gpuId, load);
    assert.deepEqual(made.at(-1), [features, ...options]);
  }
  const twins = () => fakeDawn([H200, H200]).load;
  await dawnGpu(changes, "0", twins());
  assert.match(
    await refusal(dawnGpu(changes, "1", twins())),
    /^gpu_id: 1 is called NVIDIA H200, as is 0, and Dawn/,
  );
  assert.match(
    await refusal(dawnGpu(changes, "2", twins())),
    /expected 0 \(NVIDIA H200\), 1 \(NVIDIA H200\), or .* found 2$/,
  );
  // That there is none at all is told by who asks for it.
  assert.ok(await dawnGpu(changes, "0", fakeDawn([]).load));
});

Deno.test("Dawn checks bounds but of kernels that are proven", async () => {
  const { load, made } = fakeDawn([]);
  await dawnGpu(dawnFeatures(true), undefined, load);
  assert.deepEqual(made, [["enable-dawn-features=allow_unsafe_apis,disable_robustness"]]);
});

Deno.test("the environment names the engine, and no other than there are", async () => {
  const name = "SIMPER_WEBGPU_ENGINE";
  const before = Deno.env.get(name);
  try {
    for (const engine of ["dawn", "deno"] as const) {
      Deno.env.set(name, engine);
      assert.equal(usualEngine(), engine);
    }
    Deno.env.set(name, "chrome");
    assert.equal(
      await refusal(openGpu()),
      'SIMPER_WEBGPU_ENGINE: expected deno or dawn, found "chrome"',
    );
    // An object that is given is taken whatever it says.
    await openGpu({ gpu: twoAdapters().gpu });
    Deno.env.delete(name);
    assert.equal(usualEngine(), "deno");
  } finally {
    if (before !== undefined) Deno.env.set(name, before);
  }
});

Deno.test("dawn.lock has all that deno.lock has, and Dawn", async () => {
  const [usual, dawn] = await Promise.all(
    ["deno.lock", "lib/gpu/dawn.lock"].map(async (path) => JSON.parse(await Deno.readTextFile(path))),
  );
  const both = (part: string) => ({ ...dawn[part], ...usual[part] });
  assert.deepEqual(
    dawn,
    { ...usual, specifiers: both("specifiers"), npm: both("npm") },
    "`cp deno.lock lib/gpu/dawn.lock && deno cache --lock=lib/gpu/dawn.lock npm:webgpu@0.6.2` makes it anew",
  );
  assert.deepEqual(
    Object.keys(dawn.npm).filter((name) => !(name in usual.npm)).map((name) => name.replace(/@[\d.]+$/, "")),
    ["@webgpu/types", "debug", "ms", "webgpu"],
  );
});

Deno.test("a lock file without Dawn stays so, and the task that has one with it is told", async () => {
  const lock = async (task: string) => {
    const { tasks } = JSON.parse(await Deno.readTextFile("deno.json"));
    return tasks[task].command.match(/ --frozen(?: --lock=\S+)?/)?.[0];
  };
  assert.deepEqual([await lock("ranks"), await lock("dawn")], [
    " --frozen",
    " --frozen --lock=lib/gpu/dawn.lock",
  ]);
  // As Deno says it.
  const error = new TypeError(
    "The lockfile is out of date. Run `deno install --frozen=false`, or rerun\nchanges:\n",
  );
  assert.match(
    await refusal(dawnGpu([], undefined, () => Promise.reject(error))),
    /^webgpu_engine: dawn is not in the lock file .*`mpirun -n N deno task dawn train \.\.\.` starts ranks so$/,
  );
});

Deno.test("where Dawn cannot be had, the line that installs it is told", () =>
  withTemporaryFolder(async (folder) => {
    const script = `${folder}/script.ts`;
    const device = import.meta.resolve("../../lib/gpu/device.ts");
    await Deno.writeTextFile(
      script,
      `import { openGpu } from ${JSON.stringify(device)};
const told = await openGpu({ webgpuEngine: "dawn" }).catch(({ code, message }) => code + " " + message);
console.log(told);`,
    );
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-lock", "--no-check", "--cached-only", "--allow-ffi", script],
      env: { DENO_DIR: folder },
    }).output();
    assert.match(
      new TextDecoder().decode(stdout),
      /^NO_GPU webgpu_engine: dawn is not installed.*`deno cache npm:webgpu@[\d.]+` installs it/,
    );
  }));
