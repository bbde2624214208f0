/**
 * What the attention kernels share that multiply by subgroup matrices (tensor cores): how they are cut, and where their
 * operands are; `attention_matrix_products.ts` multiplies. See `gemm_matrix.ts` for their numbers. A workgroup has 32
 * rows of one head and goes over the others 32 at a time; heads' columns come in units of 32, the last one filled up
 * with zeros.
 *
 * Each row of an operand has a power of two of its own (`attention_scales.wgsl`). Where rows are what is summed over, as
 * values are, the 32 of a tile have one together, that of the largest. No element of a subgroup's matrix can be
 * reached, so every 32 x 32 of sums goes through workgroup memory to the threads that own rows of it.
 *
 * By 64 columns a tile of keys and values is 16 KiB to read for 2 x 2^17 multiply-adds, in `high` thrice as many; of
 * workgroup memory a subgroup reads for a step of 16 three matrices, 768 float16s, for two products, 8192
 * multiply-adds, and 8 KiB of sums are written and read a unit.
 */
import type { AttentionShape, MatrixAttentionTile } from "./attention.ts";
import { SCALES } from "./gemm_largest.ts";
import { range } from "./emit.ts";

/** Rows of a tile, of others beside it, and columns of a unit: as the host's bounds. */
export const SIDE = 32;
/** Beside rows, against conflicts of banks: float16s, and float32s of sums. */
const PADDING = 8;
const SUMS_PADDING = 4;
export const SUMS_PITCH = SIDE + SUMS_PADDING;
export const WEIGHTS_PITCH = SIDE + PADDING;
/** Bytes of workgroup memory; more, and fewer workgroups run at a time. */
const MOST_BYTES = 32 * 1024;
/** Invocations that every device allows a workgroup. */
const MOST_THREADS = 256;

/** How a workgroup is cut for a shape of heads. */
export interface MatrixCut extends MatrixAttentionTile {
  /** Units of a head's row. */
  units: number;
  /** Columns that are in workgroup memory at a time. */
  depth: number;
  /** Whether the workgroup's own rows stay there, read once. */
  isResident: boolean;
  /** Subgroups side by side: each has `m` rows of `2 n` columns of every 32 x 32. */
  across: number;
  threads: number;
  /** Threads of a row, which each own `vectors` vec4s of every unit. */
  perRow: number;
  vectors: number;
}

export const partsOf = ({ precision }: Pick<MatrixCut, "precision">): readonly ("high" | "low")[] =>
  precision === "high" ? ["high", "low"] : ["high"];

/**
 * The cut for heads of `shape`, with so many operands of a workgroup's own; none where the device's matrices do not
 * divide 32 x 32 among subgroups, columns are no vec4s, or no unit fits in workgroup memory.
 */
export function matrixCut(
  { headDim }: AttentionShape,
  own: 1 | 2,
  device: MatrixAttentionTile,
): MatrixCut | undefined {
  const { m, n, k, lanes, workgroupBytes } = device;
  if (headDim % 4 > 0 || SIDE % m > 0 || SIDE % (2 * n) > 0 || SIDE % k > 0 || lanes % m > 0) return;
  const across = SIDE / (2 * n);
  const threads = SIDE / m * across * lanes;
  const perThread = 2 * n * m / lanes;
  if (perThread % 4 > 0 || threads > MOST_THREADS) return;
  const units = Math.ceil(headDim / SIDE);
  const perRow = across * lanes / m;
  const depths = range(units + 1).filter((n) => n > 0 && units % n === 0).reverse().map((n) => n * SIDE);
  const cuts = [
    { depth: units * SIDE, isResident: true },
    ...depths.map((depth) => ({ depth, isResident: false })),
  ].map((cut): MatrixCut => ({ ...device, ...cut, units, across, threads, perRow, vectors: perThread / 4 }));
  return cuts.find((cut) => matrixAttentionBytes(cut, own) <= Math.min(workgroupBytes, MOST_BYTES));
}

