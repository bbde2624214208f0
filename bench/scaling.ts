/**
 * How time and memory of a training step grow with the row's tokens, with layers and with pairs, on SmolLM2-135M's
 * shape:
 *     deno task bench:scaling [--tokens=256,...,8192] [--layers=1,2,4,8] [--batch=1,2,4,8]
 * One layer and a thirtieth of the vocabulary stand for the whole model, whose parts then weigh as in the whole.
 * Writes nothing.
 */
import { parseArgs } from "node:util";
import { exitWith } from "../lib/cli/command.ts";
import { UserError } from "../lib/errors.ts";
import type { Gpu } from "../lib/gpu/device.ts";
import { formatBytes } from "../lib/text/format_bytes.ts";
import { Pipelines } from "../lib/gpu/program.ts";
import { Profiler } from "../lib/gpu/profiler.ts";
import { losses } from "../lib/losses/losses.ts";
import { byKernel, percent } from "../lib/report/profile.ts";
import { median, openBenchGpu } from "./harness.ts";
import { openTrainer, randomPairs, smolLM2 } from "./models.ts";
import { profileStep, timeSteps, warmUp } from "./steps.ts";

const USAGE = "usage: deno task bench:scaling [--tokens=N,N,...] [--layers=N,N,...] [--batch=N,N,...] " +
  "(an empty list leaves a table out)";
/** Of SmolLM2's 49,152 and 30 layers: the part of one layer. */
const VOCABULARY = 1640;
/** Of a row of which layers or pairs are what grows. */
const TOKENS = 256;
/** Steps shorter than this are run more than once. */
const LEAST_SECONDS = 1;
/** An exponent from which growth counts as more than linear. */
const LINEAR = 1.1;

interface Point {
  tokens: number;
  layers: number;
  pairs: number;
}

interface Measured {
  seconds: number;
  /** Seconds by kernel, where the adapter has timestamp queries. */
  kernels?: Map<string, number>;
  /** Bytes of the plan, and of what is not weights, gradients and moments. */
  bytes: number;
  others: number;
}

async function measurePoint(
  gpu: Gpu,
  pipelines: Pipelines,
  { tokens, layers, pairs }: Point,
): Promise<Measured> {
  const config = { ...smolLM2(layers), vocabSize: VOCABULARY };
  const batches = [randomPairs(tokens, pairs, VOCABULARY)];
  const trainer = await openTrainer(gpu, pipelines, config, losses.simper, batches, { slots: 1 });
  const { plan } = trainer.decoder;
  try {
    await warmUp(gpu, trainer);
    const seconds: number[] = [];
    do {
      const [time] = await timeSteps(gpu, trainer, batches, 1);
      seconds.push(time.seconds);
    } while (seconds.reduce((sum, second) => sum + second, 0) < LEAST_SECONDS);
    const profile = Profiler.isSupported(gpu) ? await profileStep(gpu, trainer, batches) : undefined;
    const parameters = (["weights", "gradients", "moments"] as const)
      .reduce((sum, purpose) => sum + plan.bytesOf(purpose), 0);
    return {
      seconds: median(seconds),
      kernels: profile && new Map(byKernel(profile.kernels).map(({ name, seconds }) => [name, seconds])),
      bytes: plan.bytes,
      others: plan.bytes - parameters,
    };
  } finally {
    trainer.decoder.destroy();
  }
}

/** The exponent p of y ~ x^p between two points. */
const exponent = (x: [number, number], y: [number, number]) => Math.log(y[1] / y[0]) / Math.log(x[1] / x[0]);

/** The kernel whose time grew most beyond the linear, where the whole grows more than linearly. */
function cause(x: [number, number], [before, now]: [Measured, Measured]): string {
  if (!(exponent(x, [before.seconds, now.seconds]) > LINEAR)) return "";
  if (!now.kernels) return "unknown: no timestamp queries";
  const whole = now.kernels.values().reduce((sum, seconds) => sum + seconds, 0);
  const [most] = now.kernels.entries()
    .map(([name, seconds]) => ({ name, seconds, start: before.kernels!.get(name) ?? seconds }))
    .toArray()
    .sort((a, b) => (b.seconds - b.start * x[1] / x[0]) - (a.seconds - a.start * x[1] / x[0]));
  const power = exponent(x, [most.start, most.seconds]);
  return `${most.name}: ${power.toFixed(2)}, ${percent(most.seconds / whole)} of the time`;
}

