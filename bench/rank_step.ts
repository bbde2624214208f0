/**
 * Where the time of a step goes when ranks share it: SmolLM2-135M's shape with a few layers, a pass of one packed pair on
 * each rank, over MPI on this machine.
 *
 *   deno run -A bench/rank_step.ts [--ranks=1,2,4] [--layers=4] [--tokens=256] [--steps=3]
 *
 * On a driver on the processor each rank gets its share of the cores. A step of median length counts; kernels are busy
 * as the adapter's timestamps say, and what ranks wait for each other is in the exchange.
 */
import { asRank } from "../lib/cli/mpi.ts";
import { alone, type Communicator } from "../lib/distributed/communicator.ts";
import { bytesOfSums } from "../lib/distributed/traffic.ts";
import { launchOf } from "../lib/distributed/mpi_abi.ts";
import { Pipelines } from "../lib/gpu/program.ts";
import { Profiler } from "../lib/gpu/profiler.ts";
import { losses } from "../lib/losses/losses.ts";
import { busySeconds } from "../lib/report/profile.ts";
import { openBenchGpu } from "./harness.ts";
import { openTrainer, randomPairs, smolLM2 } from "./models.ts";
import { itself, ofRanks } from "./mpi.ts";
import { LEARNING_RATE } from "./steps.ts";

/** Seconds of a step. */
interface RankStep {
  seconds: number;
  busy: number;
  /** From the call of a collective to its end. */
  exchange: number;
  bytes: number;
}

/** A line that tells how long its collectives take. */
function timed(line: Communicator): Communicator & { seconds: number } {
  const add = async <T>(call: Promise<T>): Promise<T> => {
    const start = performance.now();
    const result = await call;
    counted.seconds += (performance.now() - start) / 1000;
    return result;
  };
  const counted = {
    ...line,
    seconds: 0,
    meet: () => add(line.meet()),
    allToAll: (...given: Parameters<Communicator["allToAll"]>) => add(line.allToAll(...given)),
    allGather: (...given: Parameters<Communicator["allGather"]>) => add(line.allGather(...given)),
  };
  return counted;
}

async function measure(own: Communicator, layers: number, tokens: number, steps: number): Promise<RankStep> {
  const gpu = await openBenchGpu();
  const profiler = new Profiler(gpu, { each: "pass" });
  const model = smolLM2(layers);
  const pairs = randomPairs(tokens, 1, model.vocabSize);
  const trainer = await openTrainer(
    gpu,
    new Pipelines(gpu),
    model,
    losses.simper,
    Array(own.size).fill(pairs),
    {
      slots: 1,
      ranks: own.size,
    },
  );
  const data = timed(own);
  const part = { ranks: { data, pipeline: alone }, firstBatch: own.rank, pairsOfStep: own.size };
  const found: RankStep[] = [];
  // The first step compiles.
  for (let step = 0; step <= steps; step++) {
    const [start, before] = [performance.now(), data.seconds];
    await trainer.runner.run(profiler.gpu, step, [pairs], LEARNING_RATE, { part });
    await trainer.runner.collect(profiler.gpu);
    const seconds = (performance.now() - start) / 1000;
    const busy = busySeconds((await profiler.collect()).kernels);
    const bytes = bytesOfSums(trainer.runner.sums.flat(), own.size);
    if (step > 0) found.push({ seconds, busy, exchange: data.seconds - before, bytes });
  }
  gpu.destroy();
  return found.sort((a, b) => a.seconds - b.seconds)[found.length >> 1];
}

const options = Object.fromEntries(Deno.args.map((word) => word.replace(/^--/, "").split("=")));
const { ranks = "1,2,4", layers = "4", tokens = "256", steps = "3" } = options;
const asRanks = async (communicator: Communicator) => {
  const found = await measure(communicator, Number(layers), Number(tokens), Number(steps));
  if (communicator.rank === 0) console.log(JSON.stringify(found));
  return 0;
};
if (launchOf((name) => Deno.env.get(name))) await asRank(asRanks);
else {
  for (const size of ranks.split(",").map(Number)) {
    const threads = Math.max(1, Math.floor(navigator.hardwareConcurrency / size));
    const { seconds, busy, exchange, bytes } = await ofRanks<RankStep>(
      size,
      itself(import.meta.filename!, ...Deno.args),
      { LP_NUM_THREADS: `${threads}` },
    );
    const percent = (part: number) => `${(100 * part / seconds).toFixed(1)} %`;
    console.log(
      `${size} ranks of ${threads} threads: ${seconds.toFixed(2)} s, outside kernels ${
        percent(seconds - busy)
      }, ` +
        `of it in the exchange of ${(bytes / 1e6).toFixed(0)} MB ${percent(exchange)}`,
    );
  }
}
