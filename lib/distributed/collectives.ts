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

/** Bytes as the numbers that they are of. */
export const floatsOf = ({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>) =>
  new Float32Array(buffer, byteOffset, byteLength / 4);
