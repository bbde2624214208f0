import assert from "node:assert/strict";
import { type GemmTile, gemmVariant } from "../../kernels/gemm.ts";
import type { QuantizationOptions } from "../../kernels/quantized.ts";
import type { Tensor } from "../../lib/gpu/memory.ts";
import { BUFFER_TILES, onlyTile, type ProductTiles, rowTiles } from "../../lib/gpu/tuning.ts";
import { quantizationOf, quantizedWords } from "../../lib/parameters/quantized_matrix.ts";
import type { ParameterPart, ParameterSpec } from "../../lib/parameters/parameter.ts";
import type { TensorReader } from "../../lib/safetensors/read.ts";
import { dequantized, withoutTies } from "../reference/quantized.ts";
import { magnitudes, matrix, multiply, transposed } from "../reference/matrix.ts";
import { type KernelCase, kernelTest, largest, useGpu } from "./harness.ts";
import { matrixTileHere, missingFor, runnable, subgroupTileHere } from "./subgroups.ts";

useGpu();

const NF4: QuantizationOptions = { type: "nf4" };
const DOUBLE_FP4: QuantizationOptions = { type: "fp4", double: true };
const INT8: QuantizationOptions = { type: "int8" };

interface Product {
  layout: "nt" | "nn";
  m: number;
  /** Rows of the matrix's parts. */
  rows: number[];
  columns: number;
  storage: QuantizationOptions;
  order?: ParameterPart["order"];
}

/** A parameter of parts in which every block has another scale, and its words as `quantizedWords` makes them. */
async function quantizedParameter(kernels: KernelCase, { rows, columns, storage, order }: Product) {
  const parts = rows.map((rows, i) => ({ name: `${i}`, rows, ...(order && { order }) }));
  const values = parts.map(({ rows }) =>
    withoutTies(
      kernels.values(rows * columns).map((value, i) => value * 1.5 ** (i / 64 % 7)),
      columns,
      storage,
    )
  );
  const spec: ParameterSpec = { name: "w", parts, columns, kind: "matrix", role: "frozen", storage };
  const reader = {
    readF32: (name: string, first: number, count: number) =>
      Promise.resolve(values[Number(name)].slice(first, first + count)),
  } as unknown as TensorReader;
  const total = rows.reduce((sum, rows) => sum + rows);
  const quantized = quantizationOf(spec)!;
  const [words] = await quantizedWords(reader, spec, [{ firstRow: 0, rows: total }], quantized);
  const tensor: Tensor = { ...kernels.tensor([words.length], words), shape: [total, columns], quantized };
  const stands = matrix(
    parts.flatMap((part, i) => [...dequantized(values[i], part, columns, storage)]),
    total,
    columns,
  );
  return { tensor, stands };
}

async function checkProduct(kernels: KernelCase, product: Product, tiles: ProductTiles): Promise<void> {
  const { layout, m } = product;
  const { tensor: b, stands } = await quantizedParameter(kernels, product);
  const right = layout === "nt" ? transposed(stands) : stands;
  const [n, k] = [right.columns, right.rows];
  const a = kernels.values(m * k);
  const stride = Math.ceil(n / 4) * 4;
  const c = kernels.tensor([m + 3, stride]);
  const operands = { a: kernels.tensor([m + 3, k], a), b, c };
  const products = kernels.products(tiles);
  const calls = products.calls(layout, kernels.rows(m), operands);
  await kernels.run([...products.held?.calls ?? [], ...runnable(calls, tiles.buffer["nt wide"])]);
  const left = matrix(a, m, k);
  await kernels.compare(c, multiply(left, right), {
    tolerance: 1e-6,
    scale: largest(multiply(magnitudes(left), magnitudes(right))),
    columns: n,
    stride,
  });
}

/** Blocks within rows, over the ends of rows, and of parts that end within one; groups of 64, 32 and 4. */
const PRODUCTS: Product[] = [
  { layout: "nt", m: 5, rows: [33, 31], columns: 64, storage: NF4 },
  { layout: "nn", m: 33, rows: [5, 3], columns: 36, storage: NF4 },
  { layout: "nt", m: 3, rows: [24, 12], columns: 96, storage: DOUBLE_FP4 },
  { layout: "nn", m: 3, rows: [64, 64], columns: 320, storage: DOUBLE_FP4 },
  { layout: "nt", m: 9, rows: [7, 2], columns: 20, storage: INT8 },
];

