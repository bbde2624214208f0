/** What a matrix product depends on: layout, sizes, variant, tile. `gemm_source.ts` emits its WGSL. */
import type { Epilogue } from "./gemm_epilogue.ts";
import type { WeightStorage } from "./storage.ts";

/**
 * `nt`: C[M,N] = A[M,K] B[N,K]^T, a linear layer forward; M is counted at run time.
 * `nn`: C[M,N] = A[M,K] B[K,N], its input gradient; M is counted at run time.
 * `tn`: C[M,N] = A[K,M]^T B[K,N], its weight gradient; K is counted at run time.
 */
export type GemmLayout = "nt" | "nn" | "tn";

/**
 * Whether a product is added to C: no, yes, or where the row count says so, which it does in every batch of a step
 * but the first.
 */
export type Adds = "never" | "always" | "accumulating";

/**
 * The sizes of a product, a uniform of the kernel, so that one pipeline serves all products of a variant; `lda`, `ldb`,
 * `ldc` are floats from row to row. Of `m` (`nt`, `nn`) or `k` (`tn`), which are counted at run time, this is the most.
 */
export interface GemmSize {
  m: number;
  n: number;
  k: number;
  lda: number;
  ldb: number;
  ldc: number;
  /** The first of the counted rows, where the product is one block of a larger one. */
  first: number;
  adds: Adds;
  /** What the sums, and the bias, are multiplied by; 1 where this is missing. */
  scale?: number;
  /** Parts of the inner dimension that are summed each by itself; 1 where this is missing. */
  parts?: number;
  /** How far apart the columns are that the epilogue needs together. */
  half?: number;
  /** Columns of C, from the first one on, that lie in heads which `rope` turns, and the columns of a head. */
  rotated?: number;
  head?: number;
}

const ADDS = { never: 0, always: 1, accumulating: 2 };

/** A size as the kernel's uniform, `struct Size`. */
export const sizeWords = (
  { m, n, k, lda, ldb, ldc, first, adds, scale = 1, parts = 1, half = 0, rotated = 0, head = 0 }: GemmSize,
): number[] => [
  m,
  n,
  k,
  lda,
  ldb,
  ldc,
  first,
  ADDS[adds],
  half,
  rotated,
  head,
  floatBits(scale),
  parts,
];

const floatBits = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0];

/** What every product's WGSL begins with: its row count and sizes, bindings 0 and 1. */
export const SIZE_HEADER = `
struct Rows { count: u32, accumulate: u32 }
struct Size {
  m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, first: u32, adds: u32, half: u32, rotated: u32, head: u32,
  scale: f32, parts: u32,
}
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<uniform> size: Size;
fn counted(most: u32) -> u32 { return min(rows.count - size.first, most); }
fn adds() -> bool { return size.adds == 1u || (size.adds == 2u && rows.accumulate != 0u); }`;

/** Rows of C and the inner dimension, as they are in this batch, in WGSL. */
export const extents = (layout: GemmLayout) => ({
  M: layout === "tn" ? "size.m" : "counted(size.m)",
  K: layout === "tn" ? "counted(size.k)" : "size.k",
});

/** What else the source depends on. */
export interface GemmVariant {
  layout: GemmLayout;
  epilogue: Epilogue;
  /** Every row of A, B and C starts at a multiple of 4 floats, so vec4 loads and stores reach all of them. */
  aligned: boolean;
  /** K is no multiple of 4 (`nt`, `nn`; `tn` steps by 1 and needs no tail). */
  tail: boolean;
  /** How B is stored; in less than 4 bytes its rows must be multiples of 4. */
  weights: WeightStorage;
}

/** The variant for row strides of `lda`, `ldb`, `ldc` floats and an inner dimension of `k` (any, for `tn`). */
export function gemmVariant(
  layout: GemmLayout,
  epilogue: Epilogue,
  size: Pick<GemmSize, "k" | "lda" | "ldb" | "ldc">,
  weights: WeightStorage = "f32",
): GemmVariant {
  if (weights !== "f32" && size.ldb % 4 !== 0) {
    throw new RangeError(
      `rows of ${size.ldb} elements cannot be read as ${
        typeof weights === "string" ? weights : weights.type
      }: expected a multiple of 4`,
    );
  }
  const aligned = [size.lda, size.ldb, size.ldc].every((stride) => stride % 4 === 0);
  return { layout, epilogue, aligned, tail: layout !== "tn" && size.k % 4 !== 0, weights };
}

/** How the product is cut: rows and columns a thread computes, and threads a workgroup has in each direction. */
interface Cut {
  threadRows: number;
  threadColumns: number;
  groupRows: number;
  groupColumns: number;
}

/**
 * Where a thread reads its operands: straight from `storage` into a large register tile, which suits some drivers on
 * the processor; from tiles that its workgroup copies to `workgroup` memory, which suits a GPU; from storage and,
 * what the threads of a `subgroup` have in common, from each other; or, where there are few rows, from storage by as
 * many threads a `row` of B as `lanes`, a power of two. Or subgroups multiply whole matrices, of float16 or float32.
 */
export type GemmTile = StorageTile | WorkgroupTile | SubgroupTile | RowTile | MatrixTile;

export type StorageTile = Cut & { memory: "storage" };

/** How near to float32 a product of float16 matrices is, as `torch.set_float32_matmul_precision` names it. */
export type MatrixPrecision = "high" | "medium";

/**
 * A tile for subgroup matrices, in workgroup memory; `matrixTile` (`gemm_matrix.ts`) makes it. A subgroup of `lanes`
 * threads multiplies matrices of `m` x `k` and `k` x `n`.
 */
export interface MatrixTile {
  memory: "matrix";
  /** Of float16 matrices; `highest` is of float32 ones. */
  precision: "highest" | MatrixPrecision;
  m: number;
  n: number;
  k: number;
  lanes: number;
  /** Subgroups of a workgroup, along C's rows and columns. */
  subgroups: readonly [number, number];
  /** Matrices of sums of a subgroup, along C's rows and columns. */
  matrices: readonly [number, number];
  /** How much of the inner dimension is copied at a time. */
  depth: number;
}

/** A tile of workgroup memory, `depth` of the inner dimension deep or as deep as its threads copy at once. */
export type WorkgroupTile = Cut & { memory: "workgroup"; depth: 8 | 32 };

/** A tile for subgroups of `lanes` lanes or more, a power of two: one line of threads, a multiple of `lanes`. */
export type SubgroupTile = Cut & { memory: "subgroup"; lanes: number };

/** A tile of few rows of C. */
export type RowTile = Cut & { memory: "row"; lanes: number };

/** Rows and columns of C that one workgroup covers. */
export function gemmGroupTile(tile: GemmTile): { rows: number; columns: number } {
  if (tile.memory === "matrix") {
    const { m, n, subgroups, matrices } = tile;
    return { rows: subgroups[0] * matrices[0] * m, columns: subgroups[1] * matrices[1] * n };
  }
  return { rows: tile.threadRows * tile.groupRows, columns: tile.threadColumns * tile.groupColumns };
}

/** Whether a product of `tile` is one of float16 matrices, for which its operands' lines are scaled. */
export const isScaled = (tile: GemmTile): tile is MatrixTile & { precision: MatrixPrecision } =>
  tile.memory === "matrix" && tile.precision !== "highest";

/** Whether a thread of `tile` holds as many first columns as partners, in groups of four. */
export const takesPairs = (tile: GemmTile): boolean =>
  tile.memory === "matrix" || tile.threadColumns % 8 === 0;
