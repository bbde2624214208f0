import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { measureKept } from "../../lib/gpu/attention_tuner.ts";
import { type Gpu, openGpu } from "../../lib/gpu/device.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { chooseTiles, measureTuning, type Way } from "../../lib/gpu/tuner.ts";
import {
  checkIsFor,
  readTuning,
  rememberedTuning,
  rememberTuning,
  writeTuning,
} from "../../lib/planning/remembered_tuning.ts";
import { refusal } from "../in_process.ts";
import {
  attentionTilesBeside,
  BUFFER_TILES,
  isTuningRecord,
  partsOf,
  SHAPE_CLASSES,
  type ShapeClass,
  shapeClass,
  tilesOf as tilesHere,
  type TuningRecord,
  usualTuning,
} from "../../lib/gpu/tuning.ts";

const adapter = (name: string) => ({ name }) as Gpu;
const tilesOf = async (gpu: Gpu, folder: string) => (await rememberedTuning(gpu, folder))?.tiles;

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
  assert.equal(shapeClass("tn", 16, 576), "tn narrow");
  assert.equal(shapeClass("nt", 16, 576), "nt small");
  const { buffer } = usualTuning("gpu");
  assert.notEqual(buffer["nt small"], buffer["nt wide"]);
});

Deno.test("products of few tiles are split on a GPU, but for those of the forward pass", () => {
  const { split, buffer } = tilesHere(usualTuning("gpu"), { isSoftware: false });
  const parts = (layout: "nt" | "nn" | "tn", m: number, n: number, k: number) =>
    partsOf(layout, { m, n, k }, buffer[shapeClass(layout, m, n)], split!);
  assert.equal(parts("nn", 1200, 576, 49_152), 5);
  assert.equal(parts("nt", 1200, 576, 49_152), 1);
  // An adapter's, a small weight gradient, and those that have tiles enough or are not deep.
  assert.equal(parts("tn", 16, 2048, 2048), 4);
  assert.equal(parts("tn", 576, 576, 2048), 4);
  assert.equal(parts("tn", 2048, 2048, 2048), 1);
  assert.equal(parts("nn", 512, 576, 1000), 1);
  assert.equal(partsOf("nn", { m: 64, n: 64, k: 8192 }, BUFFER_TILES["storage 8x8"], split!), 1);
  assert.equal(tilesHere(usualTuning("software"), { isSoftware: true }).split, undefined);
});

Deno.test("attention's backward pass keeps what its kernels share on a GPU where that was measured to be faster", () => {
  const keeps = (device: "gpu" | "software", record: Partial<TuningRecord>) => {
    const gpu = { isSoftware: device === "software" };
    const { forward, queryGradient, keyGradient } = attentionTilesBeside(
      tilesHere({ ...usualTuning(device), ...record }, gpu),
      gpu,
    );
    return [forward, queryGradient, keyGradient].map((tile) => "keeps" in tile);
  };
  assert.deepEqual(keeps("gpu", {}), [false, false, false]);
  assert.deepEqual(keeps("gpu", { keeps: false }), [false, false, false]);
  assert.deepEqual(keeps("gpu", { keeps: true }), [false, true, true]);
  assert.deepEqual(keeps("software", { keeps: true }), [false, false, false]);
});

Deno.test("measuring attention compares its gradient with what is kept and without", async () => {
  const gpu = await openGpu();
  const size = { heads: 2, keyValueHeads: 1, headDim: 8, tokens: 40, keeps: 2 ** 20 };
  const { kept, again, isRight } = await measureKept(gpu, new Pipelines(gpu), size);
  gpu.destroy();
  assert.ok(kept > 0 && again > 0 && isRight);
});

Deno.test("what was measured is remembered, adapter by adapter", () =>
  inFolder(async (folder) => {
    const [software, gpu] = [usualTuning("software"), usualTuning("gpu")];
    assert.equal(await tilesOf(adapter("a"), folder), undefined);
    await rememberTuning(adapter("a"), join(folder, "new"), software);
    await rememberTuning(adapter("b"), join(folder, "new"), gpu);
    assert.deepEqual(await tilesOf(adapter("a"), join(folder, "new")), software);
    assert.deepEqual(await tilesOf(adapter("b"), join(folder, "new")), gpu);
    assert.deepEqual(await readdir(join(folder, "new")), ["tuning.json"]);
  }));

