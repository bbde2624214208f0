/** Ranks of one process. */
import type { Communicator } from "../lib/distributed/communicator.ts";

type Parts = Uint8Array<ArrayBuffer>[];

/** Lines between `size` ranks: what they do together is done when the last of them has come to it. */
export function ranks(size: number): Communicator[] {
  let waiting: { given: Parts; resolve: (all: Parts) => void }[] = [];
  let operation = "";
  const meet = async (rank: number, name: string, given: Uint8Array<ArrayBuffer>): Promise<Parts> => {
    if (waiting.every((other) => other === undefined)) operation = name;
    if (operation !== name || waiting[rank]) {
      throw new Error(`rank ${rank} is at ${name}, and others at ${operation}`);
    }
    const { promise, resolve } = Promise.withResolvers<Parts>();
    waiting[rank] = { given: [given.slice()], resolve };
    if (Array.from({ length: size }, (_, i) => waiting[i]).every((other) => other)) {
      const all = waiting;
      waiting = [];
      for (const { resolve } of all) resolve(all.map(({ given: [bytes] }) => bytes.slice()));
    }
    return await promise;
  };
  return Array.from({ length: size }, (_, rank) => ({
    rank,
    size,
    allGather: (own) => meet(rank, "allGather", own),
    broadcast: async (own, from) =>
      (await meet(rank, `broadcast from ${from}`, rank === from ? own! : new Uint8Array()))[from],
    allToAll: async (parts) => {
      const all = await meet(rank, `allToAll of ${parts.length} bytes`, parts);
      const part = parts.length / size;
      const received = new Uint8Array(parts.length);
      all.forEach((of, from) => received.set(of.subarray(rank * part, (rank + 1) * part), from * part));
      return received;
    },
  }));
}

/** Runs `body` as each of `size` ranks at once; the first that throws ends it. */
export async function asRanks<T>(size: number, body: (own: Communicator) => Promise<T>): Promise<T[]> {
  return await Promise.all(ranks(size).map(body));
}
