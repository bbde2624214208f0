/**
 * How much of their time ranks use for computing, reckoned for up to 64 of them: by the program's own formulas
 * (lib/planning/ranks.ts, exchange_time.ts), from a step that was measured on one GPU and what a thread of a host was
 * measured to copy and to add up.
 *
 *   deno run -A bench/ranks.ts [--tflops=19.3] [--tokens=2048] [--host=GB/s --sums=GB/s]
 *
 * It measures the host here, unless --host and --sums say what a thread of another copies and adds up. The step is
 * Llama-3-8B's, 128 pairs in as many tokens each, in float32 with checkpointing, as configs/llama-3-8b-base-simper.yaml
 * has it.
 */
import { cpuUsage } from "node:process";
import { pack } from "../lib/batch/pack.ts";
import { sizeOf } from "../lib/batch/size.ts";
import { parseConfig } from "../lib/config/parse.ts";
import { addUp } from "../lib/distributed/add_up.ts";
import { trainingFlops } from "../lib/graph/flops.ts";
import { worstCase } from "../lib/planning/estimate.ts";
import { hostOf, type HostRates } from "../lib/planning/exchange_time.ts";
import { planRanks, stepTime, stepWork } from "../lib/planning/ranks.ts";
import { passesOfRank } from "../lib/run/ranks.ts";
import { median, openBenchGpu } from "./harness.ts";
import { randomPairs, SHAPES } from "./models.ts";

const RANKS = [4, 16, 64];
/** Of a host, for sums. */
const THREADS = [0, 1, 2];
/** Gigabits a second. */
const LINKS = [100, 25, 10, 1];
/** Seconds that this process has computed. */
const processorTime = () => {
  const { user, system } = cpuUsage();
  return (user + system) / 1e6;
};

/** Floats of a piece, as a run has them. */
const PIECE = 2 ** 22;
/** Bytes of one write. */
const WRITE = 2 ** 22;
const REPEATS = 28;

/**
 * Bytes of gradients that one thread copies in a second, from what the GPU has left and to what it fetches, and adds up,
 * for so many ranks. In processor time, so that it matters little what else runs; what a driver on the processor copies
 * in a submission, a GPU does.
 */
async function hostRates(ranks: number): Promise<HostRates> {
  const { device, ...gpu } = await openBenchGpu();
  const bytes = 4 * PIECE;
  const gradients = device.createBuffer({
    size: bytes,
    usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
  });
  const staging = device.createBuffer({
    size: bytes,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  });
  const all = new ArrayBuffer(bytes);
  const received = new Float32Array(new SharedArrayBuffer(bytes)).fill(1);
  const [copies, sums]: number[][] = [[], []];
  const timed = (call: () => void) => {
    const start = processorTime();
    call();
    return processorTime() - start;
  };
  for (let i = 0; i <= REPEATS; i++) {
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(gradients, 0, staging, 0, bytes);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    // Deno copies here, and Dawn does not.
    let copy = timed(() => staging.getMappedRange());
    staging.unmap();
    const sum = timed(() => addUp(received, received.subarray(0, PIECE / ranks)));
    // As `writeTensor` has it.
    for (let at = 0; at < bytes; at += WRITE) {
      copy += timed(() => device.queue.writeBuffer(gradients, at, all, at, WRITE));
      device.queue.submit([]);
    }
    if (i > 0) {
      copies.push(copy);
      sums.push(sum);
    }
    await device.queue.onSubmittedWorkDone();
  }
  gpu.destroy();
  return { copies: bytes / median(copies), sums: bytes / median(sums) };
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
const thread = options.host
  ? { copies: Number(options.host) * 1e9, sums: Number(options.sums ?? options.host) * 1e9 }
  : await hostRates(RANKS.at(-1)!);
console.log(
  `a thread copies ${(thread.copies / 1e9).toFixed(1)} GB/s of gradients and adds up ${
    (thread.sums / 1e9).toFixed(1)
  }${options.host ? "" : " here"}; with ${THREADS.join(", ")} threads for sums, and if hosts took no time:`,
);
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
    const hosts = [...THREADS.map((count) => hostOf(thread, count)), { copies: Infinity, sums: Infinity }];
    const cells = LINKS.map((gigabits) => {
      const rates = { flops, link: gigabits * 1e9 / 8 };
      const times = hosts.map((host) => stepTime(work, size, rates, host));
      const efficiencies = times.map(({ efficiency }) => percent(efficiency)).join(", ");
      return `${gigabits} Gb/s ${efficiencies}, ${times.at(-2)!.total.toFixed(1)} s`;
    });
    const { gradients, weights, boundaries } = work.traffic;
    console.log(
      `${size} ranks, ${((gradients + weights + boundaries) / 1e9).toFixed(2)} GB each way: ${
        cells.join("; ")
      }`,
    );
  }
}
