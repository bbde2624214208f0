/**
 * What quantized weights stand for, in float64 by the definition: the nearest code times the largest magnitude of its
 * block.
 */
import { CODES, type QuantizationOptions } from "../../kernels/quantized.ts";
import { type ParameterPart, rowRuns } from "../../lib/parameters/parameter.ts";
import { dequantizeScales, quantizeScales } from "../../lib/parameters/quantize.ts";

const BLOCK = 64;

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
