import { dirname } from "node:path";
import type { MatrixPrecision } from "../../kernels/gemm.ts";
import { cacheFolder } from "../files/cache_folder.ts";
import { realPath } from "../checkpoint/output.ts";
import { KEYS, type TrainConfig } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import { type Shown, tablesText } from "../evaluation/report.ts";
import { describeAdapter, type Gpu, openGpu } from "../gpu/device.ts";
import { Pipelines } from "../gpu/program.ts";
import { measureTuning } from "../gpu/tuner.ts";
import { ATTENTION, SHAPE_CLASSES, type ShapeClass, type TuningRecord } from "../gpu/tuning.ts";
import {
  type AdapterTuning,
  checkIsFor,
  readTuning,
  rememberedFile,
  rememberedTuning,
  rememberTuning,
  writeTuning,
} from "../planning/remembered_tuning.ts";
import { precisionOn } from "../planning/precision.ts";
import { createLogger } from "../report/log.ts";
import { statOf } from "../files/stat_of.ts";
import { VERSION } from "../program/version.ts";
import { checkFolder } from "../files/whole_file.ts";
import { GPU_OPTIONS, readGpuWords } from "./answering.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";
import type { Stop } from "./stop.ts";
import { readValues, splitOwnWords } from "./words.ts";

/** `simper tune` */
export const tune: Command = {
  usage: "[FILE | --show] [--output=FILE]",
  about:
    "Measures the ways of computing matrix products and, on a GPU, attention's backward pass, prints what each " +
    "reaches, and remembers the fastest (*) for all runs on this adapter; lib/README.md says what the words of the " +
    "table mean. A run of some minutes does the same before its first step, and begins with " +
    "no other way after 20 seconds. FILE, as --output writes it, is remembered in place of measuring, on an " +
    "adapter, driver, engine and version of this program like those that it was made with.",
  options: [
    { name: "show", doc: "Measure nothing, and print what is remembered." },
    { name: "output", value: "FILE", doc: "Also write it there, for other machines with such an adapter." },
    {
      name: "float32_matmul_precision",
      value: "PRECISION",
      doc: "Of runs with this key, which may compute with float16 matrices: high, medium or auto.",
    },
    ...GPU_OPTIONS,
  ],
  run,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const split = splitOwnWords(words, tune);
  const { positionals, options } = split;
  const choice = readGpuWords(split);
  const { float32_matmul_precision: asked = "highest" } = readValues<
    { float32_matmul_precision: TrainConfig["float32MatmulPrecision"] }
  >(options, { float32_matmul_precision: KEYS.float32MatmulPrecision.type });
  const [file, ...more] = positionals;
  if (more.length > 0 || (file !== undefined && options.has("show"))) {
    throw new UserError(`expected: simper tune ${tune.usage}`, 2);
  }
  const given = file === undefined ? undefined : await readTuning(file);
  const folder = cacheFolder();
  const output = options.get("output");
  // Before anything is measured.
  if (output !== undefined) await checkOutput(output, folder);
  if (!options.has("show")) await checkFolder(folder);
  if (output !== undefined) await checkFolder(dirname(output));
  const gpu = await openGpu(choice, true);
  try {
    const precision = precisionOn(gpu, { float32MatmulPrecision: asked });
    if (given) checkIsFor(gpu, file, given);
    const tuning = given
      ? await rememberTuning(gpu, folder, given.tiles, given.rates)
      : options.has("show")
      ? await rememberedTuning(gpu, folder, precision)
      : await measure(gpu, folder, stop, precision);
    if (!tuning) {
      throw new UserError(`nothing is remembered of ${gpu.name}: \`simper tune\` measures it`);
    }
    if (output !== undefined) await writeTuning(output, tuning);
    print(tablesText([tableOf(gpu, tuning)]));
    print(`\n${summaryOf(tuning.tiles)}`);
  } finally {
    gpu.destroy();
  }
  return 0;
}

/** @throws {UserError} (status 2) where a tuning is not to be written. */
async function checkOutput(output: string, cache: string): Promise<void> {
  if (await realPath(output) === await realPath(rememberedFile(cache))) {
    throw new UserError(
      `--output: ${output} is what the cache remembers of all adapters: name another file`,
      2,
    );
  }
  if ((await statOf(output))?.isDirectory()) {
    throw new UserError(`--output: ${output} is a folder, expected a file`, 2);
  }
}

async function measure(
  gpu: Gpu,
  folder: string,
  stop: Stop,
  precision?: MatrixPrecision,
): Promise<AdapterTuning> {
  const progress = progressLine({ logLevel: "info" });
  const log = createLogger("info", (text) => progress.write(text));
  log.info(`measuring matrix products on ${describeAdapter(gpu)}`);
  try {
    const { record, rates } = await measureTuning(gpu, new Pipelines(gpu, stop.signal), {
      onProgress: (done) => progress.update(done),
      precision,
    });
    return await rememberTuning(gpu, folder, record, rates);
  } finally {
    progress.finish();
  }
}

/** What each way reaches in each shape class, as far as it was measured. */
function tableOf(gpu: Gpu, { tiles, rates }: AdapterTuning): Shown {
  const shapes = [...SHAPE_CLASSES, ATTENTION].filter((shape) => rates.some((rate) => rate.shape === shape));
  const ways = [...new Set(rates.map(({ way }) => way))];
  const cell = (way: string, shape: string) => {
    const found = rates.find((rate) => rate.way === way && rate.shape === shape);
    const isTaken = shape !== ATTENTION && way === takenOf(tiles, shape as ShapeClass) ||
      way === (tiles.fuses ? "fused" : "separate") || way === (tiles.splits ? "split" : "whole") ||
      way === (tiles.keeps ? "kept" : "again");
    return found ? `${(2 * found.rate / 1e9).toPrecision(3)}${isTaken ? " *" : ""}` : "";
  };
  const title = `${describeAdapter(gpu)}; simper ${VERSION}`;
  if (rates.length === 0) return { title, head: ["GFLOP/s: not measured here"], rows: [] };
  return {
    title,
    head: ["GFLOP/s", ...shapes],
    rows: ways.map((way) => [way, ...shapes.map((shape) => cell(way, shape))]),
  };
}

const takenOf = ({ buffer, textured }: TuningRecord, shape: ShapeClass): string =>
  textured.includes(shape) ? "texture" : buffer[shape];

/** How products are computed from now on, in a line for each way. */
function summaryOf(tiles: TuningRecord): string {
  const lines = [...Map.groupBy(SHAPE_CLASSES, (shape) => takenOf(tiles, shape))]
    .map(([way, shapes]) => `${way}: ${shapes.join(", ")}`);
  return [
    ...lines,
    `activations and rotations: ${tiles.fuses ? "in" : "after"} the products`,
    ...(tiles.splits ? ["products of few tiles: split along their inner dimension"] : []),
    ...(tiles.keeps ? ["attention's backward pass: scores once, kept for the gradient of keys"] : []),
  ].join("\n");
}
