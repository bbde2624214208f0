import {
  BUFFER_TILES,
  bufferTile,
  onlyTile,
  SUBGROUP_TILES,
  type SubgroupTileName,
  TEXTURE_TILE,
  type TextureProductTile,
} from "../../lib/gpu/tuning.ts";
import type { GemmTile } from "../../kernels/gemm.ts";
import type { Tensor } from "../../lib/gpu/memory.ts";
import { add } from "../../lib/gpu/operations.ts";
import { kernelTest, largest, useGpu } from "./harness.ts";
import { checkProduct, checkStored, type Product, random, storedProducts } from "./product_case.ts";
import { missingFor, subgroupTileHere } from "./subgroups.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { magnitudes, type Matrix, matrix, multiply, transposed } from "../reference/matrix.ts";

useGpu();

const tiles: Record<string, GemmTile> = {
  "tiles in storage memory": BUFFER_TILES["storage 16x16"],
  "tiles in workgroup memory": BUFFER_TILES["workgroup 8x8 of 16x16"],
  "tiles for subgroups": subgroupTileHere("subgroup 16x16"),
};

/** Checks `products` with the tiles for drivers on the processor, with those for GPUs, and with those for subgroups. */
function productTest(name: string, products: Product[]): void {
  for (const [kind, tile] of Object.entries(tiles)) {
    kernelTest(
      `${name} (${kind})`,
      products,
      (kernels, product) => checkProduct(kernels, product, tile),
      missingFor(tile),
    );
  }
}

const everyTile: Record<string, GemmTile> = {
  ...BUFFER_TILES,
  ...Object.fromEntries(
    Object.keys(SUBGROUP_TILES).map((name) => [name, subgroupTileHere(name as SubgroupTileName)]),
  ),
  // Every subgroup is larger than it must be, and a workgroup has several.
  "subgroup 8x8 for half the lanes": {
    ...subgroupTileHere("subgroup 8x8"),
    lanes: subgroupTileHere("subgroup 8x8").lanes / 2,
    groupColumns: 32,
  },
};
for (const [name, tile] of Object.entries(everyTile)) {
  kernelTest(
    `every layout of the tile ${name} equals the float64 product`,
    (["nt", "nn", "tn"] as const).flatMap((layout): Product[] => [
      { layout, m: 132, n: 132, k: 36, spare: 1 },
      { layout, m: 33, n: 20, k: 100 },
    ]),
    (kernels, product) => checkProduct(kernels, product, tile),
    missingFor(tile),
  );
}

kernelTest(
  "tiles as deep as a GPU has them equal the float64 product",
  [
    { layout: "nt", m: 33, n: 36, k: 100, spare: 1 },
    { layout: "nt", m: 5, n: 132, k: 31 },
    { layout: "tn", m: 36, n: 20, k: 67 },
  ] as Product[],
  (kernels, product) =>
    checkProduct(kernels, product, bufferTile("workgroup 4x4 of 8x8", { isSoftware: false })),
);

/** As deep as they come: C has 9 tiles of 32 x 32 at most, and parts of a step or two. */
const SPLIT = { sums: 100_000, depth: 1 };

kernelTest(
  "a product in parts, some of them empty, equals the float64 product",
  [
    { layout: "nn", m: 3, n: 5, k: 7, spare: 4 },
    { layout: "nn", m: 33, n: 131, k: 66, padA: 1, scale: -1.5 },
    { layout: "nn", m: 70, n: 132, k: 260, spare: 30 },
    { layout: "nn", m: 31, n: 16, k: 20, epilogue: "residual" },
    { layout: "nn", m: 31, n: 18, k: 20, padC: 2, epilogue: "always", scale: 0.22, spare: 1 },
    { layout: "tn", m: 16, n: 36, k: 133, spare: 200, epilogue: "accumulate", accumulate: true },
    { layout: "tn", m: 16, n: 36, k: 133, spare: 200, epilogue: "accumulate" },
    { layout: "tn", m: 65, n: 131, k: 33, padA: 3, spare: 31, epilogue: "accumulate", accumulate: true },
  ] as Product[],
  (kernels, product) => checkProduct(kernels, product, BUFFER_TILES["workgroup 4x4 of 8x8"], SPLIT),
);

