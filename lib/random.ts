/** A stream of uniform numbers in [0, 1) that is a function of its seeds alone (splitmix32). */
export function uniform(...seeds: number[]): () => number {
  let state = seeds.reduce((state, seed) => Math.imul(state ^ seed, 0x9e3779b1) + 0x7f4a7c15 | 0, 0x2545f491);
  return () => {
    state = state + 0x9e3779b9 | 0;
    let z = state ^ state >>> 16;
    z = Math.imul(z, 0x21f0aaad);
    z ^= z >>> 15;
    z = Math.imul(z, 0x735a2d97);
    z ^= z >>> 15;
    return (z >>> 0) / 2 ** 32;
  };
}

/** A stream of standard normal numbers (Box-Muller). */
export function normal(...seeds: number[]): () => number {
  const next = uniform(...seeds);
  return () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

/**
 * The numbers 0 to count - 1 in an order that is a function of the seeds (Fisher-Yates).
 *
 * @example
 * ```ts
 * import { permutation } from "./random.ts";
 * import assert from "node:assert/strict";
 * assert.deepEqual(permutation(9, 42), permutation(9, 42));
 * assert.deepEqual([...permutation(9, 42)].sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
 * ```
 */
export function permutation(count: number, ...seeds: number[]): Uint32Array<ArrayBuffer> {
  const next = uniform(...seeds);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
