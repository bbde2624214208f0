import { cacheFolder } from "../files/cache_folder.ts";
import type { MatrixPrecision } from "../../kernels/gemm.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Pipelines } from "../gpu/program.ts";
import { parameterCount } from "../parameters/parameter.ts";
import { measureTuning, MOST_SECONDS } from "../gpu/tuner.ts";
import { rememberedTuning, rememberTuning } from "./remembered_tuning.ts";
import {
  deviceClass,
  type ProductTiles,
  suits,
  tilesOf,
  type TuningRecord,
  usualTuning,
} from "../gpu/tuning.ts";
import { type Adapter, adapterOf, type Workload } from "./plan.ts";
import type { OnProgress } from "../progress/progress.ts";
import { sampleStep } from "../training/sampler.ts";

/**
 * Floating-point operations of a run from which on measuring is well spent: minutes of a run for some seconds on a
 * processor, or for up to `MOST_SECONDS` on a GPU.
 */
const WORTH_MEASURING = { software: 2e13, gpu: 4e15 };

/** How products are computed in a run, and the adapter with it. */
export interface TunedAdapter {
  adapter: Adapter;
  tuning: TuningRecord;
}

/**
 * How products are computed on `gpu`: as `before` says, where a run goes on and the device can, so that it computes
 * the same bits; as was measured on this adapter once; measured now, where the run is long; or as is usual.
 */
export async function tune(
  gpu: Gpu,
  pipelines: Pipelines,
  workload: Workload,
  { onLog: log = () => {}, onProgress, before, precision }: {
    onLog?: (level: "info" | "warning", message: string) => void;
    onProgress?: OnProgress;
    before?: TuningRecord;
    precision?: MatrixPrecision;
  } = {},
): Promise<TunedAdapter> {
  const tuned = (tuning: TuningRecord) => ({ adapter: adapterOf(gpu, tilesOf(tuning, gpu)), tuning });
  if (before && before.precision === precision && suits(before, gpu)) return tuned(before);
  if (before && before.precision !== precision) {
    const [there, here] = [before, { precision }].map(({ precision = "highest" }) => precision);
    log(
      "warning",
      `the checkpoint's products were computed in ${there} precision (float32_matmul_precision), and here they are in ` +
        `${here}: the numbers may differ from an unbroken run's`,
    );
  } else if (before) {
    log(
      "warning",
      `the checkpoint's products were computed with subgroups, which ${gpu.name} does not have: other ` +
        "kernels are taken, and the numbers may differ from an unbroken run's in their last digits",
    );
  }
  const folder = cacheFolder();
  const remembered = await rememberedTuning(gpu, folder, precision);
  if (remembered) return tuned(remembered.tiles);
  const device = deviceClass(gpu);
  if (operationsOf(workload) < WORTH_MEASURING[device]) return tuned(usualTuning(device, precision));
  log("info", `measuring matrix products on ${gpu.name}, once`);
  const { record, rates, skipped } = await measureTuning(gpu, pipelines, {
    onProgress,
    seconds: MOST_SECONDS,
    precision,
  });
  if (skipped > 0) {
    log(
      "info",
      `after ${MOST_SECONDS} seconds ${skipped} ways are left that were not measured: the fastest so far are taken; ` +
        "`simper tune` measures all of them",
    );
  }
  await rememberTuning(gpu, folder, record, rates);
  return tuned(record);
}

/** How products are computed on `gpu` in a run that does not measure, by name. */
export async function rememberedRecord(gpu: Gpu, precision?: MatrixPrecision): Promise<TuningRecord> {
  const remembered = await rememberedTuning(gpu, cacheFolder(), precision);
  return remembered?.tiles ?? usualTuning(deviceClass(gpu), precision);
}

/** The same, as products take it. */
export async function rememberedTiles(gpu: Gpu, precision?: MatrixPrecision): Promise<ProductTiles> {
  return tilesOf(await rememberedRecord(gpu, precision), gpu);
}

/** Six operations a weight and token, forward and backward. */
function operationsOf({ net, train: { sizes }, sampler, totalSteps }: Workload): number {
  const mean = sizes.tokens.reduce((sum, tokens) => sum + tokens, 0) / sampler.pairs;
  const pairs = totalSteps > 0 ? sampleStep(0, sampler).pairs * totalSteps : 0;
  return 6 * parameterCount(net.parameters) * mean * pairs;
}