const tiles: Record<string, GemmTile> = {
  "tiles in storage memory": BUFFER_TILES["storage 8x8"],
  "tiles in workgroup memory": BUFFER_TILES["workgroup 4x4 of 8x8"],
  "tiles for subgroups": subgroupTileHere("subgroup 8x8"),
  "tiles of float16 matrices": matrixTileHere("high"),
  "tiles of float32 matrices": matrixTileHere("highest"),
};
for (const [kind, tile] of Object.entries(tiles)) {
  kernelTest(
    `a quantized matrix is read as what it stands for (${kind})`,
    tile.memory === "storage" ? PRODUCTS : PRODUCTS.slice(1, 3),
    (kernels, product) => checkProduct(kernels, product, onlyTile(tile)),
    missingFor(tile),
  );
}

kernelTest(
  "a quantized matrix is read by steps of a GPU",
  PRODUCTS.filter(({ layout }) => layout === "nt"),
  (kernels, product) => checkProduct(kernels, product, onlyTile({ ...rowTiles("gpu", 1).buffer["nt wide"] })),
);

kernelTest(
  "steps of a driver on the processor hold a quantized matrix unpacked",
  PRODUCTS.filter(({ layout }) => layout === "nt"),
  (kernels, product) => checkProduct(kernels, product, rowTiles("software", product.m)),
);

kernelTest(
  "textures take quantized matrices block by block",
  [
    { layout: "nt", m: 67, rows: [130, 3], columns: 192, storage: NF4 },
    { layout: "nn", m: 129, rows: [70, 61], columns: 128, storage: NF4 },
    { layout: "nn", m: 5, rows: [64, 64], columns: 192, storage: DOUBLE_FP4 },
    { layout: "nt", m: 5, rows: [64, 5], columns: 128, storage: INT8 },
  ] as Product[],
  (kernels, product) =>
    checkProduct(
      kernels,
      product,
      onlyTile({ memory: "texture", threadRows: 8, threadColumns: 8, rows: 64, columns: 64, worth: 0 }),
    ),
);

kernelTest(
  "rows that lie head by head in the checkpoint keep their own scales",
  [
    { storage: { type: "nf4", double: true } as const, columns: 32 },
    { storage: INT8, columns: 32 },
  ],
  (kernels, { storage, columns }) => {
    const order = { heads: 4, keyValueHeads: 2, headDim: 8 };
    return checkProduct(
      kernels,
      { layout: "nn", m: 3, rows: [64], columns, storage, order },
      onlyTile(tiles["tiles in storage memory"]),
    );
  },
);

Deno.test("weights that are no numbers are not quantized, and named", async () => {
  const values = new Float32Array(256).fill(1).fill(NaN, 70, 71);
  const reader = {
    tensors: new Map(),
    readF32: (_: string, first: number, count: number) => Promise.resolve(values.slice(first, first + count)),
  } as unknown as TensorReader;
  for (const storage of [NF4, INT8]) {
    const parts = [{ name: "w", rows: 2 }];
    const spec: ParameterSpec = { name: "w", parts, columns: 128, kind: "matrix", role: "frozen", storage };
    await assert.rejects(
      quantizedWords(reader, spec, [{ firstRow: 0, rows: 2 }], quantizationOf(spec)!),
      { name: "UserError", message: "w holds a weight that is not finite, and cannot be quantized" },
    );
  }
});

Deno.test("rows that are no multiple of 4 are not quantized", () => {
  assert.throws(
    () => gemmVariant("nt", { kind: "none" }, { k: 62, lda: 62, ldb: 62, ldc: 4 }, { type: "nf4", group: 2 }),
    /read as nf4: expected a multiple of 4/,
  );
  const spec: ParameterSpec = {
    ...{ name: "w", parts: [{ name: "w", rows: 4 }], columns: 62, kind: "matrix", role: "frozen" },
    storage: NF4,
  };
  assert.equal(quantizationOf(spec), undefined);
});
