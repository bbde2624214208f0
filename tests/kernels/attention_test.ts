import assert from "node:assert/strict";
import type { AttentionShape, AttentionTiles, RegisterTile } from "../../kernels/attention.ts";
import { keptBytes, keptRun } from "../../kernels/attention_workgroup_kept.ts";
import { tileBounds } from "../../lib/batch/mask.ts";
import { pack } from "../../lib/batch/pack.ts";
import { headsOf } from "../../lib/gpu/attention_family.ts";
import { Attention } from "../../lib/gpu/attention_operations.ts";
import { attentionTiles } from "../../lib/gpu/tuning.ts";
import { type KernelCase, kernelTest, largest, useGpu } from "./harness.ts";
import { apartPair, randomPairs } from "../random_pairs.ts";
import { attention as reference, attentionBackward as referenceBackward } from "../reference/attention.ts";

useGpu();

const registers = (memory: RegisterTile["memory"], rows: number, block: number): AttentionTiles => {
  const tile = { memory, rows, floats: 256, block };
  return { forward: tile, queryGradient: tile, keyGradient: tile };
};
const ADAPTERS = { software: attentionTiles("software"), gpu: attentionTiles("gpu") };

// Few shapes, since each is three or four kernels that take up to a second to compile: every head_dim with heads of
// its own, on a GPU's tiles, and with small tiles of registers that leave a part over, of tokens, members and blocks;
// each way with a scale and a cap once, which both parts of tanh meet.
const CAPPED = { scale: 0.2, softcap: 1.5 };
const SHAPES: (AttentionShape & { tiles: AttentionTiles })[] = [
  { heads: 1, keyValueHeads: 1, headDim: 16, tiles: registers("storage", 3, 2) },
  { heads: 7, keyValueHeads: 1, headDim: 16, ...CAPPED, tiles: registers("storage", 5, 1) },
  { heads: 6, keyValueHeads: 2, headDim: 2, tiles: ADAPTERS.software },
  { heads: 4, keyValueHeads: 2, headDim: 18, tiles: registers("texture", 2, 2) },
  { heads: 3, keyValueHeads: 3, headDim: 24, tiles: registers("texture", 3, 1) },
  { heads: 9, keyValueHeads: 3, headDim: 64, tiles: ADAPTERS.software },
  { heads: 4, keyValueHeads: 2, headDim: 80, ...CAPPED, tiles: registers("texture", 1, 3) },
  { heads: 4, keyValueHeads: 1, headDim: 128, tiles: ADAPTERS.software },
  { heads: 3, keyValueHeads: 3, headDim: 6, tiles: ADAPTERS.gpu },
  { heads: 1, keyValueHeads: 1, headDim: 16, ...CAPPED, tiles: ADAPTERS.gpu },
  { heads: 4, keyValueHeads: 2, headDim: 18, tiles: ADAPTERS.gpu },
  { heads: 5, keyValueHeads: 1, headDim: 64, tiles: ADAPTERS.gpu },
  { heads: 6, keyValueHeads: 3, headDim: 80, tiles: ADAPTERS.gpu },
  { heads: 2, keyValueHeads: 1, headDim: 128, tiles: ADAPTERS.gpu },
];
const LENGTHS = [1, 3, 31, 32, 33, 77, 130];
interface Case extends AttentionShape {
  tiles: AttentionTiles;
  tokens: number;
  /** One pair with two intervals of keys apart from each other, instead of random ones. */
  apart?: boolean;
  slidingWindow?: number;
  /** Heads of a run of the backward pass, of which is kept what its two kernels share. */
  kept?: number;
}
const CASES: Case[] = SHAPES.flatMap((shape) => [
  ...LENGTHS.map((tokens) => ({ ...shape, tokens })),
  { ...shape, tokens: 230, apart: true },
  { ...shape, tokens: 100, slidingWindow: 20 },
]);

