/**
 * Emits the WGSL of a matrix product. The inner product is straight-line code with constant indices: shader runtime
 * checks cannot be turned off in Deno, and a loop over a private array would pay for them at every multiply-add.
 */
import { type Epilogue, epilogueSource, isPaired } from "./gemm_epilogue.ts";
import { packedType, type StorageType, unpackFunction } from "./storage.ts";
import { storageMain } from "./gemm_storage.ts";
import { subgroupMain } from "./gemm_subgroup.ts";
import { workgroupMain } from "./gemm_workgroup.ts";

/**
 * `nt`: C[M,N] = A[M,K] B[N,K]^T, a linear layer forward; M is counted at run time.
 * `nn`: C[M,N] = A[M,K] B[K,N], its input gradient; M is counted at run time.
 * `tn`: C[M,N] = A[K,M]^T B[K,N], its weight gradient; K is counted at run time.
 */
export type GemmLayout = "nt" | "nn" | "tn";

/** Whether a product is added to C: no, yes, or where the row count says so, which it does in every batch of a step but the first. */
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
  /** How far apart the columns are that the epilogue needs together. */
  half?: number;
  /** Columns of C, from the first one on, that lie in heads which `rope` turns, and the columns of a head. */
  rotated?: number;
  head?: number;
}

const ADDS = { never: 0, always: 1, accumulating: 2 };

/** A size as the kernel's uniform, `struct Size`. */
export const sizeWords = (
  { m, n, k, lda, ldb, ldc, first, adds, scale = 1, half = 0, rotated = 0, head = 0 }: GemmSize,
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
];

const floatBits = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0];

/** What every product's WGSL begins with: its row count and sizes, bindings 0 and 1. */
export const SIZE_HEADER = `
struct Rows { count: u32, accumulate: u32 }
struct Size {
  m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, first: u32, adds: u32, half: u32, rotated: u32, head: u32,
  scale: f32,
}
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<uniform> size: Size;
fn counted(most: u32) -> u32 { return min(rows.count - size.first, most); }
fn adds() -> bool { return size.adds == 1u || (size.adds == 2u && rows.accumulate != 0u); }`;

/** What else the source depends on. */
export interface GemmVariant {
  layout: GemmLayout;
  epilogue: Epilogue;
  /** Every row of A, B and C starts at a multiple of 4 floats, so vec4 loads and stores reach all of them. */
  aligned: boolean;
  /** K is no multiple of 4 (`nt`, `nn`; `tn` steps by 1 and needs no tail). */
  tail: boolean;
  /** How B is stored; in 2-byte elements its rows must be multiples of 4. */
  weights: StorageType;
}

/** The variant for row strides of `lda`, `ldb`, `ldc` floats and an inner dimension of `k` (any, for `tn`). */
export function gemmVariant(
  layout: GemmLayout,
  epilogue: Epilogue,
  size: Pick<GemmSize, "k" | "lda" | "ldb" | "ldc">,
  weights: StorageType = "f32",
): GemmVariant {
  if (weights !== "f32" && size.ldb % 4 !== 0) {
    throw new RangeError(
      `rows of ${size.ldb} elements cannot be read as ${weights}: expected a multiple of 4`,
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
 * Where a thread reads its operands: straight from `storage` into a large register tile, which suits some drivers on the
 * processor; from tiles that its workgroup copies to `workgroup` memory, which suits a GPU; or from storage and, what the
 * threads of a `subgroup` have in common, from each other.
 */
export type GemmTile =
  & Cut
  & (
    | { memory: "storage" }
    | { memory: "workgroup"; depth: 8 | 32 }
    | { memory: "subgroup"; lanes: number }
  );

/** A tile of workgroup memory, `depth` of the inner dimension deep or as deep as its threads copy at once. */
export type WorkgroupTile = Extract<GemmTile, { memory: "workgroup" }>;

/** A tile for subgroups of `lanes` lanes or more, a power of two: one line of threads, a multiple of `lanes`. */
export type SubgroupTile = Extract<GemmTile, { memory: "subgroup" }>;

/** Rows and columns of C that one workgroup covers. */
export function gemmGroupTile(tile: GemmTile): { rows: number; columns: number } {
  return { rows: tile.threadRows * tile.groupRows, columns: tile.threadColumns * tile.groupColumns };
}

/** Whether a thread of `tile` holds as many first columns as partners, in groups of four. */
export const takesPairs = ({ threadColumns }: Pick<GemmTile, "threadColumns">): boolean =>
  threadColumns % 8 === 0;

/**
 * The WGSL of one product, entry point `main`. Bindings of group 0: 0 the row count (M of `nt` and `nn`, K of
 * `tn`), 1 the size, 2 A, 3 B, 4 C, and from 5 on the bias and those of the epilogue.
 */
export function gemmSource(variant: GemmVariant, tile: GemmTile): string {
  const { epilogue, aligned, weights } = variant;
  const { threadRows: tm, threadColumns: tn } = tile;
  if (tm % 4 || tn % 4) throw new RangeError(`a thread's tile must be a multiple of 4, not ${tm}x${tn}`);
  const isFused = epilogue.kind !== "none" && epilogue.kind !== "residual";
  if (isFused && !aligned || isPaired(epilogue) && (variant.layout !== "nt" || !takesPairs(tile))) {
    throw new RangeError(`no ${epilogue.kind} in ${JSON.stringify({ ...variant, ...tile })}`);
  }
  const element = aligned ? "vec4f" : "f32";
  return `${SIZE_HEADER}
@group(0) @binding(2) var<storage, read> a: array<${element}>;
@group(0) @binding(3) var<storage, read> b: array<${weights === "f32" ? element : packedType(weights)}>;
@group(0) @binding(4) var<storage, read_write> c: array<${element}>;
${
    aligned
      ? `fn a4(i: u32) -> vec4f { return a[i >> 2u]; }
fn a1(i: u32) -> f32 { return a[i >> 2u][i & 3u]; }`
      : `fn a4(i: u32) -> vec4f { return vec4f(a[i], a[i + 1u], a[i + 2u], a[i + 3u]); }
fn a1(i: u32) -> f32 { return a[i]; }`
  }
${
    weights !== "f32"
      ? `${unpackFunction("b", weights)}
fn b4(i: u32) -> vec4f { return unpack_b(b[i >> 2u]); }
fn b1(i: u32) -> f32 { return b4(i)[i & 3u]; }`
      : aligned
      ? `fn b4(i: u32) -> vec4f { return b[i >> 2u]; }
fn b1(i: u32) -> f32 { return b[i >> 2u][i & 3u]; }`
      : `fn b4(i: u32) -> vec4f { return vec4f(b[i], b[i + 1u], b[i + 2u], b[i + 3u]); }
fn b1(i: u32) -> f32 { return b[i]; }`
  }
${epilogueSource(epilogue, aligned)}
${mainFunction(variant, tile)}`;
}

function mainFunction(variant: GemmVariant, tile: GemmTile): string {
  if (tile.memory === "subgroup") return subgroupMain(variant, tile);
  return tile.memory === "workgroup" ? workgroupMain(variant, tile) : storageMain(variant, tile);
}
