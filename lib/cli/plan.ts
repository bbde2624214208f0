/** `deno task plan [CONFIG] [--data] [--num_pairs=N] [--largest_buffer=BYTES] [--key=value ...]` */
import { splitArguments } from "../config/overrides.ts";
import { readConfig } from "../config/parse.ts";
import type { TrainConfig } from "../config/schema.ts";
import { bytes, describe, integer, type ValueType } from "../config/values.ts";
import { FORCED, forcesMistralTemplate } from "../data/mistral_template.ts";
import type { Pair } from "../data/pair.ts";
import { UserError } from "../errors.ts";
import { longestPair, planAnyway, worstCase } from "../planning/estimate.ts";
import { openGpu } from "../gpu/device.ts";
import { rememberedTiles } from "../planning/tune.ts";
import { type FetchEvents, resolveModel, resolveSources } from "../hub/hub.ts";
import { readModelConfig } from "../weights/config_file.ts";
import { readModel } from "../weights/weights.ts";
import { type Adapter, adapterOf, memoryLimit } from "../planning/plan.ts";
import { withBatchesOf, type WorkloadOf } from "../planning/advice.ts";
import { prepare } from "../planning/prepare.ts";
import { reportSplit } from "../report/data_report.ts";
import { createLogger, isShown, printable } from "../report/log.ts";
import { planReport } from "../report/plan_report.ts";
import { main } from "./main.ts";
import { print } from "./output.ts";
import { progressLine } from "./progress.ts";

/** The largest binding that NVIDIA's GPUs have through wgpu: what is taken where no adapter is asked. */
const USUAL_LARGEST_BUFFER = 2 ** 31 - 1;
/** Their order is drawn, epoch by epoch. */
const MOST_PAIRS = 100_000_000;
/** Pairs whose operations are counted. */
const SAMPLED_PAIRS = 1000;

await main(async (stop) => {
  const options = readOptions(Deno.args);
  const { config, ignored } = await readConfig(options.file, options.overrides);
  const progress = progressLine(config);
  const log = createLogger(config.logLevel, (text) => progress.write(text));
  for (const line of ignored) log.info(line);
  if (forcesMistralTemplate(config)) log.info(FORCED);
  if (!isShown("warning", config.logLevel)) stop.answer({});

  const { workloadOf, sample } = await readWorkload(config, options, {
    log: (level, message) => log[level](message),
    onProgress: (done) => progress.update(done),
    signal: stop.signal,
  }).finally(() => progress.finish());
  const device = await deviceOf(config, options.largestBuffer);
  const report = planReport({
    config,
    workloadOf,
    sample,
    plan: planAnyway(workloadOf(config), config, device.adapter),
    measured: options.data,
    countKnown: options.data || options.numPairs !== undefined,
    ...device,
  });
  print(printable(report));
  return 0;
});

interface Options {
  file: string;
  overrides: string[];
  /** Read the data, so that the plan is the run's own. */
  data: boolean;
  numPairs?: number;
  largestBuffer?: number;
}

/** Parts what belongs to this task from the run file and its keys. */
function readOptions(words: readonly string[]): Options {
  const { positionals, overrides } = splitArguments(words.filter((word) => word !== "--data"));
  if (positionals.length > 1) {
    throw new UserError(`expected one run file and --key=value, found ${positionals.join(" and ")}`, 2);
  }
  const options: Options = {
    file: positionals[0] ?? "tiny.yaml",
    overrides: [],
    data: words.includes("--data"),
  };
  for (const override of overrides) {
    if (override.startsWith("--num_pairs")) {
      options.numPairs = read(override, integer({ min: 1, max: MOST_PAIRS }));
    } else if (override.startsWith("--largest_buffer")) options.largestBuffer = read(override, bytes);
    else options.overrides.push(override);
  }
  return options;
}

function read<T>(override: string, type: ValueType<T>): T {
  const [key, text] = override.split("=", 2);
  const value = text === undefined ? undefined : type.read(text);
  if (value === undefined) {
    throw new UserError(`${key}: expected ${type.expected}, found ${describe(text)}`, 2);
  }
  return value;
}

/** How the run would be with any configuration, and pairs for the count of operations. */
async function readWorkload(
  config: TrainConfig,
  { data, numPairs }: Options,
  events: FetchEvents & Required<Pick<FetchEvents, "log">>,
): Promise<{ workloadOf: WorkloadOf; sample: readonly Pair[] }> {
  const { modelNameOrPath, modelRevision, fromScratch } = config;
  const read = fromScratch ? readModelConfig : readModel;
  const warn = (message: string) => events.log("warning", message);
  if (data) {
    const sources = await resolveSources(config, events);
    const prepared = await prepare(config, {
      ...events,
      sources,
      model: await read(sources.model, warn),
      readsOnly: true,
    });
    reportSplit("train", prepared.train.statistics, events.log);
    if (prepared.test) reportSplit("test", prepared.test.statistics, events.log);
    const every = Math.ceil(prepared.train.length / SAMPLED_PAIRS);
    const length = Math.ceil(prepared.train.length / every);
    const sample = await prepared.train.read(Array.from({ length }, (_, i) => i * every));
    await prepared.close();
    return { workloadOf: withBatchesOf(prepared), sample };
  }
  const folder = await resolveModel(modelNameOrPath, { ...events, revision: modelRevision, weights: false });
  const model = await read(folder, warn);
  return { workloadOf: (changed) => worstCase(model, changed, numPairs), sample: [longestPair(config)] };
}

/** The room that there is: as the user says, or as this machine's adapter has it. */
async function deviceOf(
  config: TrainConfig,
  largestBuffer?: number,
): Promise<{ adapter: Adapter; memory?: number; device: string }> {
  if (config.deviceMemory !== undefined || largestBuffer !== undefined) {
    const device = config.deviceMemory === undefined ? "the device" : "device_memory";
    const adapter = { largestBuffer: largestBuffer ?? USUAL_LARGEST_BUFFER };
    return { adapter, memory: config.deviceMemory, device };
  }
  const gpu = await openGpu().catch((error) => {
    if (error instanceof UserError) return undefined;
    throw error;
  });
  if (!gpu) {
    return { adapter: { largestBuffer: USUAL_LARGEST_BUFFER }, device: "this machine, without an adapter," };
  }
  try {
    const memory = memoryLimit(config, gpu);
    return {
      adapter: { ...adapterOf(gpu), tiles: await rememberedTiles(gpu) },
      memory: Number.isFinite(memory) ? memory : undefined,
      device: gpu.name,
    };
  } finally {
    gpu.destroy();
  }
}
