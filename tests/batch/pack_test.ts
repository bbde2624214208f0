import assert from "node:assert/strict";
import { type Batch, pack } from "../../lib/batch/pack.ts";
import { packedSize, type Pair, type Sequence, sharedPrefix } from "../../lib/data/pair.ts";
import { uniform } from "../../lib/random.ts";
import { ATTENTION_TILE } from "../../kernels/attention.ts";
import { apartPair, randomPair, randomPairs } from "../random_pairs.ts";
import { sees } from "../reference/attention.ts";

const TRIALS = 200;
const NONE = 0xffffffff;

/**
 * Random pairs of a few tokens and of several tiles, packed with a sliding window or, where it is infinite,
 * without.
 */
interface Trial {
  pairs: Pair[];
  window: number;
  batch: Batch;
}

/** Runs `body` on random pairs; a failure names the seed. */
function forRandomPairs(body: (trial: Trial) => void): void {
  const first = crypto.getRandomValues(new Uint32Array(1))[0];
  for (let trial = 0; trial < TRIALS; trial++) {
    const next = uniform(first, trial);
    const tokens = 1 + Math.floor(next() * (trial % 2 ? 20 : 200));
    const pairs = trial % 10 ? randomPairs(next, tokens) : [...randomPairs(next, tokens), apartPair(next)];
    const window = next() < 0.5 ? Infinity : 1 + Math.floor(next() * 50);
    try {
      body({ pairs, window, batch: pack(pairs, [window]) });
    } catch (error) {
      throw new Error(`seeds ${first}, ${trial}: ${(error as Error).message}`, { cause: error });
    }
  }
}

const tokensOf = (batch: Batch) => batch.ids.length;
const responses = ({ chosen, rejected }: Pair) => rejected ? [chosen, rejected] : [chosen];

/** The rows that `row` sees, in ascending order. */
const visible = (batch: Batch, row: number) =>
  Array.from(batch.ids.keys()).filter((key) => sees(batch.masks[0].spans, row, key));

/** What a sequence on its own predicts: for each label the tokens before it, and the label. */
const predictions = ({ ids, promptLength }: Sequence) =>
  ids.map((id, at) => ({ before: ids.slice(0, at), label: id })).slice(Math.max(promptLength, 1));

Deno.test("each label is predicted from exactly its own sequence's tokens in the window, at their positions", () => {
  forRandomPairs(({ pairs, window, batch }) => {
    const expected = pairs.flatMap((pair) => responses(pair).flatMap(predictions));
    assert.equal(batch.targets.length, expected.length);
    for (const [label, { before, label: target }] of expected.entries()) {
      assert.equal(batch.targets[label], target);
      const rows = visible(batch, batch.labelRows[label]);
      assert.deepEqual(rows.map((row) => batch.ids[row]), before.slice(-window));
      assert.deepEqual(
        rows.map((row) => batch.masks[0].spans[4 * row + 3]),
        [...before.keys()].slice(-window),
      );
      assert.equal(rows.at(-1), batch.labelRows[label]);
    }
  });
});

Deno.test("every row, with a label or without, sees its own sequence up to itself, back to the window's length", () => {
  forRandomPairs(({ pairs, window, batch }) => {
    let first = 0;
    for (const pair of pairs) {
      const prefix = sharedPrefix(pair);
      let row = first;
      for (const [part, sequence] of [pair.chosen, ...responses(pair)].entries()) {
        // The shared prefix stands before the rest of each response.
        const [from, to] = part === 0 ? [0, prefix] : [prefix, sequence.ids.length - 1];
        for (let position = from; position < to; position++, row++) {
          assert.deepEqual(
            visible(batch, row).map((key) => batch.ids[key]),
            sequence.ids.slice(0, position + 1).slice(-window),
          );
        }
      }
      assert.equal(row - first, packedSize(pair).tokens);
      first = row;
    }
    assert.equal(first, tokensOf(batch));
  });
});

Deno.test("packedSize() is what pack() takes", () => {
  forRandomPairs(({ pairs, batch }) => {
    const sizes = pairs.map(packedSize);
    assert.equal(tokensOf(batch), sizes.reduce((sum, { tokens }) => sum + tokens, 0));
    assert.equal(batch.targets.length, sizes.reduce((sum, { labels }) => sum + labels, 0));
    assert.equal(batch.labelRows.length, batch.targets.length);
    assert.equal(batch.pairs, pairs.length);
  });
});

Deno.test("each pair's labels are those of its responses, and rejected has none where it is absent", () => {
  forRandomPairs(({ pairs, batch }) => {
    let at = 0;
    for (const [p, pair] of pairs.entries()) {
      const bounds = [...batch.labelsOfPair.subarray(4 * p, 4 * p + 4)];
      const expected = responses(pair).flatMap((sequence) => {
        const start = at;
        at += predictions(sequence).length;
        return [start, at];
      });
      assert.deepEqual(bounds, pair.rejected ? expected : [...expected, 0, 0]);
    }
  });
});

