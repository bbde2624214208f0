/** What Dawn has to do as the engine; run by `deno task test:dawn`. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openGpu } from "../../lib/gpu/device.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { refusal, run, stopAt, weightsOf } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

Deno.test("its adapter is named with the engine, and what is changed of it", async () => {
  const gpu = await openGpu();
  assert.match(gpu.name, /, by Dawn$/);
  assert.deepEqual(gpu.toggles, ["allow_unsafe_apis"]);
  assert.ok(gpu.subgroups?.areEnabledInSource);
  gpu.destroy();
});

Deno.test("adapters are taken by number and name, and one that there is not is told with those that there are", async () => {
  for (const gpuId of ["0", "PIPE"]) (await openGpu({ gpuId })).destroy();
  for (const gpuId of ["99", "no such"]) {
    assert.match(await refusal(openGpu({ gpuId })), /^gpu_id: expected 0 \(.+\).*, found \S/);
  }
});

Deno.test("what came of a device that was destroyed may be collected at any time", async () => {
  for (let i = 0; i < 4; i++) {
    (await openGpu()).destroy();
    // Has garbage collected.
    for (let j = 0; j < 200; j++) new Float32Array(2 ** 20).fill(j);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
});

Deno.test("without a driver it says which it takes", async () => {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", "--allow-env", "--allow-ffi", "tests/dawn/probe.ts"],
    env: { VK_DRIVER_FILES: "/dev/null", VK_ICD_FILENAMES: "/dev/null" },
    stdin: "null",
  }).output();
  assert.equal(code, 1);
  assert.match(
    new TextDecoder().decode(stderr),
    /^Dawn found no WebGPU adapter that it takes: expected .*Mesa 25.*apt-get install libvulkan1/m,
  );
});

Deno.test("a run has the figures that the other engine gives, and goes on from its checkpoint, which is told", () =>
  withTemporaryFolder(async (folder) => {
    const [deno, dawn, both] = ["deno", "dawn", "both"].map((name) => join(folder, name));
    const usual = await run(deno, ["--webgpu_engine=deno"]);
    const own = await run(dawn);
    for (const [i, entry] of usual.history.entries()) {
      for (const name of ["loss", "grad_norm", "rewards/chosen", "eval_loss"]) {
        if (entry[name] === undefined) continue;
        const difference = Math.abs(Number(own.history[i][name]) - Number(entry[name]));
        assert.ok(difference <= 1e-5 * Math.abs(Number(entry[name])), `${name} of entry ${i}: ${difference}`);
      }
    }
    await stopAt(4, both, ["--webgpu_engine=deno"]);
    const warnings: string[] = [];
    await run(both, [], { onLog: (level, text) => void (level === "warning" && warnings.push(text)) });
    assert.match(warnings.join("\n"), /was made on .*, and this is .*, by Dawn: the numbers may differ/);
  }));

Deno.test("the same run gives the same bytes, broken or not", () =>
  withTemporaryFolder(async (folder) => {
    const [whole, broken] = ["whole", "broken"].map((name) => join(folder, name));
    await run(whole);
    await stopAt(6, broken);
    await run(broken);
    assertEqualBytes(await weightsOf(broken), await weightsOf(whole));
  }));
