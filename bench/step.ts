/**
 * Whole SimPER steps of a model's shape with random weights: forward, backward, loss and AdamW, with the host's part.
 *     deno task bench:step [--shape=NAME ...] [--tokens=256] [--batch=1] [--checkpointing] [--profile=FILE] ...
 */
import { parseArgs } from "node:util";
import { bytes } from "../lib/config/values.ts";
import { UserError } from "../lib/errors.ts";
import type { Gpu } from "../lib/gpu/device.ts";
import { formatBytes } from "../lib/text/format_bytes.ts";
import { Pipelines } from "../lib/gpu/program.ts";
import { Profiler } from "../lib/gpu/profiler.ts";
import type { ProductTiles } from "../lib/gpu/tuning.ts";
import { exitWith } from "../lib/cli/command.ts";
import type { ModelConfig } from "../lib/models/architecture.ts";
import { chromeTrace, percent, profileTable } from "../lib/report/profile.ts";
import { type Ceilings, measureCeilings, measuredTiles, openBenchGpu } from "./harness.ts";
import { allocateTrainer, randomPairs, repeatedNormal, SHAPES } from "./models.ts";
import { cutsOf, fit, flopsOf, medianStep, profileStep, type StepTime, timeSteps, warmUp } from "./steps.ts";

const USAGE = `usage: deno task bench:step [options]
  --shape=NAME      ${Object.keys(SHAPES).join(", ")}; may be given more than once (default: all but tiny)
  --layers=N        of the shape's (default: all that memory and --seconds allow)
  --tokens=256      tokens of a packed row
  --batch=1         pairs that share the row
  --accumulation=1  rows of one optimizer step
  --checkpointing   compute each layer again in the backward pass
  --steps=3         steps that are timed, after a small one that compiles; the one of median length counts
  --overlap         each step is submitted before the figures of the last are waited for, as on a GPU, on any driver
  --seconds=25      about how long the steps of a shape may take: less of the model is measured where all would take longer
  --memory=BYTES    what a plan may take, such as 12GB (default: what is free; on a GPU, no limit)
  --profile[=FILE]  one more step, with each kernel timed: a table, and FILE for chrome://tracing or ui.perfetto.dev`;

/** Of the multiply-add ceiling, what a step is expected to reach: for the choice of layers alone. */
const EXPECTED = 0.25;

interface Options {
  shapes: string[];
  layers?: number;
  tokens: number;
  batch: number;
  accumulation: number;
  checkpointing: boolean;
  steps: number;
  overlap: boolean;
  seconds: number;
  memory?: number;
  profile: boolean;
  trace?: string;
}

function readOptions(args: string[]): Options {
  const text = { type: "string" } as const;
  let values;
  try {
    ({ values } = parseArgs({
      // `--profile` alone asks for the table only.
      args: args.map((arg) => arg === "--profile" ? "--profile=" : arg),
      options: {
        shape: { ...text, multiple: true },
        layers: text,
        tokens: { ...text, default: "256" },
        batch: { ...text, default: "1" },
        accumulation: { ...text, default: "1" },
        checkpointing: { type: "boolean", default: false },
        steps: { ...text, default: "3" },
        overlap: { type: "boolean", default: false },
        seconds: { ...text, default: "25" },
        memory: text,
        profile: text,
      },
    }));
  } catch (error) {
    throw new UserError(`${(error as Error).message}\n${USAGE}`, 2);
  }
  const whole = (name: string, value: string) => {
    if (!/^[1-9]\d*$/.test(value)) {
      throw new UserError(`--${name}: expected a whole number above 0, found ${value}\n${USAGE}`, 2);
    }
    return Number(value);
  };
  const shapes = values.shape ?? Object.keys(SHAPES).filter((shape) => shape !== "tiny");
  const unknown = shapes.find((shape) => !Object.hasOwn(SHAPES, shape));
  if (unknown !== undefined) throw new UserError(`--shape: no shape is named ${unknown}\n${USAGE}`, 2);
  const memory = values.memory === undefined ? undefined : bytes.read(values.memory);
  if (values.memory !== undefined && memory === undefined) {
    throw new UserError(`--memory: expected ${bytes.expected}, found ${values.memory}`, 2);
  }
  const tokens = whole("tokens", values.tokens);
  const batch = whole("batch", values.batch);
  if (tokens < 8 * batch) throw new UserError("--tokens: a pair needs at least 8 tokens of the row", 2);
  return {
    shapes,
    layers: values.layers === undefined ? undefined : whole("layers", values.layers),
    tokens,
    batch,
    accumulation: whole("accumulation", values.accumulation),
    checkpointing: values.checkpointing,
    steps: whole("steps", values.steps),
    overlap: values.overlap,
    seconds: whole("seconds", values.seconds),
    memory,
    profile: values.profile !== undefined,
    trace: values.profile || undefined,
  };
}

/** Bytes that a driver on the processor may take, with some left to the rest of the machine; a GPU does not tell. */
const freeMemory = ({ isSoftware }: Gpu) => isSoftware ? 0.85 * Deno.systemMemoryInfo().available : Infinity;

