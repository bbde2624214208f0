import assert from "node:assert/strict";
import type { Activation } from "../../kernels/activation.ts";
import {
  activationBackwardEpilogue,
  activationEpilogue,
  gluBackwardEpilogue,
  gluEpilogue,
  ropeEpilogue,
} from "../../lib/gpu/epilogues.ts";
import type { Tensor } from "../../lib/gpu/memory.ts";
import type { KernelCall } from "../../lib/gpu/program.ts";
import type { GemmTile } from "../../kernels/gemm.ts";
import { BUFFER_TILES, onlyTile, type Split, TEXTURE_TILE } from "../../lib/gpu/tuning.ts";
import { fromF32, toF32 } from "../../lib/safetensors/dtype.ts";
import { type KernelCase, kernelTest, useGpu } from "./harness.ts";
import { matrixTileHere, missingFor, runnable, subgroupTileHere } from "./subgroups.ts";
import { activate, activateBackward, glu, gluBackward } from "../reference/activation.ts";
import { matrix, multiply, transposed } from "../reference/matrix.ts";
import { rope } from "../reference/rope.ts";

useGpu();

/** What comes with an epilogue, as each tile has it: a bias, a scale, and the function of those that need one. */
interface Way {
  tile: GemmTile;
  act: Activation;
  bias: boolean;
  scale: number;
}

const WAYS: Record<string, Way> = {
  "from storage": { tile: BUFFER_TILES["storage 8x8"], act: "gelu_new", bias: true, scale: 0.75 },
  "from workgroup memory": {
    tile: BUFFER_TILES["workgroup 8x8 of 16x16"],
    act: "silu",
    bias: false,
    scale: 1,
  },
  "of a small workgroup": {
    tile: BUFFER_TILES["workgroup 8x8 of 8x8"],
    act: "gelu",
    bias: true,
    scale: -1.25,
  },
  "by subgroups": { tile: subgroupTileHere("subgroup 8x8"), act: "silu", bias: true, scale: 1 },
  "of float16 matrices": { tile: matrixTileHere("high"), act: "silu", bias: true, scale: 0.75 },
  "of float32 matrices": { tile: matrixTileHere("highest"), act: "gelu", bias: true, scale: -1.25 },
};
const PLAIN = { bias: false, scale: 1 };

/** What a tile needs and the device lacks; subgroups can be done without (see `runnable`). */
const lackedBy = (tile: GemmTile) => tile.memory === "matrix" ? missingFor(tile) : undefined;

/** Rows of the result, the inner dimension, and rows that tensors have beyond those counted. */
interface Size {
  rows: number;
  inner: number;
  spare: number;
  /** Whether no tile can fuse it. */
  alone?: boolean;
}

/**
 * Roundings of the products' sums and of the driver's exp, some of which add up; a wrong element is off by one and
 * more.
 */
const TOLERANCE = 4e-6;

const isFused = (calls: KernelCall[], kind: string) =>
  calls.every(({ label }) => label.startsWith("gemm_")) &&
  calls.some(({ label }) => label.endsWith(` + ${kind}`));

/** X, W and bias of scale (x W^T + bias), of numbers about 1, as tensors and in float64. */
function linearLayer(
  kernels: KernelCase,
  { rows, inner, spare }: Size,
  outputs: number,
  { bias, scale }: Pick<Way, "bias" | "scale">,
) {
  const x = kernels.values(rows * inner);
  const w = kernels.values(outputs * inner, 1 / Math.sqrt(inner));
  const added = kernels.values(outputs);
  const y = multiply(matrix(x, rows, inner), transposed(matrix(w, outputs, inner)));
  return {
    operands: {
      a: kernels.tensor([rows + spare, inner], x),
      b: kernels.tensor([outputs, inner], w),
      bias: bias ? kernels.tensor([outputs, 1], added) : undefined,
    },
    y: Float32Array.from(y, (value, i) => scale * (value + (bias ? added[i % outputs] : 0))),
  };
}

