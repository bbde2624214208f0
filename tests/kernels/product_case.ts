/** Products of random matrices beside those in float64. */
import type { GemmLayout } from "../../kernels/gemm.ts";
import type { Tensor } from "../../lib/gpu/memory.ts";
import type { KernelCall } from "../../lib/gpu/program.ts";
import { onlyTile, type ProductTile, type Split } from "../../lib/gpu/tuning.ts";
import { fromF32, toF32 } from "../../lib/safetensors/dtype.ts";
import { type KernelCase, largest } from "./harness.ts";
import { runnable } from "./subgroups.ts";
import { magnitudes, type Matrix, matrix, multiply, transposed } from "../reference/matrix.ts";

/**
 * C is m x n with an inner dimension of k; the pads are columns between one row and the next that do not
 * count.
 */
export interface Product {
  layout: GemmLayout;
  m: number;
  n: number;
  k: number;
  padA?: number;
  padC?: number;
  /** `accumulate`: C is added to where `accumulate` says so. */
  epilogue?: "none" | "accumulate" | "always" | "residual";
  accumulate?: boolean;
  bias?: boolean;
  scale?: number;
  /** Rows that the tensors have beyond those counted. */
  spare?: number;
}

export const random = (kernels: KernelCase, rows: number, columns: number, stride: number) => {
  const data = kernels.values(rows * stride);
  return { data, view: matrix(data, rows, columns, stride) };
};

/**
 * What a product of float16 parts is off by, beside the roundings of its sums, in units of the sum of its terms'
 * magnitudes: both operands are rounded, to 22 bits or to 11, and `high` leaves out what is below 2^-22. Those of
 * `highest` are float32.
 */
export const OPERAND_ERROR = { highest: 0, high: 3 * 2 ** -22, medium: 2 * 2 ** -11 };

/** Compares what `tile` makes of random matrices with their product in float64. */
export async function checkProduct(
  kernels: KernelCase,
  product: Product,
  tile: ProductTile,
  split?: Split,
): Promise<void> {
  const { layout, m, n, k, padA = 0, padC = 0, epilogue = "none", spare = 0 } = product;
  const { accumulate = epilogue === "always", bias = false, scale = 1 } = product;
  const counted = layout === "tn" ? k : m;
  const capacity = counted + spare;
  const [aRows, aColumns] = layout === "tn" ? [k, m] : [m, k];
  const [bRows, bColumns] = layout === "nt" ? [n, k] : [k, n];
  const a = random(kernels, aRows, aColumns, aColumns + padA);
  const b = random(kernels, bRows, bColumns, bColumns);
  const before = random(kernels, m, n, n + padC);
  const added = kernels.values(n);
  const shapeOfC = [layout === "tn" ? m : capacity, n + padC];
  const tensors = {
    a: kernels.tensor([capacity, aColumns + padA], a.data),
    b: kernels.tensor([layout === "tn" ? capacity : bRows, bColumns], b.data),
    c: accumulate ? kernels.tensorInPlace(shapeOfC, before.data) : kernels.tensor(shapeOfC),
    ...(bias && { bias: kernels.tensor([n, 1], added) }),
    ...(epilogue === "residual" && { residual: kernels.tensor([capacity, n + padC], before.data) }),
  };
  const products = kernels.products(onlyTile(tile, { split }));
  const rows = kernels.rows(counted, { accumulate: epilogue === "accumulate" && accumulate });
  const adds = epilogue === "accumulate" ? "accumulating" : epilogue === "always" ? "always" : "never";
  await kernels.run(runnable(products.calls(layout, rows, tensors, { adds, scale }), tile));

  const left = layout === "tn" ? transposed(a.view) : a.view;
  const right = layout === "nt" ? transposed(b.view) : b.view;
  const onto = accumulate || epilogue === "residual" ? before.view : undefined;
  const sum = (product: Float64Array, { at }: Matrix) =>
    product.map((value, i) => value + at(Math.floor(i / n), i % n));
  const scaled = (product: Float64Array, bias: ArrayLike<number>, scale: number) =>
    product.map((value, i) => (value + (tensors.bias ? bias[i % n] : 0)) * scale);
  const expected = scaled(multiply(left, right), added, scale);
  const terms = scaled(multiply(magnitudes(left), magnitudes(right)), added.map(Math.abs), Math.abs(scale));
  await kernels.compare(tensors.c, onto ? sum(expected, onto) : expected, {
    // Two roundings of at most 6e-8, and K more of the running sum, which add up like a random walk. The
    // measure is the sum of the terms' magnitudes, since a sum may cancel.
    tolerance: 1.2e-7 * (1 + Math.sqrt(k) / 2) +
      (tile.memory === "matrix" ? OPERAND_ERROR[tile.precision] : 0),
    scale: largest(onto ? sum(terms, magnitudes(onto)) : terms),
    columns: n,
    stride: n + padC,
  });
}

/** A product whose B is stored in two bytes an element. */
export interface StoredProduct extends Pick<Product, "layout" | "m" | "n" | "k"> {
  storage: "bf16" | "f16";
}

/** Such products of `sizes`, in both types. */
export const storedProducts = (sizes: readonly Omit<StoredProduct, "storage">[]): StoredProduct[] =>
  (["bf16", "f16"] as const).flatMap((storage) => sizes.map((size) => ({ storage, ...size })));

/** Checks that B is read as the float32 numbers that it stands for; returns the calls of the product. */
export async function checkStored(
  kernels: KernelCase,
  { storage, layout, m, n, k }: StoredProduct,
  tile: ProductTile,
): Promise<KernelCall[]> {
  const [rows, columns] = layout === "nt" ? [n, k] : [k, n];
  const dtype = storage === "bf16" ? "BF16" : "F16";
  const halves = fromF32(kernels.values(rows * columns), dtype);
  const a = kernels.values(m * k);
  const c = kernels.tensor([m + 3, n]);
  const words = new Uint32Array(halves.buffer);
  const b: Tensor = { ...kernels.tensor([words.length], words), shape: [rows, columns], storage };
  const operands = { a: kernels.tensor([m + 3, k], a), b, c };
  const calls = kernels.products(onlyTile(tile)).calls(layout, kernels.rows(m), operands);
  await kernels.run(runnable(calls, tile));
  const right = matrix(toF32(halves, dtype), rows, columns);
  const [left, turned] = [matrix(a, m, k), layout === "nt" ? transposed(right) : right];
  await kernels.compare(c, multiply(left, turned), {
    tolerance: 1e-6 + (tile.memory === "matrix" ? OPERAND_ERROR[tile.precision] : 0),
    scale: largest(multiply(magnitudes(left), magnitudes(turned))),
  });
  return calls;
}
