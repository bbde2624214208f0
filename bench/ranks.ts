/**
 * How much of their time ranks use for computing, reckoned for up to 64 of them: by the program's own formulas
 * (lib/planning/ranks.ts), from a step that was measured on one GPU and what a host was measured to take in.
 *
 *   deno run -A bench/ranks.ts [--tflops=19.3] [--tokens=2048] [--host=GB/s]
 *
 * Each with what it would be if hosts took no time, in parentheses. It measures the host here, unless --host says what
 * another takes. The step is Llama-3-8B's, 128 pairs in as many
 * tokens each, in float32 with checkpointing, as configs/llama-3-8b-base-simper.yaml has it.
 */
import { cpuUsage } from "node:process";
import { pack } from "../lib/batch/pack.ts";
import { sizeOf } from "../lib/batch/size.ts";
import { parseConfig } from "../lib/config/parse.ts";
import { addUp } from "../lib/distributed/collectives.ts";
import { trainingFlops } from "../lib/graph/flops.ts";
import { worstCase } from "../lib/planning/estimate.ts";
import { planRanks, stepTime, stepWork } from "../lib/planning/ranks.ts";
import { passesOfRank } from "../lib/run/ranks.ts";
import { median, openBenchGpu } from "./harness.ts";
import { randomPairs, SHAPES } from "./models.ts";

const RANKS = [4, 16, 64];
/** Gigabits a second. */
const LINKS = [100, 25, 10, 1];
/** Seconds that this process has computed. */
const processorTime = () => {
  const { user, system } = cpuUsage();
  return (user + system) / 1e6;
};

/** Floats of a piece, as a run has them. */
const PIECE = 2 ** 22;
const REPEATS = 28;

/**
 * Bytes of gradients that one thread takes in a second: copied from the GPU's memory, to where they are sent from, added
 * up for so many ranks, and copied to the GPU. On a driver on the processor both memories are the same. In processor
 * time, so that it matters little what else runs.
 */
async function hostRate(ranks: number): Promise<number> {
  const gpu = await openBenchGpu();
  const { device } = gpu;
  const bytes = 4 * PIECE;
  const source = device.createBuffer({
    size: bytes,
    usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
  });
  const staging = device.createBuffer({
    size: bytes,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  });
  const [own, parts, received] = Array.from({ length: 3 }, () => new Float32Array(PIECE).fill(1));
  const times: number[] = [];
  for (let i = 0; i <= REPEATS; i++) {
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(source, 0, staging, 0, bytes);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const start = processorTime();
    own.set(new Float32Array(staging.getMappedRange()));
    staging.unmap();
    parts.set(own);
    addUp(received, received.subarray(0, PIECE / ranks));
    device.queue.writeBuffer(source, 0, parts);
    if (i > 0) times.push(processorTime() - start);
    await device.queue.onSubmittedWorkDone();
  }
  gpu.destroy();
  return bytes / median(times);
}

const options = Object.fromEntries(Deno.args.map((word) => word.replace(/^--/, "").split("=")));
const flops = Number(options.tflops ?? 19.3) * 1e12;
const tokens = Number(options.tokens ?? 2048);
const model = SHAPES["llama-3-8b"];
const file = "configs/llama-3-8b-base-simper.yaml";
const text = await Deno.readTextFile(file);
const [pair] = randomPairs(tokens, 1, model.vocabSize);
const percent = (value: number) => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
const SETUPS: [name: string, keys: string[]][] = [
  ["full", []],
  ["full, zero_stage 2", ["--zero_stage=2"]],
  ["full, pipelines of 4", ["--pipeline_parallel_size=4"]],
  ["LoRA, r 16, all-linear", ["--use_peft", "--lora_target_modules=all-linear"]],
];
const host = options.host ? Number(options.host) * 1e9 : await hostRate(RANKS.at(-1)!);
console.log(`a host takes ${(host / 1e9).toFixed(2)} GB/s of gradients${options.host ? "" : " here"}`);
for (const [name, keys] of SETUPS) {
  const { config } = parseConfig(text, file, keys);
  const workload = worstCase(model, config);
  const { windows } = workload.net;
  const pairs = config.perDeviceTrainBatchSize * config.gradientAccumulationSteps * config.numGpus;
  const cost = {
    flops: pairs * trainingFlops(workload.net, sizeOf(pack([pair], windows))),
    tokens: pairs * tokens,
  };
  console.log(`\n${name}: ${(cost.flops / flops).toFixed(0)} s a step of one GPU at ${flops / 1e12} TFLOP/s`);
  for (const size of RANKS) {
    const passes = passesOfRank(config, { size });
    const plans = planRanks(workload, config, { largestBuffer: 2 ** 31 - 1 }, size);
    const work = stepWork(plans, config, cost, passes, [pair]);
    const cells = LINKS.map((gigabits) => {
      const rates = { flops, link: gigabits * 1e9 / 8 };
      const { total, efficiency } = stepTime(work, size, rates, host);
      const only = stepTime(work, size, rates, Infinity).efficiency;
      return `${gigabits} Gb/s ${percent(efficiency)}, ${total.toFixed(1)} s (${percent(only)})`;
    });
    const { gradients, weights, boundaries } = work.traffic;
    console.log(
      `${size} ranks, ${((gradients + weights + boundaries) / 1e9).toFixed(2)} GB each way: ${
        cells.join("; ")
      }`,
    );
  }
}
