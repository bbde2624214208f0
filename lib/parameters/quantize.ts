/**
 * Weights to 4 or 8 bits, operation by operation as bitsandbytes 0.50 does it on the processor, each rounded to
 * float32: the same codes and the same scales, bit for bit. (Its CUDA kernels may take the neighbouring code where a
 * value lies between two.)
 */
import { dynamicMap } from "../../kernels/dynamic_map.ts";
import { BLOCK, CODES, SCALE_BLOCK } from "../../kernels/quantized.ts";

const f32 = Math.fround;

/** A tensor in 4 bits. */
export interface FourBits {
  /** Two to a byte, the first in its upper half. */
  codes: Uint8Array;
  /** The largest magnitude of each block of 64. */
  absmax: Float32Array;
}

/** The codes of a type in the order of what they stand for, and what lies halfway between neighbours. */
function order(type: keyof typeof CODES): { codes: number[]; bounds: Float32Array } {
  // Of fp4's two zeros the one without a sign is the lower.
  const codes = CODES[type].map((_, i) => i).sort((a, b) => CODES[type][a] - CODES[type][b] || a - b);
  const bounds = codes.slice(1).map((code, i) => f32(CODES[type][codes[i]] + CODES[type][code]) / 2);
  return { codes, bounds: new Float32Array(bounds) };
}

const ORDERS = { nf4: order("nf4"), fp4: order("fp4") };
/** What bitsandbytes divides a block of zeros by. */
const LEAST = f32(1e-38);

/**
 * Fills `into` with the elements from `first` on, a multiple of 64, of a tensor that is read piece by piece: of all
 * pieces but the last a multiple of 64.
 */
export function quantize4bit(
  values: Float32Array,
  type: "nf4" | "fp4",
  into: FourBits,
  first = 0,
): void {
  const { codes: codeOf, bounds } = ORDERS[type];
  for (let start = 0; start < values.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, values.length);
    const isWhole = end - start === BLOCK;
    let absmax = largestOf(values, start, end);
    if (!isWhole) absmax = Math.max(absmax, LEAST);
    into.absmax[(first + start) / BLOCK] = absmax;
    const inverse = f32(1 / Math.max(absmax, LEAST));
    for (let i = start; i < end; i++) {
      // A block that is not whole is divided, and a whole one multiplied.
      const scaled = isWhole ? f32(values[i] * inverse) : f32(values[i] / absmax);
      let at = scaled > bounds[7] ? 8 : 0;
      if (scaled > bounds[at + 3]) at += 4;
      if (scaled > bounds[at + 1]) at += 2;
      if (scaled > bounds[at]) at += 1;
      const place = first + i;
      into.codes[place >> 1] |= codeOf[at] << (place & 1 ? 0 : 4);
    }
    // An odd count is filled up with a zero.
    if (end - start & 1) into.codes[first + end - 1 >> 1] |= codeOf[zeroOf(bounds)];
  }
}

/** Where 0 stands among the values of a type. */
const zeroOf = (bounds: Float32Array) => bounds.findIndex((bound) => bound >= 0);

/** What there is to be filled for a tensor of `elements`. */
export const fourBits = (elements: number): FourBits => ({
  codes: new Uint8Array(Math.ceil(elements / 2)),
  absmax: new Float32Array(Math.ceil(elements / BLOCK)),
});

function largestOf(values: Float32Array, start: number, end: number): number {
  let largest = 0;
  for (let i = start; i < end; i++) {
    const magnitude = Math.abs(values[i]);
    if (magnitude <= largest) continue;
    if (Number.isNaN(magnitude)) return NaN;
    largest = magnitude;
  }
  return largest;
}

/** What codes and scales stand for. */
export function dequantize4bit({ codes, absmax }: FourBits, type: "nf4" | "fp4", elements: number) {
  return Float32Array.from({ length: elements }, (_, i) => {
    const code = codes[i >> 1] >> (i & 1 ? 0 : 4) & 15;
    return CODES[type][code] * absmax[Math.floor(i / BLOCK)];
  });
}