for (const [name, way] of Object.entries(WAYS)) {
  const { tile, act, scale } = way;
  kernelTest(
    `a product ${name} leaves gate, up and the gated unit of both`,
    [
      { rows: 1, inner: 4, width: 4, spare: 0 },
      { rows: 3, inner: 8, width: 12, spare: 2 },
      { rows: 33, inner: 64, width: 20, spare: 1 },
      { rows: 17, inner: 64, width: 32, spare: 3 },
      { rows: 131, inner: 64, width: 64, spare: 5 },
      { rows: 65, inner: 128, width: 96, spare: 2 },
      { rows: 67, inner: 36, width: 132, spare: 0 },
      { rows: 130, inner: 64, width: 192, spare: 1 },
      { rows: 3, inner: 4, width: 6, spare: 0, alone: true },
      { rows: 5, inner: 9, width: 12, spare: 0, alone: true },
      { rows: 31, inner: 20, width: 5, spare: 1, alone: true },
    ],
    async (kernels, size) => {
      const { rows, width, spare, alone = false } = size;
      const { operands, y } = linearLayer(kernels, size, 2 * width, way);
      const gateUp = kernels.tensor([rows + spare, 2 * width]);
      const activated = kernels.tensor([rows + spare, width]);
      const slot = kernels.rows(rows);
      const epilogue = gluEpilogue(slot, act, gateUp, activated);
      const products = kernels.products(onlyTile(tile, { fuses: true }));
      const calls = products.calls("nt", slot, { ...operands, c: gateUp }, { scale, epilogue });
      assert.equal(isFused(calls, "glu"), !alone);
      await kernels.run(runnable(calls, tile));
      await kernels.compare(gateUp, y, { tolerance: TOLERANCE });
      await kernels.compare(activated, glu(y, width, act), { tolerance: TOLERANCE });
    },
    lackedBy(tile),
  );

  kernelTest(
    `a product ${name} goes back through a gated unit`,
    [
      { rows: 1, inner: 4, width: 4, spare: 0 },
      { rows: 3, inner: 8, width: 12, spare: 2 },
      { rows: 33, inner: 68, width: 20, spare: 1 },
      { rows: 17, inner: 64, width: 64, spare: 3 },
      { rows: 131, inner: 192, width: 192, spare: 5 },
      { rows: 257, inner: 64, width: 320, spare: 1 },
      { rows: 3, inner: 4, width: 6, spare: 0, alone: true },
    ],
    async (kernels, size) => {
      const { rows, inner, width, spare, alone = false } = size;
      const dOut = kernels.values(rows * inner);
      const w = kernels.values(inner * width, 1 / Math.sqrt(inner));
      const before = kernels.values(rows * 2 * width, 2);
      const gateUp = kernels.tensorInPlace([rows + spare, 2 * width], before);
      const c = kernels.tensor([rows + spare, width]);
      const operands = {
        a: kernels.tensor([rows + spare, inner], dOut),
        b: kernels.tensor([inner, width], w),
        c,
      };
      const slot = kernels.rows(rows);
      const epilogue = gluBackwardEpilogue(slot, act, gateUp, c);
      const products = kernels.products(onlyTile(tile, { fuses: true }));
      const calls = products.calls("nn", slot, operands, { scale, epilogue });
      assert.equal(isFused(calls, "glu_backward"), !alone);
      await kernels.run(runnable(calls, tile));
      const product = multiply(matrix(dOut, rows, inner), matrix(w, inner, width));
      const dActivated = product.map((value) => scale * value);
      const expected = gluBackward(before, dActivated, width, act);
      await kernels.compare(gateUp, expected, { tolerance: TOLERANCE });
      await kernels.compare(c, glu(before, width, act), { tolerance: TOLERANCE });
    },
    lackedBy(tile),
  );

  kernelTest(
    `a product ${name} turns the heads of queries and keys, and leaves values`,
    [
      { rows: 1, inner: 4, heads: 1, keyValueHeads: 1, headDim: 8, spare: 0 },
      { rows: 3, inner: 12, heads: 2, keyValueHeads: 1, headDim: 24, spare: 2 },
      { rows: 33, inner: 64, heads: 6, keyValueHeads: 1, headDim: 16, spare: 1 },
      { rows: 131, inner: 64, heads: 3, keyValueHeads: 3, headDim: 64, spare: 4 },
      { rows: 65, inner: 128, heads: 5, keyValueHeads: 1, headDim: 128, spare: 0 },
      { rows: 20, inner: 68, heads: 2, keyValueHeads: 1, headDim: 80, spare: 1 },
      { rows: 17, inner: 64, heads: 5, keyValueHeads: 2, headDim: 32, spare: 1 },
      { rows: 33, inner: 64, heads: 3, keyValueHeads: 1, headDim: 32, spare: 1, dimensions: 8 },
      { rows: 3, inner: 5, heads: 2, keyValueHeads: 1, headDim: 6, spare: 1, alone: true },
      { rows: 3, inner: 16, heads: 2, keyValueHeads: 1, headDim: 24, spare: 1, dimensions: 16, alone: true },
      {
        rows: 3,
        inner: 16,
        heads: 2,
        keyValueHeads: 1,
        headDim: 8,
        spare: 1,
        interleaved: true,
        alone: true,
      },
      { rows: 33, inner: 16, heads: 1, keyValueHeads: 1, headDim: 20, spare: 0, alone: true },
    ],
    async (kernels, size) => {
      const { rows, heads, keyValueHeads, headDim, spare, alone = false } = size;
      const { dimensions = headDim, interleaved = false } = size;
      const width = (heads + 2 * keyValueHeads) * headDim;
      const { operands, y } = linearLayer(kernels, size, width, way);
      const positions = Array.from({ length: rows }, () => kernels.integer(0, rows + 8));
      const spans = Uint32Array.from(positions.flatMap((position) => [0, 0, 0, position]));
      const angles = Array.from({ length: rows + 9 }, () => kernels.values(dimensions / 2, 3));
      const table = Float32Array.from(angles.flatMap((row) => [...row.map(Math.cos), ...row.map(Math.sin)]));
      const qkv = kernels.tensor([rows + spare, width]);
      const slot = kernels.rows(rows);
      const epilogue = ropeEpilogue(
        slot,
        {
          spans: kernels.tensor([rows + spare, 4], spans),
          cosSin: kernels.tensor([rows + 9, dimensions], table),
          qkv,
        },
        size,
        { dimensions, interleaved },
      );
      const products = kernels.products(onlyTile(tile, { fuses: true }));
      const calls = products.calls("nt", slot, { ...operands, c: qkv }, { scale, epilogue });
      assert.equal(isFused(calls, "rope"), !alone);
      await kernels.run(runnable(calls, tile));
      const shape = { heads: heads + keyValueHeads, headDim, width, dimensions, interleaved };
      await kernels.compare(qkv, rope(y, positions, table, shape, "forward"), { tolerance: TOLERANCE });
    },
    lackedBy(tile),
  );
}