productTest(
  "C = A B^T equals the float64 product",
  [
    { layout: "nt", m: 1, n: 1, k: 1 },
    { layout: "nt", m: 3, n: 5, k: 7, spare: 4 },
    { layout: "nt", m: 17, n: 33, k: 9 },
    { layout: "nt", m: 33, n: 131, k: 6, spare: 1 },
    { layout: "nt", m: 31, n: 3, k: 8, spare: 2 },
    { layout: "nt", m: 65, n: 130, k: 16 },
    { layout: "nt", m: 70, n: 36, k: 20, spare: 30 },
    { layout: "nt", m: 1, n: 132, k: 100 },
    { layout: "nt", m: 130, n: 144, k: 260, spare: 2 },
  ],
);

productTest(
  "C = A B^T leaves room between rows of C, as for logits of an odd vocabulary",
  [
    { layout: "nt", m: 3, n: 5, k: 16, padC: 3, spare: 2 },
    { layout: "nt", m: 31, n: 5, k: 6, padC: 3, spare: 1 },
    { layout: "nt", m: 33, n: 66, k: 20, padC: 2 },
    { layout: "nt", m: 65, n: 259, k: 36, padC: 1, spare: 63 },
  ],
);

productTest(
  "C = A B equals the float64 product",
  [
    { layout: "nn", m: 1, n: 1, k: 1 },
    { layout: "nn", m: 3, n: 5, k: 7, spare: 4 },
    { layout: "nn", m: 17, n: 33, k: 9 },
    { layout: "nn", m: 33, n: 131, k: 6 },
    { layout: "nn", m: 31, n: 3, k: 8, spare: 2 },
    { layout: "nn", m: 65, n: 130, k: 16 },
    { layout: "nn", m: 70, n: 20, k: 132, spare: 30 },
    { layout: "nn", m: 130, n: 144, k: 260 },
  ],
);

productTest(
  "C = A B passes over the room between rows of A, as for logits of an odd vocabulary",
  [
    { layout: "nn", m: 3, n: 16, k: 5, padA: 3, spare: 2 },
    { layout: "nn", m: 31, n: 6, k: 5, padA: 3, spare: 1 },
    { layout: "nn", m: 33, n: 36, k: 66, padA: 2 },
    { layout: "nn", m: 65, n: 144, k: 259, padA: 1, spare: 63 },
  ],
);

productTest(
  "C = A^T B is overwritten or added to, as the row count says",
  [
    { m: 1, n: 1, k: 1 },
    { m: 5, n: 3, k: 7, spare: 3 },
    { m: 33, n: 17, k: 1 },
    { m: 65, n: 131, k: 33, spare: 31 },
    { m: 16, n: 36, k: 3 },
    { m: 100, n: 20, k: 65, spare: 1 },
    { m: 20, n: 132, k: 31 },
    { m: 5, n: 20, k: 33, padA: 3 },
    { m: 5, n: 6, k: 31, padA: 3 },
    { m: 66, n: 144, k: 130, padA: 2, spare: 5 },
  ].flatMap((size) =>
    [false, true].map((accumulate): Product => ({
      ...size,
      layout: "tn",
      epilogue: "accumulate",
      accumulate,
    }))
  ),
);

productTest(
  "C = A B^T + residual equals the float64 sum",
  [
    { layout: "nt", m: 1, n: 1, k: 1, epilogue: "residual" },
    { layout: "nt", m: 17, n: 33, k: 9, epilogue: "residual", spare: 16 },
    { layout: "nt", m: 33, n: 20, k: 66, epilogue: "residual" },
    { layout: "nt", m: 70, n: 20, k: 100, epilogue: "residual", spare: 3 },
    { layout: "nt", m: 31, n: 132, k: 16, epilogue: "residual", spare: 1 },
  ],
);