async function measureShape(
  gpu: Gpu,
  pipelines: Pipelines,
  { ceilings, tiles }: { ceilings: Ceilings; tiles: ProductTiles },
  name: string,
  options: Options,
): Promise<void> {
  const { tokens, batch, accumulation, checkpointing, steps } = options;
  const shape = SHAPES[name];
  const wanted = { ...shape, numHiddenLayers: options.layers ?? shape.numHiddenLayers };
  const batchesOf = ({ vocabSize }: ModelConfig) =>
    Array.from({ length: accumulation }, () => randomPairs(tokens, batch, vocabSize));
  const { config, batches, trainer } = fit(gpu, wanted, batchesOf, { checkpointing, tiles }, {
    memory: options.memory ?? freeMemory(gpu),
    flops: options.layers
      ? Infinity
      : EXPECTED * ceilings.flops * options.seconds / (steps + (options.profile ? 1 : 0)),
  });
  const { decoder } = trainer;
  const { plan } = decoder;
  const cuts = cutsOf(config, shape);
  console.log(
    `\n${name}${cuts.length ? `, cut to ${cuts.join(", ")}` : `, all ${config.numHiddenLayers} layers`}: ` +
      `${(decoder.parameters.count / 1e6).toFixed(1)} million weights; ${accumulation} x ${batch} pairs in ` +
      `${accumulation} x ${tokens} tokens${checkpointing ? ", checkpointing" : ""}`,
  );
  try {
    await allocateTrainer(gpu, pipelines, trainer, repeatedNormal(1));
    const others = plan.bytes - 16 * decoder.parameters.count;
    line(
      "memory",
      `${plan.bytes} bytes planned, ${plan.allocatedBytes} allocated; ${formatBytes(others)} ` +
        "beyond 16 bytes a weight",
    );
    const { forward, backward } = decoder.kernelsPerLayer;
    line("kernels", `${forward} a layer forward, ${backward} backward`);
    await warmUp(gpu, trainer);
    const time = medianStep(
      await timeSteps(gpu, trainer, batches, steps, options.overlap || !gpu.isSoftware),
    );
    const flops = flopsOf(config, batches);
    const rate = (amount: number) => (amount / time.seconds).toPrecision(4);
    line(
      "step",
      `${time.seconds.toFixed(3)} s; ${rate(flops / 1e9)} GFLOP/s, ${
        percent(flops / time.seconds / ceilings.flops)
      } of multiply-add; ` +
        `${rate(tokens * accumulation)} tokens/s, ${rate(batch * accumulation)} pairs/s`,
    );
    line("outside kernels", outside(time));
    if (options.profile) await profile(gpu, trainer, batches, ceilings, name, options);
  } finally {
    decoder.destroy();
  }
}

const line = (name: string, text: string) => console.log(`  ${name.padEnd(16)} ${text}`);

/** The part of a step in which no kernel runs, and what the host was seen to do in it. */
function outside({ seconds, busy, host }: StepTime): string {
  const ms = (value: number) => `${(1000 * value).toFixed(1)} ms`;
  if (busy === undefined) return "unknown: this adapter has no timestamp queries";
  const rest = seconds - busy;
  const parts = ["upload", "encode"].map((name) => `${name} ${ms(host[name] ?? 0)}`).join(", ");
  return `${percent(rest / seconds)} of the step: ${
    ms(rest)
  } (${parts}, the rest packing, copies and the read-back's wait)`;
}

async function profile(
  gpu: Gpu,
  trainer: Parameters<typeof profileStep>[1],
  batches: Parameters<typeof profileStep>[2],
  ceilings: Ceilings,
  name: string,
  { shapes, trace }: Options,
): Promise<void> {
  if (!Profiler.isSupported(gpu)) {
    return line("profile", "this adapter has no timestamp queries; the step above is all that can be told");
  }
  const profiled = await profileStep(gpu, trainer, batches);
  const bytes = Math.max(ceilings.copyBytes, ceilings.kernelBytes);
  console.log(profileTable(profiled.kernels, { flops: ceilings.flops, bytes }).replace(/^/gm, "  "));
  if (!trace) return;
  const file = shapes.length > 1 ? trace.replace(/(\.json)?$/, `.${name}$1`) : trace;
  await Deno.writeTextFile(file, chromeTrace(profiled, `${name} on ${gpu.name}`));
  line("trace", `${file}, for chrome://tracing or ui.perfetto.dev`);
}

await exitWith(async () => {
  const options = readOptions(Deno.args);
  const gpu = await openBenchGpu();
  try {
    const pipelines = new Pipelines(gpu);
    const ceilings = await measureCeilings(gpu, pipelines);
    const giga = (rate: number) => (rate / 1e9).toFixed(1);
    console.log(
      `${gpu.name}; measured ceilings: multiply-add ${giga(ceilings.flops)} GFLOP/s, copy kernel ` +
        `${giga(ceilings.kernelBytes)} GB/s, copyBufferToBuffer ${giga(ceilings.copyBytes)} GB/s`,
    );
    const tiles = await measuredTiles(gpu, pipelines);
    for (const name of options.shapes) {
      await measureShape(gpu, pipelines, { ceilings, tiles }, name, options);
    }
    return 0;
  } finally {
    gpu.destroy();
  }
});