const ACTIVATED = [
  { rows: 3, inner: 8, width: 12, spare: 2 },
  { rows: 33, inner: 64, width: 20, spare: 1 },
  { rows: 67, inner: 36, width: 132, spare: 0 },
  { rows: 5, inner: 20, width: 6, spare: 1, alone: true },
];
for (const [name, way] of Object.entries(WAYS).filter(([, { bias, scale }]) => bias && scale !== 1)) {
  const { tile, act, scale } = way;
  kernelTest(
    `a product ${name} leaves its sums and an activation of them`,
    ACTIVATED,
    async (kernels, size) => {
      const { rows, width, spare, alone = false } = size;
      const { operands, y } = linearLayer(kernels, size, width, way);
      const [c, activated] = [0, 1].map(() => kernels.tensor([rows + spare, width]));
      const slot = kernels.rows(rows);
      const epilogue = activationEpilogue(slot, act, c, activated);
      const products = kernels.products(onlyTile(tile, { fuses: true }));
      const calls = products.calls("nt", slot, { ...operands, c }, { scale, epilogue });
      assert.equal(isFused(calls, "activation"), !alone);
      await kernels.run(runnable(calls, tile));
      await kernels.compare(c, y, { tolerance: TOLERANCE });
      await kernels.compare(activated, activate(y, act), { tolerance: TOLERANCE });
    },
    lackedBy(tile),
  );

  const inParts: (typeof ACTIVATED[number] & { split?: Split })[] = [
    ...ACTIVATED,
    { ...ACTIVATED[1], split: { sums: 2 ** 16, depth: 1 } },
  ];
  kernelTest(`a product ${name} goes back through an activation`, inParts, async (kernels, size) => {
    const { rows, inner, width, spare, alone = false, split } = size;
    const dOut = kernels.values(rows * inner);
    const w = kernels.values(inner * width, 1 / Math.sqrt(inner));
    const before = kernels.values(rows * width, 2);
    const x = kernels.tensorInPlace([rows + spare, width], before);
    const c = kernels.tensor([rows + spare, width]);
    const operands = {
      a: kernels.tensor([rows + spare, inner], dOut),
      b: kernels.tensor([inner, width], w),
      c,
    };
    const slot = kernels.rows(rows);
    const epilogue = activationBackwardEpilogue(slot, act, x, c);
    const calls = kernels.products(onlyTile(tile, { fuses: true, split }))
      .calls("nn", slot, operands, { scale, epilogue });
    const isSplit = split && (tile.memory === "workgroup" || tile.memory === "matrix");
    const products = calls.filter(({ label }) => label !== "gemm_largest");
    assert.equal(calls.at(-1)!.label === "gemm_parts" || isFused(calls, "activation_backward"), !alone);
    assert.equal(products.length, isSplit ? 2 : 1 + Number(alone));
    await kernels.run(runnable(calls, tile));
    const product = multiply(matrix(dOut, rows, inner), matrix(w, inner, width));
    const dActivated = product.map((value) => scale * value);
    await kernels.compare(x, activateBackward(before, dActivated, act), { tolerance: TOLERANCE });
    await kernels.compare(c, activate(before, act), { tolerance: TOLERANCE });
  }, lackedBy(tile));
}