productTest(
  "every layout takes every epilogue",
  [
    { layout: "nt", m: 33, n: 20, k: 36, epilogue: "accumulate", accumulate: true, spare: 2 },
    { layout: "nt", m: 33, n: 20, k: 36, epilogue: "accumulate", accumulate: false, spare: 2 },
    { layout: "nn", m: 3, n: 5, k: 7, epilogue: "accumulate", accumulate: true },
    { layout: "nn", m: 3, n: 5, k: 7, epilogue: "accumulate", accumulate: false },
    { layout: "nn", m: 31, n: 16, k: 20, epilogue: "residual" },
    { layout: "tn", m: 5, n: 7, k: 33 },
  ],
);

/** Where a bias and a scale come in, by the smaller tiles, which compile sooner. */
for (const name of ["storage 8x8", "workgroup 4x4 of 8x8", "subgroup 8x8"] as const) {
  const tile = name === "subgroup 8x8" ? subgroupTileHere(name) : BUFFER_TILES[name];
  kernelTest(
    `a product and its bias are scaled before a residual or what is there (${name})`,
    [
      { layout: "nt", m: 17, n: 33, k: 9, bias: true, scale: 0.22, spare: 16 },
      { layout: "nt", m: 1, n: 1, k: 1, bias: true },
      // As logits of an odd vocabulary: the bias ends within four columns.
      { layout: "nt", m: 3, n: 5, k: 16, padC: 3, bias: true, spare: 2 },
      { layout: "nt", m: 33, n: 131, k: 20, padC: 1, bias: true, scale: -1.5 },
      { layout: "nt", m: 31, n: 132, k: 16, epilogue: "residual", bias: true, scale: 0.22, spare: 1 },
      { layout: "nn", m: 31, n: 16, k: 20, epilogue: "always", scale: 0.22, spare: 1 },
      { layout: "tn", m: 20, n: 132, k: 31, epilogue: "accumulate", accumulate: true, scale: -1.5 },
      { layout: "tn", m: 20, n: 132, k: 31, epilogue: "accumulate", scale: -1.5, spare: 2 },
    ] as Product[],
    (kernels, product) => checkProduct(kernels, product, tile),
    missingFor(tile),
  );
}

/** Textures so small that products of a few thousand elements take several blocks in every direction. */
const smallTextures: TextureProductTile = { ...TEXTURE_TILE, rows: 64, columns: 64, worth: 0 };

kernelTest(
  "products by way of textures equal the float64 product, whatever the blocks",
  (["nt", "nn", "tn"] as const).flatMap((layout): Product[] => [
    { layout, m: 64, n: 64, k: 64 },
    { layout, m: 128, n: 64, k: 192 },
    { layout, m: 64, n: 192, k: 128 },
    ...(layout === "tn"
      ? [
        { layout, m: 64, n: 128, k: 1 },
        { layout, m: 128, n: 64, k: 3, spare: 70 },
        { layout, m: 192, n: 128, k: 131, spare: 4 },
        { layout, m: 64, n: 64, k: 64, spare: 65 },
        ...[false, true].map((accumulate) => (
          { layout, m: 128, n: 64, k: 129, epilogue: "accumulate" as const, accumulate, spare: 3 }
        )),
      ]
      : [
        { layout, m: 1, n: 128, k: 64 },
        { layout, m: 3, n: 64, k: 128, spare: 130 },
        { layout, m: 67, n: 192, k: 64, spare: 2 },
        { layout, m: 129, n: 128, k: 192, spare: 1, epilogue: "residual" as const },
        { layout, m: 5, n: 64, k: 128, epilogue: "always" as const, scale: 0.22 },
      ]),
  ]).concat([
    // A vocabulary that is no multiple of 64, with room between rows of logits.
    { layout: "nt", m: 70, n: 131, k: 64, padC: 61 },
    { layout: "nt", m: 70, n: 131, k: 128, padC: 61, bias: true, scale: -1.5 },
    { layout: "nt", m: 67, n: 192, k: 192, epilogue: "residual", bias: true, scale: 0.22, spare: 2 },
    { layout: "nn", m: 70, n: 64, k: 131, padA: 61 },
    { layout: "tn", m: 131, n: 64, k: 70, padA: 61 },
  ]),
  (kernels, product) => checkProduct(kernels, product, smallTextures),
);

/** Rows of so many floats, 4 times 1, 3, 4 and 12: the ranks of adapters, alone and three beside each other. */
const RANKS = [4, 12, 16, 48];

