/** What is made of the few things that ranks can do together. */
import { deserialize, serialize } from "node:v8";
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

/** Bytes as the numbers that they are of. */
export const floatsOf = ({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>) =>
  new Float32Array(buffer, byteOffset, byteLength / 4);