function random(kernels: KernelCase, shape: Case) {
  const { heads, keyValueHeads, headDim, tiles, tokens, apart, slidingWindow, kept } = shape;
  const spare = kernels.integer(0, 40);
  const capacity = tokens + spare;
  const gradient = kept && { memory: "workgroup", keeps: keptBytes({ heads: kept }, capacity) } as const;
  const ways = gradient ? { ...tiles, queryGradient: gradient, keyGradient: gradient } : tiles;
  const pairs = apart ? [apartPair(kernels.uniform)] : randomPairs(kernels.uniform, tokens);
  const batch = pack(pairs, [slidingWindow]);
  const width = (heads + 2 * keyValueHeads) * headDim;
  const qkv = kernels.values(tokens * width);
  const tilesOf = (data: Uint32Array) => kernels.tensor([Math.ceil(capacity / 32), 4], data);
  return {
    attention: new Attention(kernels.plan, shape, capacity, ways, true),
    batch,
    qkv,
    output: (...columns: number[]) => kernels.tensor([capacity, ...columns]),
    input: (values: Float32Array, ...columns: number[]) => kernels.tensor([capacity, ...columns], values),
    tensors: {
      spans: kernels.tensor([capacity, 4], batch.masks[0].spans),
      queryTiles: tilesOf(batch.masks[0].queryTiles),
      keyTiles: tilesOf(batch.masks[0].keyTiles),
      ...headsOf(kernels.tensor([capacity, width], qkv), shape),
    },
  };
}

// In the forward pass scores are sums of head_dim products: about 1e-7 * sqrt(128) / sqrt(128) off, times the
// few units that a score is large, and the exponential passes this on as a relative error.
const FORWARD = { tolerance: 1e-6 };
// The backward pass adds the difference dP - delta, of terms that are sqrt(head_dim) times as large as what
// is left of them.
const BACKWARD = { tolerance: 3e-6 };

async function forwardEqualsReference(kernels: KernelCase, shape: Case): Promise<void> {
  const { heads, headDim, tokens } = shape;
  const { attention, batch, qkv, output, tensors } = random(kernels, shape);
  const out = output(heads, headDim);
  const lse = output(heads);
  await kernels.run(attention.forward(kernels.rows(tokens), { ...tensors, out, lse }));
  const expected = reference(qkv, batch.masks[0].spans, shape);
  await kernels.compare(out, expected.out, FORWARD);
  // A score is a standard normal number, which may come to almost nothing where a token sees only itself.
  await kernels.compare(lse, expected.lse, { ...FORWARD, scale: Math.max(1, largest(expected.lse)) });
}

kernelTest("attention over packed pairs equals the float64 softmax", CASES, forwardEqualsReference);

// A workgroup a query has none but its own case: more columns than threads, as many, and a number that leaves threads
// over.
const QUERIES: Case[] = [[6, 3, 6], [4, 1, 80], [2, 2, 256], [1, 1, 70]].flatMap((
  [heads, keyValueHeads, headDim],
  i,
) =>
  [1, 77, 130].map((tokens): Case => ({
    heads,
    keyValueHeads,
    headDim,
    ...(i === 1 ? CAPPED : {}),
    tiles: { ...ADAPTERS.gpu, forward: { memory: "workgroup", queries: 1 } },
    ...(tokens === 130
      ? { tokens: 230, apart: true }
      : tokens === 77
      ? { tokens, slidingWindow: 20 }
      : { tokens }),
  }))
);

kernelTest("attention a query at a time equals the float64 softmax", QUERIES, forwardEqualsReference);

