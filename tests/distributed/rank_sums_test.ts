/** Sums over ranks, piece after piece, and the threads that make them. */
import assert from "node:assert/strict";
import { Adder, adderThreads } from "../../lib/distributed/adder.ts";
import { addUp } from "../../lib/distributed/add_up.ts";
import type { Communicator } from "../../lib/distributed/communicator.ts";
import { RankSums, sentLength } from "../../lib/distributed/rank_sums.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { asRanks } from "../ranks.ts";

/** A number of a rank that no sum of few has exactly. */
const numberOf = (rank: number, i: number) => Math.fround(Math.sin(1 + 7 * rank + i) * 10 ** (i % 9 - 4));

/** What ranks have of a piece, sent as so many numbers; beyond its length lies what counts for nothing. */
const pieceOf = (rank: number, length: number, sent: number, first = 0) =>
  Float32Array.from({ length: sent }, (_, i) => i < length ? numberOf(rank, first + i) : NaN);

const sumOf = (ranks: number, length: number, first = 0) =>
  Float32Array.from({ length }, (_, i) => {
    let sum = 0;
    for (let rank = 0; rank < ranks; rank++) sum += numberOf(rank, first + i);
    return sum;
  });

/** The sums of pieces, one after the other. */
async function sumsOf(own: Communicator, adder: Adder, pieces: readonly Float32Array[]) {
  const sums = new RankSums(own, adder, Math.max(...pieces.map(({ length }) => length)));
  const found: Float32Array[] = [];
  for (const [i, piece] of pieces.entries()) {
    const parts = new Float32Array(sentLength(piece.length, own.size)).fill(NaN);
    parts.set(piece);
    await sums.next(parts, { length: piece.length, take: (all) => void (found[i] = all.slice()) });
    // It may be changed then.
    parts.fill(NaN);
  }
  await sums.end();
  return found;
}

Deno.test("a sum of ranks is that of float64 in their order, rounded once, and the same on each", async () => {
  const adder = new Adder();
  // In float32, 2^24 + 1 is 2^24; a length that does not divide.
  const of = (rank: number) => Float32Array.of([2 ** 24, 1, 1][rank], rank, -rank, NaN, 0.1 * rank);
  const sums = await asRanks(3, (own) => sumsOf(own, adder, [of(own.rank)]));
  const expected = Float32Array.of(2 ** 24 + 2, 3, -3, NaN, Math.fround(0.1) + Math.fround(0.2));
  for (const [sum] of sums) assert.deepEqual([...sum], [...expected]);
});

Deno.test("pieces of any lengths are summed one after the other, each while the next is sent", async () => {
  const lengths = [7, 1, 5000, 2, 4096];
  for (const size of [1, 2, 5]) {
    const order: string[] = [];
    const found = await asRanks(size, (own) => {
      const noted = (name: string) => void (own.rank === 0 && order.push(name));
      const line: Communicator = {
        ...own,
        allToAll: (...given) => (noted("send"), own.allToAll(...given)),
        allGather: (...given) => (noted("tell"), own.allGather(...given)),
      };
      class Noted extends Adder {
        override add(...given: Parameters<Adder["add"]>) {
          noted("add");
          return super.add(...given);
        }
      }
      const pieces = lengths.map((length, i) => pieceOf(own.rank, length, length, i));
      return sumsOf(line, new Noted(), pieces);
    });
    for (const sums of found) {
      lengths.forEach((length, i) => assertEqualBytes(sums[i], sumOf(size, length, i), `piece ${i}`));
    }
    assert.deepEqual(order, [
      ...["send", "add"],
      ...Array(lengths.length - 1).fill(["send", "tell", "add"]).flat(),
      "tell",
    ]);
  }
});

Deno.test("sums have the same bits for any number of ranks and threads, in the place of the first rank's too", async () => {
  // Larger than what is added up at once, and not a multiple of it.
  const length = 40_001;
  const pieces = Array.from({ length: 9 }, (_, rank) => pieceOf(rank, length, length));
  for (const threads of [0, 1, 3]) {
    const adder = new Adder(threads);
    try {
      for (const ranks of [1, 2, 3, 4, 7, 9]) {
        const parts = new Float32Array(new SharedArrayBuffer(4 * ranks * length));
        const expected = Float32Array.from(
          { length },
          (_, i) => pieces.slice(0, ranks).reduce((sum, piece) => sum + piece[i], 0),
        );
        const elsewhere = new Float32Array(new SharedArrayBuffer(4 * length)).fill(NaN);
        for (const sums of [elsewhere, parts.subarray(0, length)]) {
          pieces.slice(0, ranks).forEach((piece, rank) => parts.set(piece, rank * length));
          await adder.add(parts, sums);
          assertEqualBytes(sums, expected, `${ranks} ranks, ${threads} threads`);
        }
      }
      // Several at once, of memory of their own.
      const many = Array.from({ length: 4 }, (_, i) => ({
        parts: new Float32Array(new SharedArrayBuffer(8 * length)).fill(i + 1),
        sums: new Float32Array(new SharedArrayBuffer(4 * length)),
      }));
      await Promise.all(many.map(({ parts, sums }) => adder.add(parts, sums)));
      many.forEach(({ sums }, i) => assert.ok(sums.every((value) => value === 2 * (i + 1))));
    } finally {
      adder.close();
    }
  }
  const sums = new Float32Array(5).fill(NaN);
  addUp(Float32Array.from({ length: 10 }, (_, i) => i), sums, 1, 3);
  assert.deepEqual([...sums], [NaN, 7, 9, NaN, NaN]);
  const zero = new Float32Array(1);
  addUp(Float32Array.of(-0, -0, -0, -0), zero);
  assert.ok(Object.is(zero[0], 0));
});

Deno.test("a rank has a thread where its machine has a core more than its ranks need", () => {
  const threads = (cores: number, ranks: number) => adderThreads(cores, ranks);
  assert.deepEqual([1, 2, 3, 4, 16].map((cores) => threads(cores, 1)), [0, 0, 1, 2, 2]);
  assert.deepEqual([2, 8, 12, 16].map((cores) => threads(cores, 4)), [0, 0, 1, 2]);
});

Deno.test("a piece that cannot be sent, or added up, ends the sums with what was wrong", async () => {
  const [own] = await asRanks(1, (own) => Promise.resolve(own));
  const failing = (name: "allToAll" | "allGather"): Communicator => ({
    ...own,
    [name]: () => Promise.reject(new Error(`${name} failed`)),
  });
  const pieces = [1, 2, 3].map((length) => new Float32Array(length));
  for (const name of ["allToAll", "allGather"] as const) {
    await assert.rejects(sumsOf(failing(name), new Adder(), pieces), { message: `${name} failed` });
  }
  const broken = Object.assign(new Adder(), { add: () => Promise.reject(new Error("a thread failed")) });
  await assert.rejects(sumsOf(own, broken, pieces), { message: "a thread failed" });
});