kernelTest(
  "a kernel copies operands whose rows are no multiple of 256 bytes, as those of adapters are",
  RANKS.flatMap((rank): Product[] => [
    // In the order of an adapter's products: what is added to its layer's, and its gradients, of 1 to 131 tokens.
    { layout: "nt", m: 37, n: rank, k: 64, spare: 60 },
    { layout: "nt", m: 131, n: 192, k: rank, scale: 2, spare: 1 },
    { layout: "nn", m: 1, n: rank, k: 128, scale: 2, spare: 3 },
    { layout: "nn", m: 67, n: 64, k: rank, epilogue: "always", spare: 2 },
    ...[false, true].map((accumulate): Product => (
      { layout: "tn", m: rank, n: 64, k: 3, epilogue: "accumulate", accumulate, spare: 66 }
    )),
    { layout: "tn", m: 192, n: rank, k: 131, epilogue: "accumulate", accumulate: true, scale: 2, spare: 1 },
  ]).concat([
    { layout: "nt", m: 65, n: 64, k: 68, epilogue: "residual", bias: true },
    { layout: "nt", m: 66, n: 70, k: 132, padC: 2 },
    { layout: "nn", m: 70, n: 20, k: 131, padA: 5 },
    { layout: "tn", m: 131, n: 20, k: 70, padA: 5, padC: 4, spare: 64 },
  ]),
  (kernels, product) => checkProduct(kernels, product, smallTextures),
);

/** Ways of computing: by textures both products are one, and from buffers one is added to the other. */
const joining = { "by way of textures": smallTextures, "from buffers": BUFFER_TILES["storage 8x8"] };
for (const [way, tile] of Object.entries(joining)) {
  kernelTest(
    `a product and another that is added to it are scaled before a residual or what is there (${way})`,
    (["nt", "nn"] as const).flatMap((layout) => [
      { layout, m: 37, n: 64, k: 64, more: 16, spare: 30 },
      { layout, m: 70, n: 192, k: 132, more: 12, scale: 0.22, adds: true },
      // Blocks in every direction, of which only the first along the inner dimension have room for more.
      {
        layout,
        m: 131,
        n: 128,
        k: 192,
        more: 4,
        residual: true,
        bias: layout === "nt",
        scale: -1.5,
        spare: 1,
      },
      { layout, m: 3, n: 64, k: 128, more: 48, spare: 64 },
      { layout, m: 5, n: 12, k: 6, more: 3 },
    ]),
    async (kernels, { layout, m, n, k, more, spare = 0, scale = 1, adds = false, residual, bias }) => {
      const [a, h] = [k, more].map((columns) => random(kernels, m, columns, columns));
      const [b, g] = [k, more].map((depth) =>
        layout === "nt" ? random(kernels, n, depth, depth) : random(kernels, depth, n, n)
      );
      const [before, added] = [random(kernels, m, n, n), kernels.values(n)];
      const tensor = ({ data, view: { columns } }: typeof a, rows = m + spare) =>
        kernels.tensor([rows, columns], data);
      const c = adds ? kernels.tensorInPlace([m + spare, n], before.data) : kernels.tensor([m + spare, n]);
      const operands = {
        a: tensor(a),
        b: tensor(b, b.view.rows),
        c,
        ...(bias && { bias: kernels.tensor([n, 1], added) }),
        ...(residual && { residual: tensor(before) }),
        more: { a: tensor(h), b: tensor(g, g.view.rows) },
      };
      const products = kernels.products(onlyTile(tile));
      await kernels.run(
        products.calls(layout, kernels.rows(m), operands, { adds: adds ? "always" : "never", scale }),
      );
      const right = ({ view }: typeof b) => layout === "nt" ? transposed(view) : view;
      const sums = (of: (view: Matrix) => Matrix) => {
        const [own, other] = [[a, b], [h, g]].map(([left, r]) => multiply(of(left.view), of(right(r))));
        return own.map((sum, i) => sum + other[i]);
      };
      const isOnto = adds || residual;
      const expected = sums((view) => view).map((sum, i) =>
        scale * (sum + (bias ? added[i % n] : 0)) + (isOnto ? before.data[i] : 0)
      );
      const tolerance = 1.2e-7 * (2 + Math.sqrt(k + more) / 2);
      await kernels.compare(c, expected, { tolerance, scale: Math.abs(scale) * largest(sums(magnitudes)) });
    },
  );
}

