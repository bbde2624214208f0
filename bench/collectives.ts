/**
 * What ranks exchange in a second over MPI on this machine: ours, with its sums in float64, and beside it MPI's own
 * collectives as mpi4py calls them.
 *
 *   deno run -A bench/collectives.ts [--ranks=2,4] [--bytes=1KiB,1MiB,16MiB,256MiB]
 *
 * `PYTHON=/path/to/python`, with mpi4py, numpy and the MPI of `mpiexec`, adds those (bench/peers/mpi_collectives.py).
 * Bytes are those of each rank's array; the time of a call is that of the fastest, from the moment when all have come.
 */
import { asRank } from "../lib/cli/mpi.ts";
import { addUp } from "../lib/distributed/add_up.ts";
import { Adder, adderThreads } from "../lib/distributed/adder.ts";
import { gather } from "../lib/distributed/collectives.ts";
import type { Communicator } from "../lib/distributed/communicator.ts";
import { launchOf } from "../lib/distributed/mpi_abi.ts";
import { RankSums } from "../lib/distributed/rank_sums.ts";
import { MPIEXEC } from "../tests/mpi.ts";
import { itself, ofRanks } from "./mpi.ts";

/** Milliseconds of each collective, by its name. */
type Times = Record<string, number>;

/** Seconds for one collective at one size, but some calls in any case. */
const [SECONDS, LEAST_CALLS] = [0.5, 5];
const COLUMN = 42;
/** Pieces that are summed one after the other, each while others are sent. */
const ROW = 8;
const RANKS = "2,4";
const SIZES = [2 ** 10, 2 ** 16, 2 ** 20, 2 ** 24, 2 ** 26, 2 ** 28];

/** The time of the fastest `call`, in which all ranks take part. */
async function timeOf(communicator: Communicator, call: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  await call();
  for (let isDone = false; !isDone;) {
    await gather(communicator, null);
    const start = performance.now();
    await call();
    times.push(performance.now() - start);
    const total = times.reduce((sum, time) => sum + time, 0);
    // As the first one sees it: all have to make as many.
    const isEnough = total > 1000 * SECONDS && times.length >= LEAST_CALLS;
    [isDone] = await gather(communicator, isEnough);
  }
  return Math.min(...times);
}

async function measure(communicator: Communicator, sizes: readonly number[]): Promise<Times[]> {
  const all: Times[] = [];
  const adder = new Adder(adderThreads(navigator.hardwareConcurrency, communicator.size));
  for (const bytes of sizes) {
    const floats = new Float32Array(bytes / 4).map((_, i) => i % 7);
    const own = new Uint8Array(floats.buffer);
    const part = own.slice(0, bytes / communicator.size);
    const into = new Uint8Array(bytes);
    const sums = new RankSums(communicator, adder, floats.length);
    const piece = { length: floats.length, take: () => {} };
    const inRow = async (count: number) => {
      for (let i = 0; i < count; i++) await sums.next(floats, piece);
      await sums.end();
    };
    const met = async (call: () => Promise<unknown>) => {
      await communicator.meet();
      await call();
    };
    all.push({
      "all-reduce": await timeOf(communicator, () => inRow(1)),
      "of pieces in a row": await timeOf(communicator, () => inRow(ROW)) / ROW,
      // What it takes of that to add up.
      sums: await timeOf(communicator, () => {
        addUp(floats, new Float32Array(into.buffer, 0, floats.length / communicator.size));
        return Promise.resolve();
      }),
      "all-to-all": await timeOf(communicator, () => met(() => communicator.allToAll(own, into))),
      "all-gather": await timeOf(communicator, () => met(() => communicator.allGather(part, into))),
    });
  }
  adder.close();
  return all;
}

const sizeName = (bytes: number) => bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : `${bytes / 2 ** 10} KiB`;

async function compare(): Promise<void> {
  const options = Object.fromEntries(Deno.args.map((word) => word.replace(/^--/, "").split("=")));
  const sizes: number[] = options.bytes?.split(",").map(Number) ?? SIZES;
  const python = Deno.env.get("PYTHON");
  for (const ranks of (options.ranks ?? RANKS).split(",").map(Number)) {
    const ours = await ofRanks<Times[]>(ranks, itself(import.meta.filename!, sizes.join(",")));
    const peer = `${import.meta.dirname}/peers/mpi_collectives.py`;
    const theirs = python ? await ofRanks<Times[]>(ranks, [python, peer, sizes.join(",")]) : undefined;
    console.log(
      `\n${ranks} ranks, ${MPIEXEC}: ms and GB/s of a rank's bytes${theirs ? ", ours | MPI's" : ""}`,
    );
    const names = Object.keys(ours[0]);
    console.log(["bytes", ...names].map((name) => name.padEnd(COLUMN)).join(""));
    for (const [i, bytes] of sizes.entries()) {
      const cells = names.map((name) =>
        [ours, theirs].map((times) => times?.[i][name]).filter((ms) => ms !== undefined)
          .map((ms) => `${ms.toPrecision(3)} ms ${(bytes / ms / 1e6).toPrecision(3)} GB/s`).join(" | ")
      );
      console.log([sizeName(bytes), ...cells].map((cell) => cell.padEnd(COLUMN)).join(""));
    }
  }
}

if (launchOf((name) => Deno.env.get(name))) {
  await asRank(async (communicator) => {
    const times = await measure(communicator, Deno.args[0].split(",").map(Number));
    if (communicator.rank === 0) console.log(JSON.stringify(times));
    return 0;
  });
} else await compare();