export const pitchOf = ({ depth }: Pick<MatrixCut, "depth">) => depth + PADDING;

/** Bytes of workgroup memory. */
export function matrixAttentionBytes(cut: MatrixCut, own: 1 | 2): number {
  const operands = (cut.isResident ? own : 1) + 1;
  const halves = SIDE * (operands * pitchOf(cut) + WEIGHTS_PITCH) * partsOf(cut).length;
  return 2 * halves + 4 * (SIDE * SUMS_PITCH + 2 * SIDE + SIDE * cut.perRow);
}

/**
 * WGSL of the workgroup's variables: its own rows, the others', what these are weighted with, sums, the scales of two
 * operands' rows, and what the threads of a row tell each other.
 */
export function matrixHeader(cut: MatrixCut, own: 1 | 2): string {
  const halves = (name: string, pitch: number) =>
    partsOf(cut).map((part) => `var<workgroup> ${name}_${part}: array<f16, ${SIDE * pitch}>;`).join("\n");
  return `${SCALES}
${halves("own", pitchOf(cut))}
${own === 2 && cut.isResident ? halves("second", pitchOf(cut)) : ""}
${halves("others", pitchOf(cut))}
${halves("weights", WEIGHTS_PITCH)}
var<workgroup> sums: array<f32, ${SIDE * SUMS_PITCH}>;
var<workgroup> scales_a: array<f32, ${SIDE}>;
var<workgroup> scales_b: array<f32, ${SIDE}>;
var<workgroup> partial: array<f32, ${SIDE * cut.perRow}>;`;
}

/** The entry point's head, with the place of a thread in every 32 x 32: its row, and its first column there. */
export function matrixMain(cut: MatrixCut): string {
  const { m, n, lanes, across, threads } = cut;
  return `@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32,
        @builtin(subgroup_id) subgroup: u32) {
  let owner = index / ${lanes}u;
  let row = owner / ${across}u * ${m}u + index % ${lanes}u / ${lanes / m}u;
  let part = owner % ${across}u * ${lanes / m}u + index % ${lanes / m}u;
  let first_column = part * ${4 * cut.vectors}u;
  // Of the subgroup's matrices.
  let top = subgroup / ${across}u * ${m}u;
  let side = subgroup % ${across}u * ${2 * n}u;`;
}

/** Where the rows of each operand are from row `first` on, and their scales: of WGSL's `head` and `kv_head`. */
export function operands(first: string, scales: number) {
  const token = `min(${first} + line, last)`;
  const rows = (tensor: string, at: string) => ({ tensor, at });
  const scaleOf = (token: string, column: string) => `scales[${token} * ${scales}u + ${column}]`;
  const columns = {
    queries: "QUERY_OFFSET / COLUMNS + head",
    keys: "KEY_OFFSET / COLUMNS + kv_head",
    values: "VALUE_OFFSET / COLUMNS + kv_head",
    dOut: "QUERY_STRIDE / COLUMNS + head",
  };
  return {
    queries: rows("qkv", `${token} * QUERY_STRIDE + QUERY_OFFSET + head * COLUMNS`),
    keys: rows("qkv", `${token} * KEY_STRIDE + KEY_OFFSET + kv_head * COLUMNS`),
    values: rows("qkv", `${token} * KEY_STRIDE + VALUE_OFFSET + kv_head * COLUMNS`),
    dOut: rows("d_out", `${token} * OUT_STRIDE + head * COLUMNS`),
    /** The scale of a row: of the tile's `line`, or of the token given. */
    scale: (of: keyof typeof columns, at = token) => scaleOf(at, columns[of]),
  };
}

/** A line for each of the vec4s of a head's row that a thread owns: vec4 t of unit u. */
export const eachVector = (
  { units, vectors }: Pick<MatrixCut, "units" | "vectors">,
  line: (unit: number, t: number) => string,
): string => range(units).flatMap((u) => range(vectors).map((t) => line(u, t))).join("\n");