kernelTest(
  "a NaN in a key is in the row of every query that sees it, and in no other",
  [
    QUERIES[0],
    ...[registers("storage", 3, 2), ADAPTERS.gpu].map((tiles) => ({
      ...{ heads: 6, keyValueHeads: 3, headDim: 6, tiles },
    })),
  ].map((shape) => ({ ...shape, tokens: 77 })),
  async (kernels, shape) => {
    const { heads, keyValueHeads, headDim, tokens } = shape;
    const { attention, batch, qkv, output, tensors } = random(kernels, shape);
    const [key, width] = [5, qkv.length / tokens];
    qkv[key * width + heads * headDim] = NaN;
    const out = output(heads, headDim);
    await kernels.run(attention.forward(kernels.rows(tokens), { ...tensors, out, lse: output(heads) }));
    (await kernels.read(out, tokens * heads * headDim)).forEach((value, i) => {
      const [query, head] = [Math.floor(i / headDim / heads), Math.floor(i / headDim) % heads];
      const [from, to, own] = batch.masks[0].spans.subarray(4 * query);
      const isSeen = from <= key && key < to || own <= key && key <= query;
      const isHit = isSeen && head < heads / keyValueHeads;
      assert.equal(Number.isNaN(value), isHit, `query ${query}, head ${head}: ${value}`);
    });
  },
);

async function gradientsEqualReference(kernels: KernelCase, shape: Case): Promise<void> {
  const { heads, headDim, tokens, kept } = shape;
  const { attention, batch, qkv, input, output, tensors } = random(kernels, shape);
  const { out, lse } = reference(qkv, batch.masks[0].spans, shape);
  const dOut = kernels.values(out.length);
  const delta = output(heads);
  const dQkv = output(qkv.length / tokens);
  const calls = attention.backward(kernels.rows(tokens), {
    ...tensors,
    out: input(Float32Array.from(out), heads, headDim),
    lse: input(Float32Array.from(lse), heads),
    dOut: input(dOut, heads, headDim),
    delta,
    dQueries: dQkv,
    dKeys: dQkv,
  });
  if (kept) assert.equal(calls.length, 1 + 2 * heads / kept);
  await kernels.run(calls);
  const products = out.map((value, i) => value * dOut[i]);
  const sum = (of: number) => products.subarray(of * headDim, (of + 1) * headDim).reduce((a, b) => a + b, 0);
  const expectedDelta = Float64Array.from({ length: tokens * heads }, (_, of) => sum(of));
  await kernels.compare(delta, expectedDelta, { ...BACKWARD, scale: Math.max(1, largest(expectedDelta)) });
  await kernels.compare(dQkv, referenceBackward(qkv, dOut, batch.masks[0].spans, shape), BACKWARD);
}

kernelTest(
  "the gradients of queries, keys and values equal those in float64",
  CASES,
  gradientsEqualReference,
);

// In three runs, in two, and in one; with the window, the last case has tiles of queries that do not see the first
// tile of keys between others that do.
const KEPT: Case[] = [
  { heads: 9, keyValueHeads: 3, headDim: 20, ...CAPPED, kept: 3 },
  { heads: 4, keyValueHeads: 4, headDim: 64, kept: 2 },
  { heads: 2, keyValueHeads: 1, headDim: 256, kept: 2 },
  { heads: 2, keyValueHeads: 2, headDim: 6, kept: 1 },
].flatMap((shape) => {
  const tiles = ADAPTERS.gpu;
  return [
    ...[1, 32, 33, 130].map((tokens) => ({ ...shape, tiles, tokens })),
    { ...shape, tiles, tokens: 230, apart: true },
    { ...shape, tiles, tokens: 100, slidingWindow: 20 },
    { ...shape, tiles, tokens: 230, apart: true, slidingWindow: 20 },
  ];
});

kernelTest(
  "the gradients by way of kept probabilities equal those in float64, and nothing is read that was not kept",
  KEPT,
  gradientsEqualReference,
);

Deno.test("as many heads are kept as there is room for, of whole groups; else none", () => {
  const shape = { heads: 12, keyValueHeads: 4, headDim: 64 };
  const ofGroup = 3 * 8 * 32 * 32 * (3 + 2 + 1);
  const heads = (bytes: number) => keptRun(shape, 70, bytes)?.heads;
  assert.equal(heads(4 * ofGroup), 12);
  // Three groups are no part of four.
  assert.equal(heads(4 * ofGroup - 1), 6);
  assert.equal(heads(2 * ofGroup - 1), 3);
  assert.equal(heads(ofGroup - 1), undefined);
  assert.equal(keptBytes({ heads: 3 }, 70), ofGroup);
});

