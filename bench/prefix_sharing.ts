/**
 * What running a pair's common prefix once saves, against the same responses as two separate sequences: operations,
 * counted over the first pairs of a file, and time, measured on some of them:
 *     deno task bench:prefix PAIRS.jsonl[.gz] MODEL_FOLDER [--layers=4] [--seconds=60] [--pairs=200]
 * The folder gives tokenizer, chat template and sizes; the time is of a model with few of its layers and random
 * weights.
 */
import { parseArgs } from "node:util";
import { pack } from "../lib/batch/pack.ts";
import type { Pair } from "../lib/data/pair.ts";
import type { Gpu } from "../lib/gpu/device.ts";
import { Pipelines } from "../lib/gpu/program.ts";
import { losses } from "../lib/losses/losses.ts";
import { readResults } from "../lib/training/evaluate.ts";
import { readModelConfig } from "../lib/weights/config_file.ts";
import type { Decoder } from "../lib/graph/decoder.ts";
import { type Operations, operationsOf } from "./flops.ts";
import { type BatchSize, sizeOf } from "../lib/batch/size.ts";
import type { Net } from "../lib/graph/net.ts";
import { netOf } from "../lib/models/models.ts";
import { openBenchGpu } from "./harness.ts";
import { openTrainer } from "./models.ts";
import { readPairs } from "./read_pairs.ts";

/** Long enough for nearly every pair of hh as it is. */
const TRUNCATION = { maxLength: 1024, maxPromptLength: 512, truncationMode: "keep_end" } as const;
const PAIRS_PER_BATCH = 2;
/** Of the random weights: large enough that a wrong key or position would change the log-probabilities. */
const DEVIATION = 0.1;

/** The same responses, each with a prefix of its own. */
const separated = (pairs: Pair[]): Pair[] =>
  pairs.flatMap(({ chosen, rejected, ...rest }) => [{ ...rest, chosen }, { ...rest, chosen: rejected! }]);

function total(net: Net, batches: Pair[][]): BatchSize {
  return batches.map((pairs) => sizeOf(pack(pairs, net.windows))).reduce((sum, size) => ({
    tokens: sum.tokens + size.tokens,
    labels: sum.labels + size.labels,
    visible: sum.visible.map((pairs, i) => pairs + size.visible[i]),
  }));
}

/** Prints sizes and operations of both ways, and what is saved. */
function compare(title: string, net: Net, batches: Pair[][]): void {
  const shared = total(net, batches);
  const separate = total(net, batches.map(separated));
  const operations = { shared: operationsOf(net, shared), separate: operationsOf(net, separate) };
  console.log(title);
  const row = (name: string, one: number, two: number, unit = "") =>
    console.log(`  ${name.padEnd(26)} ${format(one, unit)} ${format(two, unit)}   ${saved(one, two)}`);
  console.log(`  ${"".padEnd(26)} ${"shared".padStart(16)} ${"separate".padStart(16)}   saved`);
  row("tokens", shared.tokens, separate.tokens);
  row("labels", shared.labels, separate.labels);
  row("visible query-key pairs", visible(shared), visible(separate));
  for (const part of ["linear", "attention", "head", "total"] as (keyof Operations)[]) {
    row(`${part} operations`, operations.shared[part], operations.separate[part], "GFLOP");
  }
}

/** In all windows. */
const visible = ({ visible }: BatchSize) => visible.reduce((sum, pairs) => sum + pairs);
const format = (value: number, unit: string) =>
  (unit ? `${(value / 1e9).toFixed(1)} ${unit}` : String(value)).padStart(16);
const saved = (shared: number, separate: number) => `${(100 * (1 - shared / separate)).toFixed(1)} %`;

/** Forward and backward of one batch: seconds, and the log-probability of each response. */
async function runBatch(
  gpu: Gpu,
  decoder: Decoder,
  pairs: Pair[],
): Promise<{ seconds: number; logps: number[] }> {
  const batch = pack(pairs);
  const place = { firstOfStep: true, pairsOfStep: pairs.length };
  const start = performance.now();
  decoder.upload(gpu, batch, place);
  const encoder = gpu.device.createCommandEncoder();
  decoder.encodeForward(encoder);
  decoder.encodeBackward(encoder);
  gpu.device.queue.submit([encoder.finish()]);
  await gpu.device.queue.onSubmittedWorkDone();
  const seconds = (performance.now() - start) / 1000;
  const logps = (await readResults(gpu, decoder, batch)).flatMap(({ chosen, rejected, rejectedLabels }) =>
    rejectedLabels > 0 ? [chosen, rejected] : [chosen]
  );
  return { seconds, logps };
}

const { values, positionals: [file, folder] } = parseArgs({
  allowPositionals: true,
  options: {
    layers: { type: "string", default: "4" },
    seconds: { type: "string", default: "60" },
    pairs: { type: "string", default: "200" },
  },
});
if (!folder) {
  console.error(
    "usage: deno task bench:prefix PAIRS.jsonl[.gz] MODEL_FOLDER [--layers=4] [--seconds=60] [--pairs=200]",
  );
  Deno.exit(2);
}
const config = await readModelConfig(folder);
const first = await readPairs(file, folder, Number(values.pairs), TRUNCATION);
compare(
  `${first.length} pairs, ${config.numHiddenLayers} layers, forward and backward`,
  netOf(config),
  first.map((pair) => [pair]),
);

/** Batches from all over the 200 pairs, in the order in which they are timed. */
const timedConfig = { ...config, numHiddenLayers: Math.min(Number(values.layers), config.numHiddenLayers) };
const stride = Math.floor(first.length / PAIRS_PER_BATCH);
const batches = Array.from(
  { length: stride },
  (_, at) => first.filter((_, i) => i % stride === at),
);
const gpu = await openBenchGpu();
const pipelines = new Pipelines(gpu);
// The work does not depend on the loss, and this one does without rejected responses.
const trainer = await openTrainer(
  gpu,
  pipelines,
  timedConfig,
  losses.sft,
  batches.map(separated),
  { slots: 1, deviation: DEVIATION },
);
const { decoder } = trainer;
// The first runs of each way compile; not timed.
for (const pairs of [batches[0], separated(batches[0])]) await runBatch(gpu, decoder, pairs);

const seconds = { shared: 0, separate: 0 };
const timed: Pair[][] = [];
let difference = 0;
for (const batch of batches) {
  if (seconds.shared + seconds.separate > Number(values.seconds)) break;
  const shared = await runBatch(gpu, decoder, batch);
  const separate = await runBatch(gpu, decoder, separated(batch));
  seconds.shared += shared.seconds;
  seconds.separate += separate.seconds;
  timed.push(batch);
  shared.logps.forEach((logp, i) =>
    difference = Math.max(difference, Math.abs(logp / separate.logps[i] - 1))
  );
}
gpu.destroy();
compare(
  `\n${timed.flat().length} of them, ${timedConfig.numHiddenLayers} layers, on ${gpu.name}`,
  decoder.net,
  timed,
);
console.log(
  `  ${"seconds".padEnd(26)} ${seconds.shared.toFixed(2).padStart(16)} ${
    seconds.separate.toFixed(2).padStart(16)
  }   ` +
    `${saved(seconds.shared, seconds.separate)}; log-probabilities differ by ${
      difference.toExponential(1)
    } at most`,
);
