/** What is made of the few things that ranks can do together. */
import { deserialize, serialize } from "node:v8";
import type { TensorSource } from "../safetensors/write.ts";
import type { Communicator } from "./communicator.ts";

/** A value of each rank, in the order of ranks: whatever structuredClone takes. */
export async function gather<T>(communicator: Communicator, own: T): Promise<T[]> {
  if (communicator.size === 1) return [own];
  const all = await communicator.allGather(new Uint8Array(serialize(own)));
  return all.map((bytes) => deserialize(bytes));
}

/** Whether it is so on any rank. */
export async function any(communicator: Communicator, own: boolean): Promise<boolean> {
  return (await gather(communicator, own)).includes(true);
}

/**
 * Runs `body` on the first rank, and when it is done there on all others at once: what it leaves in a cache is made
 * once, where they share one. Where it throws on the first, the others wait for ever: that rank has to end them.
 */
export async function firstOfAll<T>(communicator: Communicator, body: () => Promise<T>): Promise<T> {
  const first = communicator.rank === 0 ? { found: await body() } : undefined;
  await gather(communicator, null);
  return first ? first.found : await body();
}

/**
 * The sum over all ranks of the numbers that each has, in the same bits on each: taken in the order of ranks and in
 * float64, and rounded once. Each rank adds up a part of them, so that it sends and is sent what it has twice, however
 * many they are.
 */
export async function sumOfRanks(
  communicator: Communicator,
  own: Float32Array<ArrayBuffer>,
): Promise<Float32Array<ArrayBuffer>> {
  const { size } = communicator;
  if (size === 1) return own;
  const part = Math.ceil(own.length / size);
  const parts = new Float32Array(part * size);
  parts.set(own);
  const received = floatsOf(await communicator.allToAll(new Uint8Array(parts.buffer)));
  const sums = new Float32Array(part);
  for (let i = 0; i < part; i++) {
    let sum = 0;
    for (let at = i; at < received.length; at += part) sum += received[at];
    sums[i] = sum;
  }
  const all = await communicator.allGather(new Uint8Array(sums.buffer));
  all.forEach((bytes, rank) => parts.set(floatsOf(bytes), rank * part));
  return parts.subarray(0, own.length);
}

const floatsOf = ({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>) =>
  new Float32Array(buffer, byteOffset, byteLength / 4);

/**
 * The tensors of all ranks, in the order of ranks, as each may save them. All have to read them to their ends, one
 * after the other: what one reads of its own is sent to all.
 */
export async function sharedSources(
  communicator: Communicator,
  own: readonly TensorSource[],
): Promise<TensorSource[]> {
  if (communicator.size === 1) return [...own];
  const all = await gather(communicator, own.map(({ chunks: _, ...form }) => form));
  return all.flatMap((forms, rank) =>
    forms.map((form, i) => ({
      ...form,
      chunks: () => rank === communicator.rank ? sent(communicator, own[i]) : received(communicator, rank),
    }))
  );
}

async function* sent(communicator: Communicator, { chunks }: TensorSource): AsyncGenerator<Uint8Array> {
  for await (const piece of chunks()) {
    yield await communicator.broadcast(new Uint8Array(piece), communicator.rank);
  }
  // Nothing is the end of it.
  await communicator.broadcast(new Uint8Array(), communicator.rank);
}

async function* received(communicator: Communicator, from: number): AsyncGenerator<Uint8Array> {
  for (;;) {
    const piece = await communicator.broadcast(undefined, from);
    if (piece.length === 0) return;
    yield piece;
  }
}