const attentionShare = ({ kernels }: Measured): string => {
  if (!kernels) return "";
  const sum = (seconds: Iterable<number>) => [...seconds].reduce((total, second) => total + second, 0);
  const attention = kernels.entries().filter(([name]) => name.startsWith("attention")).map(([, seconds]) =>
    seconds
  );
  return percent(sum(attention) / sum(kernels.values()));
};

/** Measures and prints a table row by row: each exponent is that from the row above. */
async function sweep(
  gpu: Gpu,
  pipelines: Pipelines,
  title: string,
  values: number[],
  pointOf: (value: number) => Point,
): Promise<void> {
  if (values.length === 0) return;
  const row = (cells: string[]) =>
    console.log(
      cells.map((cell, i) => i === cells.length - 1 ? cell : cell.padStart(10)).join("  ").trimEnd(),
    );
  console.log(`\n${title}`);
  row(["", "ms", "exponent", "attention", "bytes", "scratch*", "exponent", "more than linear because of"]);
  let last: { value: number; measured: Measured } | undefined;
  for (const value of values) {
    const measured = await measurePoint(gpu, pipelines, pointOf(value));
    const x: [number, number] | undefined = last && [last.value, value];
    const grown = (of: "seconds" | "others") =>
      x ? exponent(x, [last!.measured[of], measured[of]]).toFixed(2) : "";
    row([
      String(value),
      (1000 * measured.seconds).toFixed(1),
      grown("seconds"),
      attentionShare(measured),
      formatBytes(measured.bytes),
      formatBytes(measured.others),
      grown("others"),
      x ? cause(x, [last!.measured, measured]) : "",
    ]);
    last = { value, measured };
  }
}

function readOptions(): Record<"tokens" | "layers" | "batch", number[]> {
  const text = { type: "string" } as const;
  let values;
  try {
    ({ values } = parseArgs({
      args: Deno.args,
      options: {
        tokens: { ...text, default: "256,512,1024,2048,4096,8192" },
        layers: { ...text, default: "1,2,4,8" },
        batch: { ...text, default: "1,2,4,8" },
      },
    }));
  } catch (error) {
    throw new UserError(`${(error as Error).message}\n${USAGE}`, 2);
  }
  const list = (name: string, value: string) => {
    const numbers = value === "" ? [] : value.split(",").map(Number);
    if (!numbers.every((n, i) => Number.isInteger(n) && n > (numbers[i - 1] ?? 0))) {
      throw new UserError(`--${name}: expected rising whole numbers, found ${value}\n${USAGE}`, 2);
    }
    return numbers;
  };
  const { tokens, layers, batch } = values;
  return { tokens: list("tokens", tokens), layers: list("layers", layers), batch: list("batch", batch) };
}

await exitWith(async () => {
  const { tokens, layers, batch } = readOptions();
  const gpu = await openBenchGpu();
  try {
    const pipelines = new Pipelines(gpu);
    console.log(
      `${gpu.name}; SmolLM2-135M's layers, vocabulary ${VOCABULARY}; an exponent of 1 is linear growth from the row above; ` +
        "scratch*: all but weights, gradients and moments",
    );
    const measure = (title: string, values: number[], pointOf: (value: number) => Point) =>
      sweep(gpu, pipelines, title, values, pointOf);
    await measure(
      "tokens of a row of one pair, 1 layer",
      tokens,
      (tokens) => ({ tokens, layers: 1, pairs: 1 }),
    );
    await measure(
      `layers, one pair of ${TOKENS} tokens`,
      layers,
      (layers) => ({ tokens: TOKENS, layers, pairs: 1 }),
    );
    await measure(`pairs of ${TOKENS} tokens in a row, 1 layer`, batch, (pairs) => ({
      tokens: pairs * TOKENS,
      layers: 1,
      pairs,
    }));
    return 0;
  } finally {
    gpu.destroy();
  }
});
