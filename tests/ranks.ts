/** Ranks of one process. */
import type { Communicator } from "../lib/distributed/communicator.ts";
import type { TrainOptions } from "../lib/run/options.ts";
import type { TrainRun } from "../lib/run/outcome.ts";
import { run } from "./in_process.ts";

type Parts = Uint8Array<ArrayBuffer>[];

/** Lines between `size` ranks: what they do together is done when the last of them has come to it. */
export function ranks(size: number): Communicator[] {
  let waiting: { given: Parts; resolve: (all: Parts) => void }[] = [];
  let operation = "";
  const meet = async (rank: number, name: string, given: Uint8Array): Promise<Parts> => {
    if (waiting.every((other) => other === undefined)) operation = name;
    if (operation !== name || waiting[rank]) {
      throw new Error(`rank ${rank} is at ${name}, and others at ${operation}`);
    }
    const { promise, resolve } = Promise.withResolvers<Parts>();
    waiting[rank] = { given: [new Uint8Array(given)], resolve };
    if (Array.from({ length: size }, (_, i) => waiting[i]).every((other) => other)) {
      const all = waiting;
      waiting = [];
      for (const { resolve } of all) resolve(all.map(({ given: [bytes] }) => bytes.slice()));
    }
    return await promise;
  };
  const mail = new Map<string, { sent: Parts; waiting: ((bytes: Parts[number]) => void)[] }>();
  const box = (from: number, to: number) => {
    const found = mail.get(`${from} ${to}`) ?? { sent: [], waiting: [] };
    mail.set(`${from} ${to}`, found);
    return found;
  };
  const groups = new Map<string, Communicator[]>();
  return Array.from({ length: size }, (_, rank): Communicator => ({
    rank,
    size,
    send: (bytes, to) => {
      const { sent, waiting } = box(rank, to);
      const receiver = waiting.shift();
      if (receiver) receiver(bytes.slice());
      else sent.push(bytes.slice());
      return Promise.resolve();
    },
    receive: (from) => {
      const { sent, waiting } = box(from, rank);
      const first = sent.shift();
      return first ? Promise.resolve(first) : new Promise((resolve) => waiting.push(resolve));
    },
    split: async (color) => {
      const colors = await meet(rank, "split", Uint8Array.of(color));
      const members = colors.flatMap(([other], of) => other === color ? [of] : []);
      const group = groups.get(`${members}`) ?? ranks(members.length);
      groups.set(`${members}`, group);
      return group[members.indexOf(rank)];
    },
    allGather: async (own, into) => {
      const all = await meet(rank, `allGather ${into ? `of ${own.length} bytes` : "of any lengths"}`, own);
      let at = 0;
      return all.map((bytes) => {
        if (!into) return bytes;
        into.set(bytes, at);
        return into.subarray(at, at += bytes.length);
      });
    },
    broadcast: async (bytes, from) =>
      bytes.set((await meet(rank, `broadcast of ${bytes.length} bytes from ${from}`, bytes))[from]),
    meet: async () => void await meet(rank, "meet", new Uint8Array()),
    allToAll: async (parts, into) => {
      const all = await meet(rank, `allToAll of ${parts.length} bytes`, parts);
      const part = parts.length / size;
      all.forEach((of, from) => into.set(of.subarray(rank * part, (rank + 1) * part), from * part));
    },
  }));
}

/** Runs `body` as each of `size` ranks at once; the first that throws ends it. */
export async function asRanks<T>(size: number, body: (own: Communicator) => Promise<T>): Promise<T[]> {
  return await Promise.all(ranks(size).map(body));
}

/** The golden run by as many ranks, which share the adapter. */
export const trainAs = (
  size: number,
  out: string,
  overrides: readonly string[],
  options: (own: Communicator) => TrainOptions = () => ({}),
): Promise<TrainRun[]> =>
  asRanks(size, (own) => run(out, ["--share_gpu", ...overrides], { ...options(own), communicator: own }));
