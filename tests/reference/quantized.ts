/**
 * What quantized weights stand for, in float64 by the definition: the nearest code times the largest magnitude of its
 * block.
 */
import { CODES, type QuantizationOptions } from "../../kernels/quantized.ts";
import { type ParameterPart, rowRuns } from "../../lib/parameters/parameter.ts";
import { dequantizeScales, quantizeScales } from "../../lib/parameters/quantize.ts";

const BLOCK = 64;

const INT8_CODES = Array.from({ length: 255 }, (_, i) => (i - 127) / 127);

/**
 * Values of which none is as near to one code as to another: there float32, in which bitsandbytes computes, and float64
 * may choose differently.
 */
export function withoutTies(
  values: Float32Array<ArrayBuffer>,
  columns: number,
  { type }: QuantizationOptions,
): Float32Array<ArrayBuffer> {
  const block = type === "int8" ? columns : BLOCK;
  const largest = blocks(values, block).map((values) => Math.max(...values.map(Math.abs)));
  const codes = type === "int8" ? INT8_CODES : CODES[type];
  return values.map((value, i) => {
    const share = value / largest[Math.floor(i / block)];
    const [first, second] = codes.map((code) => Math.abs(code - share)).sort((a, b) => a - b);
    return second - first < 1e-5 ? 0.98 * value : value;
  });
}

/** A checkpoint tensor of `columns`, its rows in the order in which kernels see them. */
export function dequantized(
  values: Float32Array,
  part: ParameterPart,
  columns: number,
  { type, double }: QuantizationOptions,
): Float64Array {
  const block = type === "int8" ? columns : BLOCK;
  const largest = blocks(values, block).map((values) => Math.max(...values.map(Math.abs)));
  // Of scales not the nearest code is taken, but the one that bitsandbytes takes.
  const scales = double ? dequantizeScales(quantizeScales(Float32Array.from(largest))) : largest;
  const found = Array.from(values, (value, i) => {
    const scaled = value / largest[Math.floor(i / block)];
    const scale = scales[Math.floor(i / block)];
    return type === "int8" ? Math.round(127 * scaled) / 127 * scale : nearest(CODES[type], scaled) * scale;
  });
  const { order, ...whole } = part;
  const rows = rowRuns(whole)[0].rows;
  // Where kernels see each row of the checkpoint.
  const place = rowRuns(part).flatMap(({ first, rows }) => Array.from({ length: rows }, (_, i) => first + i));
  const moved = new Float64Array(rows * columns);
  place.forEach((to, from) => moved.set(found.slice(from * columns, (from + 1) * columns), to * columns));
  return order ? moved : Float64Array.from(found);
}

const blocks = (values: ArrayLike<number>, length: number): number[][] =>
  Array.from(
    { length: Math.ceil(values.length / length) },
    (_, i) => Array.from(values).slice(i * length, (i + 1) * length),
  );

const nearest = (codes: readonly number[], value: number): number =>
  codes.reduce((best, code) => Math.abs(code - value) < Math.abs(best - value) ? code : best);