kernelTest(
  "a tile of four columns a thread has a gated unit done after it, and a product that is not to be fused too",
  [
    { rows: 33, inner: 64, spare: 1, tile: BUFFER_TILES["workgroup 4x4 of 16x16"], fuses: true },
    { rows: 33, inner: 64, spare: 1, tile: BUFFER_TILES["storage 8x8"], fuses: false },
    { rows: 33, inner: 64, spare: 1, tile: { ...TEXTURE_TILE, worth: 0 }, fuses: true },
  ],
  async (kernels, { tile, fuses, ...size }) => {
    const width = 64;
    const { operands, y } = linearLayer(kernels, size, 2 * width, PLAIN);
    const c = kernels.tensor([size.rows + size.spare, 2 * width]);
    const activated = kernels.tensor([size.rows + size.spare, width]);
    const slot = kernels.rows(size.rows);
    const epilogue = gluEpilogue(slot, "silu", c, activated);
    const products = kernels.products(onlyTile(tile, { fuses }));
    const calls = products.calls("nt", slot, { ...operands, c }, { epilogue });
    assert.deepEqual(calls.map(({ label }) => label), [`gemm_nt rowsx128x64`, "glu"]);
    await kernels.run(runnable(calls, tile));
    await kernels.compare(activated, glu(y, width), { tolerance: TOLERANCE });
  },
);

kernelTest(
  "a matrix stored in two bytes takes an epilogue too",
  (["bf16", "f16"] as const).flatMap((storage) =>
    [BUFFER_TILES["storage 8x8"], BUFFER_TILES["workgroup 8x8 of 8x8"]].map((tile) => ({
      storage,
      tile,
      ...{ rows: 33, inner: 68, width: 20, spare: 1 },
    }))
  ),
  async (kernels, { storage, tile, ...size }) => {
    const { rows, inner, width, spare } = size;
    const dtype = storage === "bf16" ? "BF16" : "F16";
    const x = kernels.values(rows * inner);
    const halves = fromF32(kernels.values(2 * width * inner, 1 / Math.sqrt(inner)), dtype);
    const words = new Uint32Array(halves.buffer);
    const b: Tensor = { ...kernels.tensor([words.length], words), shape: [2 * width, inner], storage };
    const gateUp = kernels.tensor([rows + spare, 2 * width]);
    const activated = kernels.tensor([rows + spare, width]);
    const slot = kernels.rows(rows);
    const operands = { a: kernels.tensor([rows + spare, inner], x), b, c: gateUp };
    const calls = kernels.products(onlyTile(tile, { fuses: true })).calls("nt", slot, operands, {
      epilogue: gluEpilogue(slot, "silu", gateUp, activated),
    });
    assert.ok(isFused(calls, "glu"));
    await kernels.run(runnable(calls, tile));
    const w = matrix(toF32(halves, dtype), 2 * width, inner);
    const y = Float32Array.from(multiply(matrix(x, rows, inner), transposed(w)));
    await kernels.compare(gateUp, y, { tolerance: TOLERANCE });
    await kernels.compare(activated, glu(y, width), { tolerance: TOLERANCE });
  },
);
