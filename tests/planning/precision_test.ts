/** Which precision of products an adapter can do, and what a user is told where it cannot. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { isTuningRecord, suits, tilesOf, usualTuning } from "../../lib/gpu/tuning.ts";
import { precisionOn } from "../../lib/planning/precision.ts";
import { rememberedTuning, rememberTuning } from "../../lib/planning/remembered_tuning.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { refusal, run } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const matrices = { m: 16, n: 16, k: 16, lanes: 32, workgroupBytes: 2 ** 15 };
const without = {
  name: "a GPU",
  toggles: [] as string[],
  matrixKinds: [] as string[],
  isSoftware: false,
  subgroups: undefined,
};
const having = { ...without, matrices, matrixKinds: ["f16 x f16 -> f32 16x16x16"] };

Deno.test("a precision is what was asked for where there are matrices, and auto takes what there is", () => {
  const on = (gpu: typeof without, float32MatmulPrecision: "highest" | "high" | "medium" | "auto") =>
    precisionOn(gpu, { float32MatmulPrecision });
  assert.deepEqual(["highest", "high", "medium", "auto"].map((name) => on(having, name as "high")), [
    undefined,
    "high",
    "medium",
    "high",
  ]);
  assert.deepEqual((["highest", "auto"] as const).map((name) => on(without, name)), [undefined, undefined]);
  assert.throws(() => on(without, "medium"), {
    status: 2,
    message: /^float32_matmul_precision: medium needs .*none/,
  });
  const others = { ...without, matrixKinds: ["f32 x f32 -> f32 8x8x8"] };
  assert.throws(() => on(others, "high"), /a GPU has f32 x f32 -> f32 8x8x8:/);
  // Whoever has Dawn is not told to take it.
  assert.throws(() => on(others, "high"), /: webgpu_engine: dawn offers .*; highest computes/);
  assert.throws(() => on({ ...others, toggles: ["allow_unsafe_apis"] }, "high"), /8x8x8: highest computes/);
  const unfit = { ...without, matrixKinds: ["f16 x f16 -> f32 64x64x64"] };
  assert.throws(() => on(unfit, "high"), /a GPU has f16 x f16 -> f32 64x64x64, of sizes that .* subgroups/);
});

Deno.test(
  "an engine without subgroup matrices refuses a precision that needs them, and does its best for auto",
  {
    ignore: Deno.env.get("SIMPER_WEBGPU_ENGINE") === "dawn",
  },
  () =>
    withTemporaryFolder(async (folder) => {
      const precision = (name: string) => [`--float32_matmul_precision=${name}`, "--max_steps=1"];
      const message = await refusal(run(join(folder, "high"), precision("high")));
      assert.match(message, /^float32_matmul_precision: high needs .*webgpu_engine: dawn.*auto/);
      await run(join(folder, "auto"), precision("auto"));
    }),
);

Deno.test("tiles of matrices are taken for the precision that is asked for, and by devices that have them", async () => {
  for (const device of ["gpu", "software"] as const) {
    const record = usualTuning(device, "medium");
    assert.ok(isTuningRecord(JSON.parse(JSON.stringify(record))));
    assert.ok(suits(record, having) && !suits(record, without));
    const { buffer, textured } = tilesOf(record, having);
    assert.deepEqual(textured, []);
    assert.ok(Object.values(buffer).every((tile) => tile.memory === "matrix" && tile.precision === "medium"));
    assert.throws(() => tilesOf(record, without), RangeError);
    const { precision: _, ...unnamed } = record;
    assert.ok(!isTuningRecord(unnamed) && !isTuningRecord({ ...record, precision: "low" }));
    assert.ok(!Object.values(usualTuning(device).buffer).includes("matrix"));
  }
  await withTemporaryFolder(async (folder) => {
    const gpu = having as unknown as Gpu;
    const [plain, high] = [usualTuning("gpu"), usualTuning("gpu", "high")];
    await rememberTuning(gpu, folder, plain);
    assert.equal(await rememberedTuning(gpu, folder, "high"), undefined);
    await rememberTuning(gpu, folder, high);
    assert.deepEqual((await rememberedTuning(gpu, folder))?.tiles, plain);
    assert.deepEqual((await rememberedTuning(gpu, folder, "high"))?.tiles, high);
    assert.equal(await rememberedTuning(gpu, folder, "medium"), undefined);
  });
});
