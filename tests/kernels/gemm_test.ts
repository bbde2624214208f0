import { gemm } from "../../lib/gpu/operations.ts";
import type { GemmEpilogue, GemmLayout } from "../../kernels/gemm.ts";
import { type KernelCase, kernelTest, largest, useGpu } from "./harness.ts";
import { magnitudes, type Matrix, matrix, multiply, transposed } from "../reference/matrix.ts";

useGpu();

/**
 * C is m x n with an inner dimension of k; the pads are columns between one row and the next that do not
 * count.
 */
interface Product {
  layout: GemmLayout;
  m: number;
  n: number;
  k: number;
  padA?: number;
  padC?: number;
  epilogue?: GemmEpilogue;
  accumulate?: boolean;
  /** Rows that the tensors have beyond those counted. */
  spare?: number;
}

const random = (kernels: KernelCase, rows: number, columns: number, stride: number) => {
  const data = kernels.values(rows * stride);
  return { data, view: matrix(data, rows, columns, stride) };
};

async function checkProduct(kernels: KernelCase, product: Product): Promise<void> {
  const { layout, m, n, k, padA = 0, padC = 0, epilogue = "none", accumulate = false, spare = 0 } = product;
  const counted = layout === "tn" ? k : m;
  const capacity = counted + spare;
  const [aRows, aColumns] = layout === "tn" ? [k, m] : [m, k];
  const [bRows, bColumns] = layout === "nt" ? [n, k] : [k, n];
  const a = random(kernels, aRows, aColumns, aColumns + padA);
  const b = random(kernels, bRows, bColumns, bColumns);
  const before = random(kernels, m, n, n + padC);
  const shapeOfC = [layout === "tn" ? m : capacity, n + padC];
  const tensors = {
    a: kernels.tensor([capacity, aColumns + padA], a.data),
    b: kernels.tensor([layout === "tn" ? capacity : bRows, bColumns], b.data),
    c: accumulate ? kernels.tensorInPlace(shapeOfC, before.data) : kernels.tensor(shapeOfC),
    ...(epilogue === "residual" && { residual: kernels.tensor([capacity, n + padC], before.data) }),
  };
  await kernels.run([gemm(layout, kernels.rows(counted, { accumulate }), tensors, kernels.device, epilogue)]);

  const left = layout === "tn" ? transposed(a.view) : a.view;
  const right = layout === "nt" ? transposed(b.view) : b.view;
  const added = accumulate || epilogue === "residual" ? before.view : undefined;
  const sum = (product: Float64Array, { at }: Matrix) =>
    product.map((value, i) => value + at(Math.floor(i / n), i % n));
  const expected = multiply(left, right);
  const terms = multiply(magnitudes(left), magnitudes(right));
  await kernels.compare(tensors.c, added ? sum(expected, added) : expected, {
    // Two roundings of at most 6e-8, and K more of the running sum, which add up like a random walk. The
    // measure is the sum of the terms' magnitudes, since a sum may cancel.
    tolerance: 1.2e-7 * (1 + Math.sqrt(k) / 2),
    scale: largest(added ? sum(terms, magnitudes(added)) : terms),
    columns: n,
    stride: n + padC,
  });
}

/** Checks `products` with the tiles for drivers on the processor and with those for GPUs. */
function productTest(name: string, products: Product[]): void {
  for (const device of ["software", "gpu"] as const) {
    kernelTest(`${name} (tiles: ${device})`, products, (kernels, product) => {
      kernels.device = device;
      return checkProduct(kernels, product);
    });
  }
}

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