Deno.test("what needs subgroups is remembered for devices that have them", () =>
  inFolder(async (folder) => {
    const gpu = { ...adapter("a"), subgroups: { minSize: 8, areEnabledInSource: false } };
    const usual = usualTuning("software");
    const record: TuningRecord = { ...usual, buffer: { ...usual.buffer, "nt wide": "subgroup 32x8" } };
    await rememberTuning(gpu, folder, record);
    assert.deepEqual(await tilesOf(gpu, folder), record);
    assert.equal(await tilesOf(adapter("a"), folder), undefined);
    await rememberTuning(adapter("a"), folder, record);
    assert.equal(await tilesOf(adapter("a"), folder), undefined);
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
      return Object.entries(file)[0] as [string, object];
    };
    const [name, whole] = await key();
    const withTiles = (tiles: unknown) => JSON.stringify({ [name]: { ...whole, tiles } });
    for (
      const text of [
        "",
        "{",
        "[]",
        "null",
        "3",
        JSON.stringify({ [name]: null }),
        JSON.stringify({ [name]: usualTuning("gpu") }),
        JSON.stringify({ [name]: { ...whole, rates: [1] } }),
        withTiles({ buffer: {}, textured: [], fuses: false }),
        withTiles({ ...usualTuning("gpu"), fuses: undefined }),
        withTiles({ ...usualTuning("gpu"), splits: 1 }),
        withTiles({ ...usualTuning("gpu"), keeps: 1 }),
        withTiles({ ...usualTuning("gpu"), textured: ["nt tall"] }),
        withTiles({ ...usualTuning("gpu"), buffer: { "nt wide": "__proto__" } }),
      ]
    ) {
      await writeFile(join(folder, "tuning.json"), text);
      assert.equal(await tilesOf(adapter("a"), folder), undefined, text);
    }
    await rememberTuning(adapter("a"), folder, usualTuning("gpu"));
    assert.deepEqual(await tilesOf(adapter("a"), folder), usualTuning("gpu"));
  }));

/** Chooses among ways of a GPU with these rates, by a clock that only measuring one, a second each, moves. */
async function choose(
  rates: Partial<Record<Way, number>>,
  seconds?: number,
  wrong: Way[] = [],
): Promise<{ asked: string[] } & Awaited<ReturnType<typeof chooseTiles>>> {
  let milliseconds = 0;
  const asked: string[] = [];
  const found = await chooseTiles("gpu", Object.keys(rates) as Way[], {
    measureWay: (shape, way) => {
      asked.push(`${shape}: ${way}`);
      milliseconds += 1000;
      const rate = rates[way];
      return Promise.resolve(rate === undefined ? undefined : { rate, isRight: !wrong.includes(way) });
    },
    measureFused: (record) => {
      asked.push(`fused: ${record.buffer["nt wide"]}`);
      return Promise.resolve({ fused: 1, separate: 2, isRight: true });
    },
    measureSplit: (record) => {
      asked.push(`split: ${record.buffer["nn small"]}`);
      return Promise.resolve({ split: 2, whole: 1, isRight: !wrong.includes("storage 8x8") });
    },
    measureKept: (record) => {
      asked.push(`kept: ${record.buffer["nt wide"]}`);
      return Promise.resolve({ kept: 2, again: 1, isRight: !wrong.includes("storage 8x8") });
    },
  }, { seconds, now: () => milliseconds });
  return { ...found, asked };
}
const [WIDE, SMALL, NARROW] = [
  "workgroup 8x8 of 16x16",
  "workgroup 4x4 of 16x16",
  "workgroup 4x4 of 8x8",
] as const;
const RATES = {
  [WIDE]: 10,
  "workgroup 8x8 of 8x8": 9,
  [SMALL]: 8,
  [NARROW]: 5,
  "storage 8x8": 1,
  "subgroup 8x8": 20,
} as const;

