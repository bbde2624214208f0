import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Gpu, openGpu } from "../../lib/gpu/device.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { measureTuning } from "../../lib/gpu/tuner.ts";
import { rememberedTuning, rememberTuning } from "../../lib/planning/remembered_tuning.ts";
import {
  isTuningRecord,
  SHAPE_CLASSES,
  type ShapeClass,
  shapeClass,
  type TuningRecord,
  usualTuning,
} from "../../lib/gpu/tuning.ts";

const adapter = (name: string) => ({ name }) as Gpu;

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "simper-tuning-"));
  try {
    await run(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

Deno.test("measuring takes a tile that exists for every shape class, and none that is clearly slower", async () => {
  const gpu = await openGpu();
  const { record, rates } = await measureTuning(gpu, new Pipelines(gpu));
  gpu.destroy();
  assert.ok(isTuningRecord(record));
  for (const shape of SHAPE_CLASSES) {
    if (shape.endsWith("small")) {
      // Not measured on a processor, which is as busy with few tiles as with many.
      const wide = shape.replace("small", "wide") as ShapeClass;
      assert.equal(record.buffer[shape], record.buffer[wide]);
      assert.equal(record.textured.includes(shape), record.textured.includes(wide));
      continue;
    }
    const ways = rates.filter((rate) => rate.shape === shape);
    assert.ok(ways.length > 1 && ways.every(({ rate }) => rate > 0));
    const taken = record.textured.includes(shape) ? "texture" : record.buffer[shape];
    const { rate } = ways.find(({ way }) => way === taken)!;
    assert.ok(rate * 1.05 >= Math.max(...ways.map((way) => way.rate)), `${shape}: ${taken}`);
  }
});

Deno.test("a product of few tiles is not computed as a large one is", () => {
  assert.equal(shapeClass("nt", 2048, 2048), "nt wide");
  assert.equal(shapeClass("nt", 512, 2048), "nt small");
  assert.equal(shapeClass("tn", 576, 576), "tn small");
  assert.equal(shapeClass("nn", 1e6, 127), "nn narrow");
  const { buffer } = usualTuning("gpu");
  assert.notEqual(buffer["nt small"], buffer["nt wide"]);
});

Deno.test("what was measured is remembered, adapter by adapter", () =>
  inFolder(async (folder) => {
    const [software, gpu] = [usualTuning("software"), usualTuning("gpu")];
    assert.equal(await rememberedTuning(adapter("a"), folder), undefined);
    await rememberTuning(adapter("a"), join(folder, "new"), software);
    await rememberTuning(adapter("b"), join(folder, "new"), gpu);
    assert.deepEqual(await rememberedTuning(adapter("a"), join(folder, "new")), software);
    assert.deepEqual(await rememberedTuning(adapter("b"), join(folder, "new")), gpu);
    assert.deepEqual(await readdir(join(folder, "new")), ["tuning.json"]);
  }));

Deno.test("what needs subgroups is remembered for devices that have them", () =>
  inFolder(async (folder) => {
    const gpu = { ...adapter("a"), subgroups: { minSize: 8, areEnabledInSource: false } };
    const usual = usualTuning("software");
    const record: TuningRecord = { ...usual, buffer: { ...usual.buffer, "nt wide": "subgroup 32x8" } };
    await rememberTuning(gpu, folder, record);
    assert.deepEqual(await rememberedTuning(gpu, folder), record);
    assert.equal(await rememberedTuning(adapter("a"), folder), undefined);
    await rememberTuning(adapter("a"), folder, record);
    assert.equal(await rememberedTuning(adapter("a"), folder), undefined);
  }));

Deno.test("a name that is a list within lists is none", () => {
  let list: unknown = "storage 8x8";
  for (let level = 0; level < 20_000; level++) list = [list];
  const record = usualTuning("gpu");
  assert.equal(isTuningRecord({ ...record, buffer: { ...record.buffer, "nt wide": list } }), false);
  assert.equal(isTuningRecord({ ...record, textured: [list] }), false);
  assert.equal(isTuningRecord({ ...record, fuses: list }), false);
  assert.equal(isTuningRecord(record), true);
});

Deno.test("a file that is damaged, or names tiles that do not exist, remembers nothing", () =>
  inFolder(async (folder) => {
    const key = async () => {
      await rememberTuning(adapter("a"), folder, usualTuning("gpu"));
      const file = JSON.parse(await Deno.readTextFile(join(folder, "tuning.json")));
      return Object.keys(file)[0];
    };
    const name = await key();
    for (
      const text of [
        "",
        "{",
        "[]",
        "null",
        "3",
        JSON.stringify({ [name]: null }),
        JSON.stringify({ [name]: { buffer: {}, textured: [], fuses: false } }),
        JSON.stringify({ [name]: { ...usualTuning("gpu"), fuses: undefined } }),
        JSON.stringify({ [name]: { ...usualTuning("gpu"), textured: ["nt tall"] } }),
        JSON.stringify({ [name]: { ...usualTuning("gpu"), buffer: { "nt wide": "__proto__" } } }),
      ]
    ) {
      await writeFile(join(folder, "tuning.json"), text);
      assert.equal(await rememberedTuning(adapter("a"), folder), undefined, text);
    }
    await rememberTuning(adapter("a"), folder, usualTuning("gpu"));
    assert.deepEqual(await rememberedTuning(adapter("a"), folder), usualTuning("gpu"));
  }));
