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

/** What sums are made in: memory that is new costs more than they do, so the next one takes that of the last. */
export class SumMemory {
  #parts = new ArrayBuffer();
  #received = new ArrayBuffer();

  /** Two arrays of so many bytes. */
  of(bytes: number): [parts: Uint8Array<ArrayBuffer>, received: Uint8Array<ArrayBuffer>] {
    if (this.#parts.byteLength < bytes) {
      this.#parts = new ArrayBuffer(bytes);
      this.#received = new ArrayBuffer(bytes);
    }
    return [new Uint8Array(this.#parts, 0, bytes), new Uint8Array(this.#received, 0, bytes)];
  }
}

/**
 * The sum over all ranks of the numbers that each has, in the same bits on each: taken in the order of ranks and in
 * float64, and rounded once. Each rank adds up a part of them, so that it sends and is sent what it has twice, however
 * many they are.
 *
 * @param memory what is returned lies there, until the next sum in it.
 */
export async function sumOfRanks(
  communicator: Communicator,
  own: Float32Array<ArrayBuffer>,
  memory: SumMemory = new SumMemory(),
): Promise<Float32Array<ArrayBuffer>> {
  const { size } = communicator;
  if (size === 1) return own;
  const part = Math.ceil(own.length / size);
  const [parts, received] = memory.of(4 * part * size);
  const floats = floatsOf(parts);
  floats.set(own);
  floats.fill(0, own.length);
  await communicator.allToAll(parts, received);
  const sums = received.subarray(0, 4 * part);
  addUp(floatsOf(received), floatsOf(sums));
  await communicator.allGather(sums, parts);
  return floats.subarray(0, own.length);
}

/** Numbers that are added up at a time: their sums in float64 stay in the nearest cache. */
const BLOCK = 2048;

/** The sums of `parts`, one after the other as long as they are, may lie in the place of the first of them. */
export function addUp(parts: Float32Array, sums: Float32Array): void {
  const block = new Float64Array(BLOCK);
  for (let from = 0; from < sums.length; from += BLOCK) {
    const count = Math.min(BLOCK, sums.length - from);
    block.fill(0);
    for (let first = from; first < parts.length; first += sums.length) {
      for (let i = 0; i < count; i++) block[i] += parts[first + i];
    }
    for (let i = 0; i < count; i++) sums[from + i] = block[i];
  }
}

/** Bytes as the numbers that they are of. */
export const floatsOf = ({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>) =>
  new Float32Array(buffer, byteOffset, byteLength / 4);