kernelTest("operands whose rows are no whole texels are read from buffers", [
  { layout: "nt", m: 37, n: 3, k: 64 },
  { layout: "nt", m: 3, n: 64, k: 1, scale: 2 },
  { layout: "nn", m: 37, n: 1, k: 64 },
  { layout: "tn", m: 3, n: 64, k: 37 },
] as Product[], (kernels, product) => checkProduct(kernels, product, smallTextures));

kernelTest(
  "what was copied is copied again after a kernel wrote to its source, and gives the same bytes each time",
  // By a kernel, and as it is.
  [{ width: 16 }, { width: 64 }],
  async (kernels, { width }) => {
    const [h, u, v] = [70, 70, 70].map((rows) => random(kernels, rows, width, width));
    const b = random(kernels, 64, width, width);
    const tensors = {
      h: kernels.tensorInPlace([70, width], h.data),
      u: kernels.tensor([70, width], u.data),
      v: kernels.tensor([70, width], v.data),
      b: kernels.tensor([64, width], b.data),
    };
    const [before, after, again] = [1, 2, 3].map(() => kernels.tensor([70, 64]));
    const products = kernels.products(onlyTile({ ...smallTextures, rows: 128 }));
    const rows = kernels.rows(70);
    const call = (c: Tensor) => products.calls("nt", rows, { a: tensors.h, b: tensors.b, c });
    await kernels.run([
      ...call(before),
      add(rows, tensors.u, tensors.v, tensors.h),
      ...call(after),
      ...call(again),
    ]);
    const sum = matrix(u.data.map((value, i) => value + v.data[i]), 70, width);
    const times = (left: Matrix) => multiply(left, transposed(b.view));
    await kernels.compare(before, times(h.view), { tolerance: 1e-6 });
    await kernels.compare(after, times(sum), { tolerance: 1e-6 });
    assertEqualBytes(await kernels.read(again, 70 * 64), await kernels.read(after, 70 * 64), "again");
  },
);

kernelTest(
  "a texture is filled again after a kernel wrote to its source",
  [{ size: 64 }, { size: 128 }],
  async (kernels, { size }) => {
    // (x w^T) w^T, where the first product goes to the place of x: its copy is out of date.
    const x = random(kernels, size, size, size);
    const w = random(kernels, size, size, size);
    const tensors = {
      x: kernels.tensor([size, size], x.data),
      y: kernels.tensor([size, size]),
      z: kernels.tensor([size, size]),
      w: kernels.tensor([size, size], w.data),
    };
    const tile = { ...smallTextures, rows: 128, columns: 128 };
    const products = kernels.products(onlyTile(tile));
    const rows = kernels.rows(size);
    const call = (a: Tensor, c: Tensor) => products.calls("nt", rows, { a, b: tensors.w, c });
    await kernels.run([
      ...call(tensors.x, tensors.y),
      ...call(tensors.y, tensors.x),
      ...call(tensors.x, tensors.z),
    ]);
    const times = (left: Matrix) => matrix(multiply(left, transposed(w.view)), size, size, size);
    const expected = times(times(times(x.view)));
    const values = Float64Array.from(
      { length: size * size },
      (_, i) => expected.at(Math.floor(i / size), i % size),
    );
    await kernels.compare(tensors.z, values, { tolerance: 4e-6 });
  },
);

for (const [kind, tile] of Object.entries(tiles)) {
  kernelTest(
    `a matrix stored in two bytes is read as the float32 that it stands for (${kind})`,
    storedProducts([
      { layout: "nt", m: 1, n: 1, k: 4 },
      { layout: "nt", m: 33, n: 61, k: 36 },
      { layout: "nn", m: 3, n: 4, k: 1 },
      { layout: "nn", m: 33, n: 132, k: 37 },
    ]),
    async (kernels, product) => void await checkStored(kernels, product, tile),
    missingFor(tile),
  );
}