/** Scales in 8 bits: codes of `DYNAMIC_MAP`, a factor for every 256 of them, and their mean. */
export interface QuantizedScales {
  codes: Uint8Array;
  absmax: Float32Array;
  offset: number;
}

/**
 * The scales of blocks in 8 bits, as `compress_statistics` has them. The mean is that of float64, rounded: PyTorch's
 * own depends in its last digit on how many numbers the processor adds at a time.
 */
export function quantizeScales(scales: Float32Array): QuantizedScales {
  const offset = f32(scales.reduce((sum, scale) => sum + scale, 0) / scales.length);
  return { ...quantizeDynamic(scales.map((scale) => scale - offset), SCALE_BLOCK), offset };
}

/** What they stand for. */
export const dequantizeScales = ({ codes, absmax, offset }: QuantizedScales): Float32Array =>
  Float32Array.from(
    codes,
    (code, i) => f32(DYNAMIC_MAP[code] * absmax[Math.floor(i / SCALE_BLOCK)]) + offset,
  );

/** What the bytes of scales stand for. */
export const DYNAMIC_MAP: Float32Array<ArrayBuffer> = dynamicMap(true);

/**
 * A table of the code for each of 65,536 values from -1 to 1: bitsandbytes rounds to those before it looks for the
 * nearest.
 */
const STEPS = 65535;
let table: Uint8Array | undefined;

function dynamicTable(): Uint8Array {
  if (table) return table;
  table = new Uint8Array(STEPS + 1);
  let code = 0;
  const halfway = (code: number) => f32(0.5 * f32(DYNAMIC_MAP[code] + DYNAMIC_MAP[code + 1]));
  for (let i = 0; i <= STEPS; i++) {
    const value = f32(-1 + f32(f32(2 * i) / STEPS));
    while (code < 255 && halfway(code) < value) code++;
    table[i] = code;
  }
  return table;
}

/** Codes of `DYNAMIC_MAP`, and the largest magnitude of each block. */
export function quantizeDynamic(
  values: Float32Array,
  block: number,
): { codes: Uint8Array; absmax: Float32Array } {
  const nearest = dynamicTable();
  const codes = new Uint8Array(values.length);
  const absmax = new Float32Array(Math.ceil(values.length / block));
  for (let start = 0; start < values.length; start += block) {
    const end = Math.min(start + block, values.length);
    const largest = largestOf(values, start, end);
    absmax[start / block] = largest;
    if (largest === 0) continue;
    const inverse = f32(1 / largest);
    for (let i = start; i < end; i++) {
      const scaled = Math.min(Math.max(f32(values[i] * inverse), -1), 1);
      codes[i] = nearest[Math.trunc(f32(f32(f32(f32(scaled + 1) * 0.5) * STEPS) + 0.5))];
    }
  }
  return { codes, absmax };
}

/**
 * Rows in bytes, `round(127 x / absmax)`, and the largest magnitude of each: the weights of LLM.int8() (Dettmers et
 * al., 2022). Its activations in 8 bits, and apart from them those that stand out, are not followed: activations stay
 * float32 here.
 */
export function quantizeRows(
  values: Float32Array,
  columns: number,
  into: { codes: Int8Array; absmax: Float32Array },
  firstRow = 0,
): void {
  for (let row = 0; row < values.length / columns; row++) {
    const largest = largestOf(values, row * columns, (row + 1) * columns);
    into.absmax[firstRow + row] = largest;
    if (largest === 0) continue;
    // As PyTorch divides a number by a tensor.
    const factor = f32(f32(1 / largest) * 127);
    for (let i = 0; i < columns; i++) {
      into.codes[(firstRow + row) * columns + i] = roundToEven(f32(values[row * columns + i] * factor));
    }
  }
}

/** What bytes and the largest magnitude of their row stand for. */
export const dequantizeRow = (codes: Int8Array, absmax: number): Float32Array =>
  Float32Array.from(codes, (code) => f32(code * absmax) * f32(7.874015718698502e-3));

function roundToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}
