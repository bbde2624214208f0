/** Moments in bytes in float64, as bitsandbytes' block-wise optimizers have them: arXiv 2110.02861, section 2. */

const BLOCK = 256;

/** Numbers as shares of the largest magnitude of each block, which bytes of `map`, in ascending order, stand for. */
export interface Quantized {
  codes: Uint8Array;
  absmax: ArrayLike<number>;
}

/** What they stand for; `absmax` has `stride` numbers a block, of which the one at `first` counts. */
export const dequantized = (
  { codes, absmax }: Quantized,
  map: ArrayLike<number>,
  stride = 1,
  first = 0,
): Float64Array =>
  Float64Array.from(codes, (code, i) => map[code] * absmax[stride * Math.floor(i / BLOCK) + first]);

/** The largest magnitude of each block. */
export const largest = (values: Float64Array): number[] =>
  Array.from(
    { length: Math.ceil(values.length / BLOCK) },
    (_, block) =>
      values.subarray(block * BLOCK, (block + 1) * BLOCK).reduce(
        (most, value) => Math.max(most, Math.abs(value)),
        0,
      ),
  );

/**
 * Whether `codes` are those of the values of `map` nearest to the shares of `values`, or of one as near but for
 * `tolerance` of the share itself; the first that is not.
 */
export function firstNotNearest(
  values: Float64Array,
  codes: Uint8Array,
  map: ArrayLike<number>,
  tolerance: number,
): number {
  const absmax = largest(values);
  return values.findIndex((value, i) => {
    const most = absmax[Math.floor(i / BLOCK)];
    const share = most > 0 ? value / most : 0;
    const distance = Math.abs(map[codes[i]] - share);
    const others = [codes[i] - 1, codes[i] + 1].filter((code) => code in map);
    return others.some((code) => Math.abs(map[code] - share) < distance - tolerance * Math.abs(share));
  });
}