// Keys and values in a tensor of their own, as in a cache, whose last rows are the queries': of one packed row, and
// of sequences that have 20 rows each, where a query's span is one interval and its other one empty.
const LENGTHS_OF_SEQUENCES = [7, 20, 1];
const CACHES = {
  packed: (uniform: () => number) => ({
    keys: 37,
    spans: pack(randomPairs(uniform, 37)).masks[0].spans.subarray(4 * (37 - 5)),
  }),
  sequences: () => ({
    keys: 60,
    spans: Uint32Array.from(
      LENGTHS_OF_SEQUENCES.flatMap((length, i) => [20 * i, 20 * i + length, 58 + i, length - 1]),
    ),
  }),
};
const APART = [registers("storage", 2, 2), attentionTiles("gpu", 2 ** 20)].flatMap((tiles) => [
  { tiles, cache: CACHES.packed },
  { tiles, cache: CACHES.sequences },
]);

/** Some columns of a matrix's last rows. */
const part = (
  matrix: ArrayLike<number>,
  { stride, first, columns, rows }: Record<"stride" | "first" | "columns" | "rows", number>,
) =>
  Float32Array.from(
    { length: rows * columns },
    (_, i) => matrix[matrix.length - stride * (rows - Math.floor(i / columns)) + first + i % columns],
  );

kernelTest(
  "queries against a cache of keys give the rows of the whole",
  APART,
  async (kernels, { tiles, cache }) => {
    const shape = { heads: 4, keyValueHeads: 2, headDim: 8 };
    const { keys, spans } = cache(kernels.uniform);
    const queries = spans.length / 4;
    const qkv = kernels.values(keys * 64);
    const { out, lse } = reference(qkv, spans, shape);
    const dOut = kernels.values(out.length);
    const gradient = referenceBackward(qkv, dOut, spans, shape);

    const bounds = tileBounds([...spans], keys);
    // The queries stand behind a head of something else.
    const lastRows = kernels.values(queries * 40);
    part(qkv, { stride: 64, first: 0, columns: 32, rows: queries }).forEach((value, i) => {
      lastRows[Math.floor(i / 32) * 40 + 8 + i % 32] = value;
    });
    const ofKeys = { stride: 64, first: 32, columns: 32, rows: keys };
    const rows = kernels.rows(queries);
    const tensors = {
      spans: kernels.tensor([queries, 4], spans),
      queryTiles: kernels.tensor([bounds.queryTiles.length / 4, 4], bounds.queryTiles),
      keyTiles: kernels.tensor([bounds.keyTiles.length / 4, 4], bounds.keyTiles),
      queries: { tensor: kernels.tensor([queries, 40], lastRows), first: 8 },
      keys: { tensor: kernels.tensor([keys + 3, 32], part(qkv, ofKeys)), first: 0 },
      keyRows: kernels.rows(keys),
      out: kernels.tensor([queries, 32]),
      lse: kernels.tensor([queries, 4]),
      dOut: kernels.tensor([queries, 32], dOut),
      delta: kernels.tensor([queries, 4]),
      dQueries: kernels.tensorInPlace([queries, 40], new Float32Array(queries * 40)),
      dKeys: kernels.tensor([keys + 3, 32]),
    };
    const attention = new Attention(kernels.plan, shape, queries, tiles, true, true);
    await kernels.run([...attention.forward(rows, tensors), ...attention.backward(rows, tensors)]);
    await kernels.compare(tensors.out, out, FORWARD);
    await kernels.compare(tensors.lse, lse, { ...FORWARD, scale: Math.max(1, largest(lse)) });
    const dQueries = Float64Array.from(
      { length: queries * 40 },
      (_, i) => i % 40 < 8 ? 0 : gradient[(keys - queries + Math.floor(i / 40)) * 64 + i % 40 - 8],
    );
    await kernels.compare(tensors.dQueries, dQueries, BACKWARD);
    // Of keys that no query sees it is 0.
    await kernels.compare(tensors.dKeys, part(gradient, ofKeys), BACKWARD);
  },
);
