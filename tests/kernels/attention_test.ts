import type { AttentionShape, AttentionTiles, RegisterTile } from "../../kernels/attention.ts";
import { pack } from "../../lib/batch/pack.ts";
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

// Few shapes, since each is three or four kernels that take up to a second to compile: every head_dim with heads of its
// own, on a GPU's tiles, and with small tiles of registers that leave a part over, of tokens, members and blocks.
const SHAPES: (AttentionShape & { tiles: AttentionTiles })[] = [
  { heads: 1, keyValueHeads: 1, headDim: 16, tiles: registers("storage", 3, 2) },
  { heads: 7, keyValueHeads: 1, headDim: 16, tiles: registers("storage", 5, 1) },
  { heads: 4, keyValueHeads: 2, headDim: 18, tiles: registers("texture", 2, 2) },
  { heads: 3, keyValueHeads: 3, headDim: 24, tiles: registers("texture", 3, 1) },
  { heads: 9, keyValueHeads: 3, headDim: 64, tiles: ADAPTERS.software },
  { heads: 4, keyValueHeads: 2, headDim: 80, tiles: registers("texture", 1, 3) },
  { heads: 4, keyValueHeads: 1, headDim: 128, tiles: ADAPTERS.software },
  { heads: 1, keyValueHeads: 1, headDim: 16, tiles: ADAPTERS.gpu },
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
}
const CASES: Case[] = SHAPES.flatMap((shape) => [
  ...LENGTHS.map((tokens) => ({ ...shape, tokens })),
  { ...shape, tokens: 230, apart: true },
  { ...shape, tokens: 100, slidingWindow: 20 },
]);

function random(kernels: KernelCase, shape: Case) {
  const { heads, keyValueHeads, headDim, tiles: ways, tokens, apart, slidingWindow } = shape;
  const spare = kernels.integer(0, 40);
  const capacity = tokens + spare;
  const pairs = apart ? [apartPair(kernels.uniform)] : randomPairs(kernels.uniform, tokens);
  const batch = pack(pairs, [slidingWindow]);
  const width = (heads + 2 * keyValueHeads) * headDim;
  const qkv = kernels.values(tokens * width);
  const tiles = (data: Uint32Array) => kernels.tensor([Math.ceil(capacity / 32), 4], data);
  return {
    attention: new Attention(kernels.plan, shape, capacity, ways, true),
    batch,
    qkv,
    output: (...columns: number[]) => kernels.tensor([capacity, ...columns]),
    input: (values: Float32Array, ...columns: number[]) => kernels.tensor([capacity, ...columns], values),
    tensors: {
      spans: kernels.tensor([capacity, 4], batch.masks[0].spans),
      queryTiles: tiles(batch.masks[0].queryTiles),
      keyTiles: tiles(batch.masks[0].keyTiles),
      qkv: kernels.tensor([capacity, width], qkv),
    },
  };
}

// In the forward pass scores are sums of head_dim products: about 1e-7 * sqrt(128) / sqrt(128) off, times the
// few units that a score is large, and the exponential passes this on as a relative error.
const FORWARD = { tolerance: 1e-6 };
// The backward pass adds the difference dP - delta, of terms that are sqrt(head_dim) times as large as what
// is left of them.
const BACKWARD = { tolerance: 3e-6 };

kernelTest("attention over packed pairs equals the float64 softmax", CASES, async (kernels, shape) => {
  const { heads, headDim, tokens } = shape;
  const { attention, batch, qkv, output, tensors } = random(kernels, shape);
  const out = output(heads, headDim);
  const lse = output(heads);
  await kernels.run(attention.forward(kernels.rows(tokens), { ...tensors, out, lse }));
  const expected = reference(qkv, batch.masks[0].spans, shape);
  await kernels.compare(out, expected.out, FORWARD);
  // A score is a standard normal number, which may come to almost nothing where a token sees only itself.
  await kernels.compare(lse, expected.lse, { ...FORWARD, scale: Math.max(1, largest(expected.lse)) });
});

kernelTest(
  "the gradients of queries, keys and values equal those in float64",
  CASES,
  async (kernels, shape) => {
    const { heads, headDim, tokens } = shape;
    const { attention, batch, qkv, input, output, tensors } = random(kernels, shape);
    const { out, lse } = reference(qkv, batch.masks[0].spans, shape);
    const dOut = kernels.values(out.length);
    const delta = output(heads);
    const dQkv = output(qkv.length / tokens);
    await kernels.run(attention.backward(kernels.rows(tokens), {
      ...tensors,
      out: input(Float32Array.from(out), heads, headDim),
      lse: input(Float32Array.from(lse), heads),
      dOut: input(dOut, heads, headDim),
      delta,
      dQkv,
    }));
    const products = out.map((value, i) => value * dOut[i]);
    const sum = (of: number) =>
      products.subarray(of * headDim, (of + 1) * headDim).reduce((a, b) => a + b, 0);
    const expectedDelta = Float64Array.from({ length: tokens * heads }, (_, of) => sum(of));
    await kernels.compare(delta, expectedDelta, { ...BACKWARD, scale: Math.max(1, largest(expectedDelta)) });
    await kernels.compare(dQkv, referenceBackward(qkv, dOut, batch.masks[0].spans, shape), BACKWARD);
  },
);