Deno.test("labels and the rows that predict them point to each other", () => {
  forRandomPairs(({ batch }) => {
    assert.equal(batch.labelsOfRow.length, 2 * tokensOf(batch));
    for (let row = 0; row < tokensOf(batch); row++) {
      const expected = Array.from(batch.labelRows.keys()).filter((label) => batch.labelRows[label] === row);
      const found = [...batch.labelsOfRow.subarray(2 * row, 2 * row + 2)];
      assert.deepEqual(found, [expected[0] ?? NONE, expected[1] ?? NONE]);
      assert.ok(expected.length <= 2);
    }
  });
});

Deno.test("tiles cover every query and key that see each other, and exist for every 32 tokens", () => {
  forRandomPairs(({ batch }) => {
    const tiles = Math.ceil(tokensOf(batch) / ATTENTION_TILE);
    assert.equal(batch.masks[0].queryTiles.length, 4 * tiles);
    assert.equal(batch.masks[0].keyTiles.length, 4 * tiles);
    const tileOf = (token: number) => Math.floor(token / ATTENTION_TILE);
    const ends = new Array<number>(tiles).fill(0);
    for (let query = 0; query < tokensOf(batch); query++) {
      const [first, firstEnd, own, ownEnd] = batch.masks[0].queryTiles.subarray(
        4 * tileOf(query),
        4 * tileOf(query) + 4,
      );
      // A tile in both intervals would count twice in the softmax.
      assert.ok(
        first <= firstEnd && (first === firstEnd || firstEnd <= own) && own < ownEnd && ownEnd <= tiles,
      );
      for (const key of visible(batch, query)) {
        const keyTile = tileOf(key);
        assert.ok((first <= keyTile && keyTile < firstEnd) || (own <= keyTile && keyTile < ownEnd));
        const [from, to, end] = batch.masks[0].keyTiles.subarray(4 * keyTile, 4 * keyTile + 3);
        assert.ok(from <= tileOf(query) && tileOf(query) < to && to <= tiles);
        ends[keyTile] = Math.max(ends[keyTile], query + 1);
        assert.ok(query < end);
      }
    }
    assert.deepEqual(ends, Array.from({ length: tiles }, (_, tile) => batch.masks[0].keyTiles[4 * tile + 2]));
  });
});

Deno.test("a query's tiles leave out those of other pairs", () => {
  const next = uniform(7);
  const pairs = Array.from({ length: 6 }, () => randomPair(next, 2 * ATTENTION_TILE));
  const { queryTiles, keyTiles } = pack(pairs).masks[0];
  for (let tile = 0; tile < queryTiles.length / 4; tile++) {
    const pair = Math.floor(tile / 2);
    const [first, firstEnd, own, ownEnd] = queryTiles.subarray(4 * tile, 4 * tile + 4);
    assert.ok(own >= 2 * pair && ownEnd <= 2 * pair + 2);
    assert.ok(first === firstEnd || (first >= 2 * pair && firstEnd <= 2 * pair + 2));
    assert.ok(keyTiles[4 * tile] >= 2 * pair && keyTiles[4 * tile + 1] <= 2 * pair + 2);
  }
});

Deno.test("distinct tokens list each id once, with all the rows where it stands", () => {
  forRandomPairs(({ batch: { ids, distinctIds, distinctStarts, distinctRows } }) => {
    assert.equal(new Set(distinctIds).size, distinctIds.length);
    assert.equal(distinctStarts.length, distinctIds.length + 1);
    assert.deepEqual([distinctStarts[0], distinctStarts.at(-1)], [0, ids.length]);
    for (const [u, id] of distinctIds.entries()) {
      const rows = [...distinctRows.subarray(distinctStarts[u], distinctStarts[u + 1])];
      assert.deepEqual(rows, Array.from(ids.keys()).filter((row) => ids[row] === id));
      assert.ok(rows.length > 0);
    }
  });
});

Deno.test("the prefix is shared once, and its last row predicts for both responses", () => {
  const pair: Pair = {
    chosen: { ids: [1, 2, 3, 4, 5], promptLength: 3 },
    rejected: { ids: [1, 2, 3, 6], promptLength: 3 },
    truncated: false,
    where: "here",
  };
  const batch = pack([pair]);
  assert.deepEqual([...batch.ids], [1, 2, 3, 4]);
  assert.deepEqual([...batch.labelRows], [2, 3, 2]);
  assert.deepEqual([...batch.targets], [4, 5, 6]);
  assert.deepEqual([...batch.labelsOfRow], [NONE, NONE, NONE, NONE, 0, 2, 1, NONE]);
});

Deno.test("the shared prefix ends before the first label and at the first token that differs", () => {
  const prefix = (chosen: Sequence, rejected?: Sequence) =>
    sharedPrefix({ chosen, ...(rejected && { rejected }), truncated: false, where: "" });
  assert.equal(prefix({ ids: [1, 2, 3], promptLength: 2 }, { ids: [1, 2, 3], promptLength: 2 }), 2);
  assert.equal(prefix({ ids: [1, 2, 3], promptLength: 2 }, { ids: [1, 2, 3], promptLength: 1 }), 1);
  assert.equal(prefix({ ids: [1, 2, 3], promptLength: 2 }, { ids: [1, 5, 3], promptLength: 2 }), 1);
  assert.equal(prefix({ ids: [1, 2], promptLength: 1 }, { ids: [4, 2], promptLength: 1 }), 0);
  assert.equal(prefix({ ids: [1, 2, 3], promptLength: 2 }), 2);
});
