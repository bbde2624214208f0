import { openAdapter } from "../adapters/open.ts";
import { totalmem } from "node:os";
import { readConfig } from "../config/parse.ts";
import type { TrainConfig } from "../config/schema.ts";
import { bytes, integer, number, type ValueType } from "../config/values.ts";
import { FORCED, forcesMistralTemplate } from "../data/mistral_template.ts";
import type { Pair } from "../data/pair.ts";
import { UserError } from "../errors.ts";
import { longestPair, worstCase } from "../planning/estimate.ts";
import { openGpu } from "../gpu/device.ts";
import { precisionOn } from "../planning/precision.ts";
import { rememberedTiles } from "../planning/tune.ts";
import { type FetchEvents, resolveAdapter, resolveModel, resolveSources } from "../hub/hub.ts";
import { readModelConfig } from "../weights/config_file.ts";
import { readModel } from "../weights/weights.ts";
import { type Adapter, adapterOf } from "../planning/plan.ts";
import { bytesBesidePlan } from "../planning/process_memory.ts";
import { withBatchesOf, type WorkloadOf } from "../planning/advice.ts";
import { prepare } from "../planning/prepare.ts";
import { largestPlan, planRanks, type Rates } from "../planning/ranks.ts";
import { idleZeroStage, passesOfRank } from "../run/ranks.ts";
import { reportSplit } from "../report/data_report.ts";
import { createLogger, isShown, printable } from "../report/log.ts";
import { planReport } from "../report/plan_report.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";
import type { Stop } from "./stop.ts";
import { readValues, splitRunWords, type Words } from "./words.ts";

/** The largest binding that NVIDIA's GPUs have through wgpu: what is taken where no adapter is asked. */
const USUAL_LARGEST_BUFFER = 2 ** 31 - 1;
/** Their order is drawn, epoch by epoch. */
const MOST_PAIRS = 100_000_000;
/** Pairs whose operations are counted. */
const SAMPLED_PAIRS = 1000;
const MOST_RANKS = 4096;
const RATES =
  "--link and --tflops say together, and with --ranks=N above 1, how long a step is: expected all or none";

/** `simper plan` */
export const plan: Command = {
  usage:
    "[CONFIG] [--data] [--num_pairs=N] [--largest_buffer=BYTES] [--ranks=N --link=RATE --tflops=N] [--key=value ...]",
  takesRunFile: true,
  options: [
    { name: "data", doc: "Read the data, so that the plan is the run's own." },
    { name: "num_pairs", value: "N", doc: "How many pairs there will be, for the count of steps." },
    { name: "largest_buffer", value: "BYTES", doc: "What one buffer of the device may hold, such as 2GB." },
    {
      name: "ranks",
      value: "N",
      doc: "Plan for a rank of so many that mpirun starts, with what they exchange.",
    },
    {
      name: "link",
      value: "RATE",
      doc:
        "What a rank's host sends and is sent in a second, such as 100Gb/s or 10GB/s: for the time of a step.",
    },
    {
      name: "tflops",
      value: "N",
      doc: "Teraflops that a GPU reaches in a step, as deno task bench:step measures: likewise.",
    },
  ],
  run,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const split = splitRunWords(words, plan);
  const options = readOptions(split);
  const { config, ignored } = await readConfig(split.file, split.overrides, split.names);
  const progress = progressLine(config);
  const log = createLogger(config.logLevel, (text) => progress.write(text));
  for (const line of ignored) log.info(line);
  if (forcesMistralTemplate(config)) log.info(FORCED);
  if (!isShown("warning", config.logLevel)) stop.answer({});

  // Before anything is fetched.
  const ranks = options.ranks ?? config.pipelineParallelSize;
  if (options.rates && ranks === 1) throw new UserError(RATES, 2);
  const passes = passesOfRank(config, { size: ranks });
  const idle = idleZeroStage(config, { size: ranks }, "--ranks=N plans for several");
  if (idle) log.warning(idle);
  const device = await deviceOf(config, options.largestBuffer);
  const { folder, workloadOf, sample } = await readWorkload(config, options, {
    log: (level, message) => log[level](message),
    onProgress: (done) => progress.update(done),
    signal: stop.signal,
  }).finally(() => progress.finish());
  const plans = planRanks(workloadOf(config), config, device.adapter, ranks);
  const largest = largestPlan(plans);
  const { decoder, runner } = largest.planned;
  const { text, fits } = planReport({
    config,
    workloadOf,
    sample,
    plan: largest,
    ...ranks > 1 && { ranks: { plans, passes, rates: options.rates } },
    measured: options.data,
    countKnown: options.data || options.numPairs !== undefined,
    beside: await bytesBesidePlan(
      folder,
      decoder.plan.bytesOf("weights"),
      decoder.parameters.hostBytes + runner.hostBytes(passes),
    ),
    ...device,
  });
  print(printable(text));
  return fits ? 0 : 1;
}

