/** Which way of computing products is fastest on a device: measured. */
import type { OnProgress } from "../progress.ts";
import { uniform } from "../random.ts";
import type { Gpu } from "./device.ts";
import { gluEpilogue } from "./epilogues.ts";
import { MemoryPlan } from "./memory_plan.ts";
import { Products } from "./products.ts";
import { type Pipelines, Program, readTensor, RowCounts, slotOf, writeTensor } from "./program.ts";
import {
  bufferTile,
  type BufferTileName,
  type DeviceClass,
  deviceClass,
  onlyTile,
  type ProductTiles,
  SHAPE_CLASSES,
  type ShapeClass,
  TEXTURE_TILE,
  tilesOf,
  type TuningRecord,
  usualTuning,
} from "./tuning.ts";

/**
 * What may be fastest. On a processor workgroup tiles are left out: they take seconds each to compile, and on Mesa
 * 22.3, 25.0 and 26.1 storage tiles or textures were faster.
 */
const CANDIDATES: Record<DeviceClass, BufferTileName[]> = {
  software: ["storage 16x16", "storage 16x8", "storage 8x8"],
  gpu: [
    "workgroup 8x8 of 16x16",
    "workgroup 8x8 of 8x8",
    "workgroup 4x4 of 16x16",
    "workgroup 4x4 of 8x8",
    "storage 8x8",
  ],
};
/** What else, where the device has subgroups. */
const WITH_SUBGROUPS: Record<DeviceClass, BufferTileName[]> = {
  software: ["subgroup 32x8", "subgroup 16x16", "subgroup 16x8"],
  gpu: ["subgroup 8x8", "subgroup 16x8", "subgroup 32x4"],
};
/**
 * The measured products: enough for a GPU to be busy but where it is not to be, and for a processor to be done soon.
 */
const SIZES = {
  software: { wide: [512, 512, 512], small: [512, 512, 512], narrow: [512, 64, 512] },
  gpu: { wide: [2048, 2048, 2048], small: [512, 1024, 2048], narrow: [2048, 64, 2048] },
};
/** A processor is as busy with few tiles as with many. */
const isMeasured = (shape: ShapeClass, device: DeviceClass) => device === "gpu" || !shape.endsWith("small");
/** Another than the usual tile must be this much faster: times vary. */
const CLEARLY = 1.05;
/** Of a sample, at least: its end is waited for, some 11 ms where Deno does it. */
const SECONDS = 0.05;
/** A way that a first sample shows to be slower than this part of the best is not measured further. */
const HOPELESS = 0.7;

/**
 * Multiply-adds a second of every way of every shape class, and of `nt wide` with a gated unit in its stores and
 * after it; and what comes of them.
 */
export interface Measured {
  record: TuningRecord;
  rates: { shape: ShapeClass; way: BufferTileName | "texture" | "fused" | "separate"; rate: number }[];
}

/**
 * Measures the ways of computing products on `gpu`, and takes for each shape class the fastest whose products are
 * right. Takes some seconds on a driver on the processor, and on an NVIDIA H200 took a minute.
 */
export async function measureTuning(
  gpu: Gpu,
  pipelines: Pipelines,
  onProgress?: OnProgress,
): Promise<Measured> {
  const device = deviceClass(gpu);
  const candidates = [...CANDIDATES[device], ...gpu.subgroups ? WITH_SUBGROUPS[device] : []];
  const record = usualTuning(device);
  const rates: Measured["rates"] = [];
  const values = operandValues(device);
  record.textured = [];
  const shapes = SHAPE_CLASSES.filter((shape) => isMeasured(shape, device));
  const waysOf = (usual: BufferTileName): (BufferTileName | "texture")[] => [
    usual,
    ...candidates.filter((name) => name !== usual),
    ...device === "software" ? ["texture" as const] : [],
  ];
  const total = shapes.reduce((sum, shape) => sum + waysOf(record.buffer[shape]).length, 0);
  let done = 0;
  for (const shape of shapes) {
    const usual = record.buffer[shape];
    const ways = waysOf(usual);
    let best: { way: BufferTileName | "texture"; rate: number } = { way: usual, rate: 0 };
    let expected: Float32Array | undefined;
    for (const way of ways) {
      onProgress?.({ what: "measuring matrix products", done: done++, total });
      const tile = way === "texture" ? { ...TEXTURE_TILE, worth: 0 } : bufferTile(way, gpu);
      const measured = await measure(gpu, pipelines, shape, onlyTile(tile), { values, best: best.rate })
        .catch((error) => {
          // Without the usual way nothing works; of the others, some drivers may not compile one.
          if (way === usual) throw error;
        });
      if (!measured) continue;
      const { rate, result } = measured;
      expected ??= result;
      rates.push({ shape, way, rate });
      if (isClose(result, expected) && rate > best.rate * CLEARLY) best = { way, rate };
    }
    if (best.way === "texture") record.textured.push(shape);
    else record.buffer[shape] = best.way;
  }
  for (const shape of SHAPE_CLASSES.filter((shape) => !isMeasured(shape, device))) {
    const wide = shape.replace("small", "wide") as ShapeClass;
    record.buffer[shape] = record.buffer[wide];
    if (record.textured.includes(wide)) record.textured.push(shape);
  }
  if (device === "gpu") {
    const shape = "nt wide";
    const tiles = tilesOf(record, gpu);
    const fused = await measure(gpu, pipelines, shape, { ...tiles, fuses: true }, {
      values,
      epilogue: "glu",
    });
    const separate = await measure(gpu, pipelines, shape, { ...tiles, fuses: false }, {
      values,
      epilogue: "glu",
    });
    rates.push({ shape, way: "fused", rate: fused.rate }, { shape, way: "separate", rate: separate.rate });
    record.fuses = isClose(fused.result, separate.result) && fused.rate * CLEARLY >= separate.rate;
  }
  onProgress?.({ what: "measuring matrix products", done: total, total });
  return { record, rates };
}

