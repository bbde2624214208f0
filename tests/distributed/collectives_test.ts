import assert from "node:assert/strict";
import { any, firstOfAll, gather } from "../../lib/distributed/collectives.ts";
import { shareOf } from "../../lib/distributed/communicator.ts";
import { asRanks } from "../ranks.ts";

Deno.test("ranks share what there is in their order, whatever does not divide", () => {
  for (const [count, size] of [[7, 3], [2, 4], [0, 2], [8, 4], [5, 1]]) {
    const shares = Array.from({ length: size }, (_, rank) => shareOf(count, { rank, size }));
    assert.deepEqual(
      shares.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i)),
      Array.from({ length: count }, (_, i) => i),
    );
    const lengths = shares.map(([from, to]) => to - from);
    assert.ok(Math.max(...lengths) - Math.min(...lengths) <= 1);
  }
});

Deno.test("ranks tell each other values as they are", async () => {
  const value = (rank: number) => ({
    rank,
    figures: [NaN, -Infinity, 0.1],
    text: "é".repeat(rank),
    none: undefined,
  });
  for (const all of await asRanks(3, (own) => gather(own, value(own.rank)))) {
    assert.deepEqual(all, [0, 1, 2].map(value));
  }
  assert.deepEqual(await asRanks(3, (own) => any(own, own.rank === 1)), [true, true, true]);
  assert.deepEqual(await asRanks(2, (own) => any(own, false)), [false, false]);
});

Deno.test("the others begin when the first rank is done", async () => {
  const order: string[] = [];
  const found = await asRanks(3, (own) =>
    firstOfAll(own, async () => {
      order.push(`begin ${own.rank}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
      order.push(`end ${own.rank}`);
      return own.rank;
    }));
  assert.deepEqual(order.slice(0, 2), ["begin 0", "end 0"]);
  assert.deepEqual(found, [0, 1, 2]);
});
