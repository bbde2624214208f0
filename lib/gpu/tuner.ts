/** Which way of computing products is fastest on a device: measured. */
import type { MatrixPrecision } from "../../kernels/gemm.ts";
import type { OnProgress } from "../progress/progress.ts";
import { uniform } from "../random.ts";
import type { Gpu } from "./device.ts";
import { gluEpilogue } from "./epilogues.ts";
import { type AttentionRates, measureKept } from "./attention_tuner.ts";
import { idleSeconds, isClose, sampleOf, secondsOfRun } from "./measuring.ts";
import { MemoryPlan } from "./memory_plan.ts";
import { Products } from "./products.ts";
import { type Pipelines, Program, readTensor, RowCounts, slotOf, writeTensor } from "./program.ts";
import {
  ATTENTION,
  bufferTile,
  type BufferTileName,
  type DeviceClass,
  deviceClass,
  FLOAT32_MATRIX,
  inOneForm,
  LAYOUTS,
  MATRIX,
  onlyTile,
  type ProductTiles,
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
/**
 * A product of few tiles, but deep: as those that a GPU splits along their inner dimension, if that is faster. A
 * processor is as busy with few tiles.
 */
const DEEP = [512, 512, 8192];
/** What a large model spends most in comes first. A processor is as busy with few tiles as with many. */
const MEASURED: Record<DeviceClass, ("wide" | "small" | "narrow")[]> = {
  software: ["wide", "narrow"],
  gpu: ["wide", "small", "narrow"],
};
/** Beside the usual way, those of one layout that are measured for the others too: their order is much the same. */
const FINALISTS = 2;
/** What products of float16 matrices may be off by: 2^-21 and 2^-10 of the sum of their terms' magnitudes. */
const MATRIX_TOLERANCE = { high: 1e-4, medium: 2e-2 };
/** What sums of four times as many terms as those of other products may be off by. */
const DEEP_TOLERANCE = 2e-4;
/** Another than the usual tile must be this much faster: times vary. */
const CLEARLY = 1.05;
/** Of a first look at a way, were it as fast as the best. */
const GLANCE = 0.01;
/** A way that a first look shows to be slower than this part of the best is not measured further. */
const HOPELESS = 0.7;
/** Seconds after which a run takes what was the fastest so far. */
export const MOST_SECONDS = 20;

export type Way = BufferTileName | "texture";

/**
 * Multiply-adds a second of the ways of every shape class, of `nt wide` with a gated unit in its stores and after it,
 * of a deep `nn small` in parts and whole, and of attention's backward pass with what one kernel keeps for the other
 * and without; and what comes of them.
 */
export interface Measured {
  record: TuningRecord;
  rates: {
    shape: ShapeClass | typeof ATTENTION;
    way: Way | "fused" | "separate" | "split" | "whole" | "kept" | "again";
    rate: number;
  }[];
  /** Ways that there was no time for. */
  skipped: number;
}

export interface MeasureOptions {
  onProgress?: OnProgress;
  /** After which no other way is begun. */
  seconds?: number;
  /** Of float16 matrices, which are no way without one. */
  precision?: MatrixPrecision;
}

/**
 * Measures the ways of computing products on `gpu`, and takes for each shape class the fastest whose products are
 * right. Most of the time goes into compiling them.
 */
export async function measureTuning(
  gpu: Gpu,
  pipelines: Pipelines,
  options: MeasureOptions = {},
): Promise<Measured> {
  const device = deviceClass(gpu);
  const { precision } = options;
  const candidates: Way[] = [
    ...precision ? [MATRIX] as const : [],
    ...gpu.float32Matrices ? [FLOAT32_MATRIX] as const : [],
    ...CANDIDATES[device],
    ...gpu.subgroups ? WITH_SUBGROUPS[device] : [],
    ...device === "software" ? ["texture" as const] : [],
  ];
  const values = operandValues(device);
  const idle = await idleSeconds(gpu);
  const usual = usualTuning(device);
  const expected = new Map<ShapeClass, Float32Array>();
  const measureWay: MeasureWay = async (shape, way, best) => {
    const tile = way === "texture" ? { ...TEXTURE_TILE, worth: 0 } : bufferTile(way, gpu, precision);
    const measured = await measure(gpu, pipelines, shape, onlyTile(tile), { values, best, idle })
      .catch((error) => {
        // Without the usual way nothing works; of the others, some drivers may not compile one.
        if (way === usual.buffer[shape]) throw error;
      });
    if (!measured) return undefined;
    const { rate, result } = measured;
    if (result && !expected.has(shape)) expected.set(shape, result);
    const tolerance = precision && way === MATRIX ? MATRIX_TOLERANCE[precision] : undefined;
    return { rate, isRight: result !== undefined && isClose(result, expected.get(shape)!, tolerance) };
  };
  const measureFused = async (record: TuningRecord) => {
    const [fused, separate] = [true, false].map((fuses) => ({ ...tilesOf(record, gpu), fuses }));
    const how = { values, idle, epilogue: "glu" } as const;
    const one = await measure(gpu, pipelines, "nt wide", fused, how);
    const other = await measure(gpu, pipelines, "nt wide", separate, how);
    return { fused: one.rate, separate: other.rate, isRight: isClose(one.result!, other.result!) };
  };
  const measureSplit = async (record: TuningRecord) => {
    const [split, whole] = [true, false].map((splits) => tilesOf({ ...record, splits }, gpu));
    const how = { values, idle, size: DEEP };
    const one = await measure(gpu, pipelines, "nn small", split, how);
    const other = await measure(gpu, pipelines, "nn small", whole, how);
    return {
      split: one.rate,
      whole: other.rate,
      isRight: isClose(one.result!, other.result!, DEEP_TOLERANCE),
    };
  };
  return await chooseTiles(device, candidates, {
    measureWay,
    ...(device === "gpu" && {
      measureFused,
      measureSplit,
      // By matrices nothing is kept.
      measureKept: async (record) =>
        record.buffer["nt wide"] === MATRIX ? undefined : await measureKept(gpu, pipelines),
    }),
  }, options);
}

/**
 * Measures one way of a shape class, where `best` is what another reached: its rate and whether its products are the
 * usual way's, which is measured first. Undefined where the driver does not take it.
 */
export type MeasureWay = (
  shape: ShapeClass,
  way: Way,
  best: number,
) => Promise<{ rate: number; isRight: boolean } | undefined>;

/**
 * Takes the fastest of `candidates` for each shape class, by what `measureWay` finds of the usual one and of others.
 * Shape classes that there is no time for are computed as those of the same size in another layout.
 */
export async function chooseTiles(
  device: DeviceClass,
  candidates: readonly Way[],
  { measureWay, measureFused, measureSplit, measureKept }: {
    measureWay: MeasureWay;
    measureFused?: (record: TuningRecord) => Promise<{ fused: number; separate: number; isRight: boolean }>;
    measureSplit?: (record: TuningRecord) => Promise<{ split: number; whole: number; isRight: boolean }>;
    measureKept?: (record: TuningRecord) => Promise<AttentionRates | undefined>;
  },
  { onProgress, seconds = Infinity, precision, now = () => performance.now() }:
    & MeasureOptions
    & { now?: () => number } = {},
): Promise<Measured> {
  const record: TuningRecord = { ...usualTuning(device), textured: [], ...(precision && { precision }) };
  const rates: Measured["rates"] = [];
  const take = (shape: ShapeClass, way: Way) => {
    if (way === "texture") record.textured.push(shape);
    else record.buffer[shape] = way;
  };
  const end = now() + 1000 * seconds;
  let skipped = 0;
  let done = 0;
  const ofOthers = Math.min(candidates.length, 1 + FINALISTS);
  const total = MEASURED[device].length * (candidates.length + (LAYOUTS.length - 1) * ofOthers);
  for (const size of MEASURED[device]) {
    let ways: Way[] | undefined;
    let taken: Way | undefined;
    for (const layout of LAYOUTS) {
      const shape: ShapeClass = `${layout} ${size}`;
      const usual = record.buffer[shape];
      ways ??= [usual, ...candidates.filter((way) => way !== usual)];
      const right: { way: Way; rate: number }[] = [];
      let best: { way: Way; rate: number } | undefined;
      for (const way of ways) {
        onProgress?.({ what: "measuring matrix products", done: done++, total });
        if (now() >= end) {
          skipped++;
          continue;
        }
        const found = await measureWay(shape, way, best?.rate ?? 0);
        if (!found) continue;
        rates.push({ shape, way, rate: found.rate });
        if (!found.isRight) continue;
        right.push({ way, rate: found.rate });
        if (!best || found.rate > best.rate * CLEARLY) best = { way, rate: found.rate };
      }
      taken = best?.way ?? taken ?? usual;
      take(shape, taken);
      if (device === "software" && size === "wide") take(`${layout} small`, taken);
      if (layout !== LAYOUTS[0]) continue;
      const others = right.filter(({ way }) => way !== usual).sort((one, other) => other.rate - one.rate);
      ways = [usual, ...others.slice(0, FINALISTS).map(({ way }) => way)];
    }
  }
  if (measureFused && now() < end) {
    const { fused, separate, isRight } = await measureFused(record);
    rates.push({ shape: "nt wide", way: "fused", rate: fused }, {
      shape: "nt wide",
      way: "separate",
      rate: separate,
    });
    record.fuses = isRight && fused * CLEARLY >= separate;
  }
  if (measureSplit && now() < end) {
    const { split, whole, isRight } = await measureSplit(record);
    rates.push({ shape: "nn small", way: "split", rate: split }, {
      shape: "nn small",
      way: "whole",
      rate: whole,
    });
    record.splits = isRight && split > whole * CLEARLY;
  }
  const attention = measureKept && now() < end ? await measureKept(record) : undefined;
  if (attention) {
    const { kept, again, isRight } = attention;
    rates.push({ shape: ATTENTION, way: "kept", rate: kept }, {
      shape: ATTENTION,
      way: "again",
      rate: again,
    });
    record.keeps = isRight && kept > again * CLEARLY;
  }
  onProgress?.({ what: "measuring matrix products", done: total, total });
  return { record: inOneForm(record), rates, skipped };
}

/** Numbers between -0.5 and 0.5 for both operands of the largest product. */
function operandValues(device: DeviceClass): Float32Array<ArrayBuffer> {
  const next = uniform(1);
  const sizes = [...Object.values(SIZES[device]), ...device === "gpu" ? [DEEP] : []];
  const length = Math.max(...sizes.map(([m, n, k]) => m * k + n * k));
  return Float32Array.from({ length }, () => next() - 0.5);
}

/**
 * Multiply-adds a second of one way, where `best` is what another reached, and the product, or what a gated unit
 * makes of it; without them where the way is hopeless.
 *
 * @param idle as of `idleSeconds`.
 */
async function measure(
  gpu: Gpu,
  pipelines: Pipelines,
  shape: ShapeClass,
  tiles: ProductTiles,
  { values, idle, best = 0, epilogue, size: given }: {
    values: Float32Array<ArrayBuffer>;
    idle: number;
    best?: number;
    epilogue?: "glu";
    size?: readonly number[];
  },
): Promise<{ rate: number; result?: Float32Array }> {
  const [layout, size] = shape.split(" ") as ["nt" | "nn" | "tn", "wide" | "small" | "narrow"];
  const [m, n, k] = given ?? SIZES[deviceClass(gpu)][size];
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
    const seconds = sampleOf(gpu, program, counts.counts);
    await seconds(1);
    const runs = Math.max(1, Math.ceil(GLANCE * best / (m * n * k)));
    const glimpsed = (sample: number) => m * n * k * runs / Math.max(sample - idle, sample / 100);
    let sample = await seconds(runs);
    // Other work of the machine may have come between.
    if (glimpsed(sample) < HOPELESS * best) sample = Math.min(sample, await seconds(runs));
    gpu.check();
    if (glimpsed(sample) < HOPELESS * best) return { rate: glimpsed(sample) };
    const time = await secondsOfRun(seconds, { runs, sample });
    gpu.check();
    const result = new Float32Array(await readTensor(gpu, activated ?? operands.c));
    return { rate: m * n * k / time, result };
  } finally {
    plan.destroy();
  }
}