/** Numbers between -0.5 and 0.5 for both operands of the largest product. */
function operandValues(device: DeviceClass): Float32Array<ArrayBuffer> {
  const next = uniform(1);
  const length = Math.max(...Object.values(SIZES[device]).map(([m, n, k]) => m * k + n * k));
  return Float32Array.from({ length }, () => next() - 0.5);
}

/**
 * Multiply-adds a second of one way, where `best` is what another reached, and the product, or what a gated unit
 * makes of it.
 */
async function measure(
  gpu: Gpu,
  pipelines: Pipelines,
  shape: ShapeClass,
  tiles: ProductTiles,
  { values, best = 0, epilogue }: { values: Float32Array<ArrayBuffer>; best?: number; epilogue?: "glu" },
) {
  const [layout, size] = shape.split(" ") as ["nt" | "nn" | "tn", "wide" | "small" | "narrow"];
  const [m, n, k] = SIZES[deviceClass(gpu)][size];
  const plan = new MemoryPlan();
  const counts = new RowCounts(1);
  const rows = plan.tensor("row counts", "batch", [counts.bytes / 4]);
  // UNIFORM, COPY_DST
  Object.assign(rows.slab, { usage: 0x40 | 0x08 });
  counts.set(0, { count: layout === "tn" ? k : m });
  const products = new Products(plan, tiles);
  const operands = {
    a: plan.tensor("a", "scratch", layout === "tn" ? [k, m] : [m, k]),
    b: plan.tensor("b", "scratch", layout === "nt" ? [n, k] : [k, n]),
    c: plan.tensor("c", "scratch", [m, n]),
  };
  const slot = { slot: 0, tensor: slotOf(rows, 0) };
  const activated = epilogue && plan.tensor("activated", "scratch", [m, n / 2]);
  const calls = products.calls(layout, slot, operands, {
    epilogue: activated && gluEpilogue(slot, "silu", operands.c, activated),
  });
  await plan.allocate(gpu);
  try {
    products.upload(gpu);
    counts.upload(gpu, rows);
    writeTensor(gpu, operands.a, values.subarray(0, m * k));
    // Each its own: a matrix times itself has large sums on its diagonal, and large roundings.
    writeTensor(gpu, operands.b, values.subarray(m * k, m * k + n * k));
    const program = await Program.compile(pipelines, calls);
    const seconds = async (runs: number) => {
      const encoder = gpu.device.createCommandEncoder();
      for (let run = 0; run < runs; run++) program.encode(encoder, counts.counts);
      const start = performance.now();
      gpu.device.queue.submit([encoder.finish()]);
      await gpu.device.queue.onSubmittedWorkDone();
      return (performance.now() - start) / 1000;
    };
    await seconds(1);
    let runs = 4;
    let sample = await seconds(runs);
    while (sample < SECONDS) {
      runs = Math.ceil(runs * Math.min(16, 1.3 * SECONDS / sample));
      sample = await seconds(runs);
    }
    const least = async (runs: number) => Math.min(await seconds(runs), await seconds(runs));
    const isHopeless = m * n * k * runs / sample < HOPELESS * best;
    const [twice, once] = isHopeless ? [2 * sample, sample] : [await least(2 * runs), await least(runs)];
    // Twice as many runs end with the same wait, and the difference is without it; where other work of the machine
    // came between, it says nothing.
    const time = twice > 1.3 * once ? (twice - once) / runs : twice / (2 * runs);
    gpu.check();
    const result = new Float32Array(await readTensor(gpu, activated ?? operands.c));
    return { rate: m * n * k / time, result };
  } finally {
    plan.destroy();
  }
}

/**
 * Sums of products of numbers below a half come to some units, and their roundings to 1e-5; a gated unit multiplies
 * two of them.
 */
const isClose = (found: Float32Array, expected: Float32Array): boolean =>
  found.every((value, i) => Math.abs(value - expected[i]) <= 1e-4 * Math.max(1, Math.abs(expected[i])));
