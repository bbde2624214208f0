/**
 * Quantized matrices as they lie on the GPU: the checkpoint's tensors, each quantized by itself, as rows of one
 * matrix.
 */
import {
  BLOCK,
  type Quantization,
  type QuantizationOptions,
  quantizedLayout,
  SCALE_BLOCK,
} from "../../kernels/quantized.ts";
import { bytesOf } from "../../kernels/storage.ts";
import { UserError } from "../errors.ts";
import { type FloatDtype, fromF32, toF32 } from "../safetensors/dtype.ts";
import type { TensorReader } from "../safetensors/read.ts";
import { isTrained, type ParameterPart, type ParameterSpec, rowRuns, shapeOf } from "./parameter.ts";
import {
  DYNAMIC_MAP,
  type FourBits,
  fourBits,
  quantize4bit,
  quantizeRows,
  quantizeScales,
} from "./quantize.ts";

/** How a frozen parameter is quantized, where it is: rows are multiples of 4. */
export function quantizationOf(spec: ParameterSpec): Quantization | undefined {
  const { storage, kind, columns, parts } = spec;
  if (kind !== "matrix" || columns % 4 !== 0 || storage === undefined || typeof storage === "string") return;
  const { type, double } = storage;
  if (type === "int8") return { type, group: powerIn(columns) };
  const group = Math.min(powerIn(columns), BLOCK);
  if (!double) return { type, group };
  // Wherever rows are moved together, or a large parameter is cut, a superblock begins.
  const rows = parts.flatMap((part) => rowRuns(part).flatMap(({ first, rows }) => [first, rows]));
  const step = rows.reduce((step, count) => Math.min(step, count ? powerIn(count) : step), ROW_STEP);
  return { type, group, superblock: Math.min(powerIn(step * columns / group), SCALE_BLOCK * BLOCK / group) };
}

/** Rows of a piece are a multiple of this, so that the columns of a product that they give start on an aligned byte. */
export const ROW_STEP = 64;

/** Words of so many elements. */
export const wordsOf = (how: Quantization, elements: number): number => quantizedLayout(how, elements).words;

/** Bytes of the GPU that a parameter's weights take. */
export function weightBytes(spec: ParameterSpec): number {
  const [rows, columns] = shapeOf(spec);
  const { storage = "f32" } = spec;
  if (spec.isOnHost) return 0;
  const isPacked = !isTrained(spec) && spec.kind === "matrix" && columns % 4 === 0;
  if (!isPacked) return 4 * rows * columns;
  return typeof storage === "string"
    ? bytesOf(storage) * rows * columns
    : 4 * wordsOf(quantizationOf(spec)!, rows * columns);
}

/** The largest power of two that divides `count`. */
const powerIn = (count: number) => count & -count;

/** Some rows of a parameter. */
interface Rows {
  firstRow: number;
  rows: number;
}

/** A checkpoint tensor, quantized: bytes of codes, and what belongs to each block (`nf4`, `fp4`) or row (`int8`). */
interface QuantizedPart {
  codes: Uint8Array;
  absmax: Float32Array;
  /** Elements that each of `absmax` belongs to. */
  block: number;
}

const DTYPES = { f32: "F32", bf16: "BF16", f16: "F16" } as const;

/** Elements read at a time: whole rows, and whole blocks. */
const PIECE = 4 * 2 ** 20;

/**
 * The words of the rows in `pieces`, each piece's on its own.
 *
 * @throws {UserError} where a weight is not finite.
 */
export async function quantizedWords(
  checkpoint: TensorReader,
  spec: ParameterSpec,
  pieces: readonly Rows[],
  how: Quantization,
): Promise<Uint32Array[]> {
  const { columns, storage } = spec;
  const dtype = DTYPES[(storage as QuantizationOptions).from ?? "f32"];
  const words = pieces.map(({ rows }) => new Uint32Array(wordsOf(how, rows * columns)));
  const perByte = how.type === "int8" ? 1 : 2;
  let firstRow = 0;
  for (const part of spec.parts) {
    const quantized = await quantizedPart(checkpoint, part, columns, how, dtype);
    const scales = how.superblock === undefined ? undefined : quantizeScales(quantized.absmax);
    let from = 0;
    for (const run of rowRuns(part)) {
      for (const [i, piece] of pieces.entries()) {
        const first = Math.max(firstRow + run.first, piece.firstRow);
        const end = Math.min(firstRow + run.first + run.rows, piece.firstRow + piece.rows);
        if (first >= end) continue;
        const source = (from + first - firstRow - run.first) * columns;
        const target = (first - piece.firstRow) * columns;
        const count = (end - first) * columns;
        const bytes = new Uint8Array(words[i].buffer);
        bytes.set(
          quantized.codes.subarray(source / perByte, (source + count) / perByte),
          target / perByte,
        );
        const place = quantizedLayout(how, piece.rows * columns);
        const floats = new Float32Array(words[i].buffer);
        for (let at = 0; at < count; at += how.group) {
          const group = (target + at) / how.group;
          const block = Math.floor((source + at) / quantized.block);
          if (!scales) {
            floats[place.scales + group] = quantized.absmax[block];
            continue;
          }
          bytes[4 * place.scales + group] = scales.codes[block];
          const factor = place.factors + 2 * Math.floor(group / how.superblock!);
          floats[factor] = scales.absmax[Math.floor(block / SCALE_BLOCK)];
          floats[factor + 1] = scales.offset;
        }
        if (scales) floats.set(DYNAMIC_MAP, place.map);
      }
      from += run.rows;
    }
    firstRow += part.rows;
  }
  return words;
}

async function quantizedPart(
  checkpoint: TensorReader,
  { name, rows }: ParameterPart,
  columns: number,
  { type }: Quantization,
  dtype: FloatDtype,
): Promise<QuantizedPart> {
  const elements = rows * columns;
  const isRounded = dtype !== "F32" && checkpoint.tensors.get(name)?.dtype !== dtype;
  const bits: FourBits = fourBits(type === "int8" ? 0 : elements);
  const bytes = { codes: new Int8Array(type === "int8" ? elements : 0), absmax: new Float32Array(rows) };
  const step = type === "int8" ? Math.max(1, Math.floor(PIECE / columns)) * columns : PIECE;
  for (let at = 0; at < elements; at += step) {
    const read = await checkpoint.readF32(name, at, Math.min(step, elements - at));
    const values = isRounded ? toF32(fromF32(read, dtype), dtype) : read;
    if (type === "int8") quantizeRows(values, columns, bytes, at / columns);
    else quantize4bit(values, type, bits, at);
  }
  const { absmax } = type === "int8" ? bytes : bits;
  if (!absmax.every(Number.isFinite)) {
    throw new UserError(`${name} holds a weight that is not finite, and cannot be quantized`);
  }
  return type === "int8"
    ? { codes: new Uint8Array(bytes.codes.buffer), absmax, block: columns }
    : { codes: bits.codes, absmax, block: BLOCK };
}
