/** Products by subgroup matrices; where the device has none, as with Deno's own engine, they are not run. */
import { kernelTest, useGpu } from "./harness.ts";
import { checkProduct, type Product } from "./product_case.ts";
import { matrixTileHere, missingFor } from "./subgroups.ts";

useGpu();

const PRODUCTS: Product[] = [
  { layout: "nt", m: 132, n: 132, k: 36, spare: 1, bias: true, scale: 0.22 },
  { layout: "nt", m: 33, n: 20, k: 100, epilogue: "residual" },
  { layout: "nt", m: 3, n: 5, k: 7, spare: 4 },
  { layout: "nt", m: 31, n: 131, k: 6, padC: 3, spare: 1 },
  { layout: "nn", m: 132, n: 68, k: 36, spare: 1 },
  { layout: "nn", m: 33, n: 36, k: 66, padA: 2, epilogue: "always", scale: -1.5 },
  { layout: "nn", m: 31, n: 3, k: 9, spare: 2 },
  { layout: "tn", m: 68, n: 132, k: 31, spare: 3 },
  { layout: "tn", m: 65, n: 131, k: 33, spare: 31, epilogue: "accumulate", accumulate: true },
  { layout: "tn", m: 5, n: 6, k: 31, padA: 3, epilogue: "accumulate" },
];

for (const precision of ["high", "medium"] as const) {
  const tile = matrixTileHere(precision);
  for (const layout of ["nt", "nn", "tn"] as const) {
    kernelTest(
      `${layout} products of float16 matrices equal the float64 product to what ${precision} precision promises`,
      PRODUCTS.filter((product) => product.layout === layout),
      (kernels, product) => checkProduct(kernels, product, tile),
      missingFor(tile),
    );
  }
}