interface Options {
  data: boolean;
  numPairs?: number;
  largestBuffer?: number;
  ranks?: number;
  /** Where both are told. */
  rates?: Rates;
}

/** Bits or bytes a second. */
const rate: ValueType<number> = {
  expected: "bits or bytes a second, such as 100Gb/s or 12.5GB/s",
  typescript: "string",
  read: (value) => {
    const [, number, prefix, unit] = /^([\d.]+) ?([kMGT]?)(b|B)\/s$/.exec(String(value)) ?? [];
    const found = Number(number) * 1000 ** " kMGT".indexOf(prefix || " ") / (unit === "b" ? 8 : 1);
    return found > 0 && Number.isFinite(found) ? found : undefined;
  },
};

function readOptions({ options }: Words): Options {
  const { num_pairs: numPairs, largest_buffer: largestBuffer, ranks, link, tflops } = readValues(
    options,
    {
      num_pairs: integer({ min: 1, max: MOST_PAIRS }),
      largest_buffer: bytes,
      ranks: integer({ min: 1, max: MOST_RANKS }),
      link: rate,
      tflops: number({ min: 1e-6, max: 1e6 }),
    },
  );
  if ((link === undefined) !== (tflops === undefined)) throw new UserError(RATES, 2);
  const rates = link === undefined ? undefined : { link, flops: 1e12 * tflops! };
  return { data: options.has("data"), numPairs, largestBuffer, ranks, rates };
}

/** How the run would be with any configuration, and pairs for the count of operations. */
async function readWorkload(
  config: TrainConfig,
  { data, numPairs }: Options,
  events: FetchEvents & Required<Pick<FetchEvents, "log">>,
): Promise<{ folder: string; workloadOf: WorkloadOf; sample: readonly Pair[] }> {
  const { modelNameOrPath, modelRevision, refModel, fromScratch } = config;
  const read = fromScratch ? readModelConfig : readModel;
  const warn = (message: string) => events.log("warning", message);
  if (data) {
    const sources = await resolveSources(config, events);
    const adapter = sources.adapter === undefined ? undefined : await openAdapter(sources.adapter);
    await adapter?.close();
    const prepared = await prepare(config, {
      ...events,
      sources,
      adapter,
      model: await read(sources.model, warn),
      readsOnly: true,
    });
    reportSplit("train", prepared.train.statistics, events.log);
    if (prepared.test) reportSplit("test", prepared.test.statistics, events.log);
    const every = Math.ceil(prepared.train.length / SAMPLED_PAIRS);
    const length = Math.ceil(prepared.train.length / every);
    const sample = await prepared.train.read(Array.from({ length }, (_, i) => i * every));
    await prepared.close();
    return { folder: sources.model, workloadOf: withBatchesOf(prepared, config), sample };
  }
  const folder = await resolveModel(modelNameOrPath, { ...events, revision: modelRevision, weights: false });
  const model = await read(folder, warn);
  const { adapterNameOrPath } = config;
  const adapter = adapterNameOrPath === undefined
    ? undefined
    : await openAdapter(await resolveAdapter(adapterNameOrPath, events));
  await adapter?.close();
  const other = refModel === undefined
    ? undefined
    : await readModel(await resolveModel(refModel, { ...events, weights: false }), warn);
  const workloadOf = (changed: TrainConfig) => worstCase(model, changed, numPairs, other, adapter);
  return { folder, workloadOf, sample: [longestPair(config)] };
}

/** The room that there is: as the user says, or as this machine's adapter has it. */
async function deviceOf(
  config: TrainConfig,
  largestBuffer?: number,
): Promise<{ adapter: Adapter; memory?: number; device: string; isSoftware?: boolean }> {
  if (config.deviceMemory !== undefined || largestBuffer !== undefined) {
    const device = config.deviceMemory === undefined ? "the device" : "device_memory";
    const adapter = { largestBuffer: largestBuffer ?? USUAL_LARGEST_BUFFER };
    return { adapter, memory: config.deviceMemory, device };
  }
  const gpu = await openGpu(config).catch((error) => {
    if (error instanceof UserError && error.status === 1) return undefined;
    throw error;
  });
  if (!gpu) {
    return { adapter: { largestBuffer: USUAL_LARGEST_BUFFER }, device: "this machine, without an adapter," };
  }
  try {
    return {
      adapter: adapterOf(gpu, await rememberedTiles(gpu, precisionOn(gpu, config))),
      memory: gpu.isSoftware ? totalmem() : undefined,
      device: gpu.name,
      isSoftware: gpu.isSoftware,
    };
  } finally {
    gpu.destroy();
  }
}