Deno.test("of a layout the usual way and the fastest two others are measured in the other layouts", async () => {
  const { asked, record, skipped } = await choose(RATES);
  assert.equal(skipped, 0);
  assert.deepEqual(asked.slice(0, 12), [
    ...Object.keys(RATES).map((way) => `nt wide: ${way}`),
    ...["nn wide", "tn wide"].flatMap((shape) =>
      [WIDE, "subgroup 8x8", "workgroup 8x8 of 8x8"].map((way) => `${shape}: ${way}`)
    ),
  ]);
  assert.deepEqual(asked.slice(12, 19), [
    ...[SMALL, WIDE, "workgroup 8x8 of 8x8", NARROW, "storage 8x8", "subgroup 8x8"]
      .map((way) => `nt small: ${way}`),
    `nn small: ${SMALL}`,
  ]);
  assert.ok(Object.values(record.buffer).every((way) => way === "subgroup 8x8"));
  assert.equal(record.fuses, false);
  assert.equal(record.splits, true);
  assert.equal(record.keeps, true);
});

Deno.test("ways that the driver refuses, or whose products are wrong, are not taken", async () => {
  const { record, rates } = await choose({ ...RATES, "subgroup 32x4": undefined }, Infinity, [
    "subgroup 8x8",
    "storage 8x8",
  ]);
  // As in the usual choice, a flag that is not set is none.
  assert.ok(!("splits" in record) && !("keeps" in record));
  assert.equal(record.buffer["nt wide"], WIDE);
  assert.equal(record.buffer["nt small"], WIDE);
  assert.ok(!rates.some(({ way }) => way === "subgroup 32x4"));
});

Deno.test("what is measured as usual is written as usual", async () => {
  const { record } = await chooseTiles("software", ["texture"], {
    measureWay: (_, way) => Promise.resolve({ rate: way === "texture" ? 2 : 1, isRight: true }),
  });
  assert.equal(JSON.stringify(record.textured), JSON.stringify(usualTuning("software").textured));
});

Deno.test("after its time no other way is begun, and the fastest so far is taken for what is left", async () => {
  const { asked, record, skipped } = await choose(RATES, 7);
  assert.equal(asked.length, 7);
  assert.equal(record.buffer["nt wide"], "subgroup 8x8");
  // Of `nn wide` there was time for the usual way alone; of `tn wide` for none.
  assert.equal(record.buffer["nn wide"], WIDE);
  assert.equal(record.buffer["tn wide"], WIDE);
  assert.equal(record.buffer["nt small"], SMALL);
  assert.equal(record.buffer["nt narrow"], NARROW);
  assert.ok(skipped > 0);
  assert.equal(record.fuses, usualTuning("gpu").fuses);
});

Deno.test("a file with an adapter's tuning is refused on another, and by another version", () =>
  inFolder(async (folder) => {
    const gpu = { ...adapter("a"), subgroups: { minSize: 8, areEnabledInSource: false } };
    const rates = [{ shape: "nt wide", way: "storage 8x8", rate: 1e9 }] as const;
    const tuning = await rememberTuning(gpu, folder, usualTuning("gpu"), [...rates]);
    const path = join(folder, "shipped.json");
    await writeTuning(path, tuning);
    assert.deepEqual(await readTuning(path), tuning);
    checkIsFor(gpu, path, tuning);
    const refused = (device: Gpu, other = tuning) =>
      refusal((async () => await checkIsFor(device, path, other))());
    assert.match(await refused(adapter("a")), /shipped\.json: size of subgroups: expected nothing, found 8/);
    assert.match(
      await refused({ ...gpu, name: "a, by Dawn" }),
      /shipped\.json: adapter: expected "a, by Dawn", found "a"\n`simper tune` measures this adapter$/,
    );
    assert.match(await refused(gpu, { ...tuning, version: "0.0.1" }), /version of simper: .*found "0\.0\.1"/);
    const changed = [{ way: "storage 9x9" }, { shape: "nt tall" }, { rate: 0 }, { rate: -1 }]
      .map((rate) => JSON.stringify({ ...tuning, rates: [{ ...rates[0], ...rate }] }));
    for (const text of ["", "{", "[]", "null", JSON.stringify({ ...tuning, tiles: {} }), ...changed]) {
      await writeFile(path, text);
      assert.match(
        await refusal(readTuning(path)),
        /shipped\.json: expected a file as .* writes it, found/,
        text,
      );
    }
    assert.match(await refusal(readTuning(join(folder, "none.json"))), /none\.json: cannot be read/);
  }));
