import assert from "node:assert/strict";
import { normal, permutation, uniform } from "../lib/random.ts";

const take = (count: number, next: () => number) => Array.from({ length: count }, next);
const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

Deno.test("a stream is a function of all its seeds, in their order", () => {
  assert.deepEqual(take(20, uniform(1, 2)), take(20, uniform(1, 2)));
  const streams = [[1, 2], [2, 1], [1], [1, 3], [1, 2, 0], [0]].map((seeds) => take(3, uniform(...seeds)));
  assert.equal(new Set(streams.flat()).size, 18);
});

Deno.test("uniform numbers are in [0, 1) and evenly spread", () => {
  const values = take(100_000, uniform(42));
  assert.ok(values.every((value) => value >= 0 && value < 1));
  const counts = new Array(10).fill(0);
  for (const value of values) counts[Math.floor(10 * value)]++;
  // A count of 10,000 has a standard deviation of 95.
  assert.ok(counts.every((count) => Math.abs(count - 10_000) < 500), String(counts));
});

Deno.test("streams of neighbouring seeds do not depend on each other", () => {
  const firsts = Array.from({ length: 10_000 }, (_, seed) => uniform(seed)());
  const products = firsts.slice(1).map((value, i) => (value - 0.5) * (firsts[i] - 0.5));
  // Uniform numbers have a variance of 1/12; a correlation of 10,000 independent ones is about 0.01.
  assert.ok(Math.abs(mean(products) * 12) < 0.05);
  assert.ok(Math.abs(mean(firsts) - 0.5) < 0.015);
});

Deno.test("normal numbers have the moments of a standard normal distribution", () => {
  const values = take(100_000, normal(42));
  const moment = (power: number) => mean(values.map((value) => value ** power));
  assert.ok(values.every(Number.isFinite));
  // Five standard errors: sqrt(1, 2, 15, 96 / 100,000).
  assert.ok(Math.abs(moment(1)) < 0.016);
  assert.ok(Math.abs(moment(2) - 1) < 0.023);
  assert.ok(Math.abs(moment(3)) < 0.062);
  assert.ok(Math.abs(moment(4) - 3) < 0.16);
});

Deno.test("a permutation has every number once, and is the same for the same seeds", () => {
  for (const count of [0, 1, 2, 100]) {
    const order = permutation(count, 3, 4);
    assert.deepEqual([...order].sort((a, b) => a - b), [...Array(count).keys()]);
    assert.deepEqual(permutation(count, 3, 4), order);
  }
  assert.notDeepEqual(permutation(100, 3, 5), permutation(100, 3, 4));
  assert.notDeepEqual([...permutation(100, 3, 4)], [...Array(100).keys()]);
});

Deno.test("all orders of three are about as frequent", () => {
  const counts = new Map<string, number>();
  for (let seed = 0; seed < 6000; seed++) {
    const order = permutation(3, seed).join("");
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  assert.equal(counts.size, 6);
  // A count of 1,000 has a standard deviation of 29.
  assert.ok([...counts.values()].every((count) => Math.abs(count - 1000) < 150), String([...counts]));
});
