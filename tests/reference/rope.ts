/** Rotary position embedding (arXiv 2104.09864) in float64, in transformers' half-split layout. */

export interface RopeShape {
  /** Heads that turn: queries and keys. The rest of a row, the values, stays. */
  heads: number;
  headDim: number;
  /** Elements of a row of qkv. */
  width: number;
}

/**
 * Column i of a head's first half and column i of its second are a complex number, which is multiplied by the
 * table's cos + i sin of the row's position; the gradient passes through the conjugate. `table` has `headDim`
 * numbers a position: the cosines, then the sines.
 */
export function rope(
  qkv: ArrayLike<number>,
  positions: ArrayLike<number>,
  table: ArrayLike<number>,
  { heads, headDim, width }: RopeShape,
  direction: "forward" | "backward",
): Float64Array {
  const half = headDim / 2;
  const result = Float64Array.from(qkv);
  for (let row = 0; row < positions.length; row++) {
    for (let head = 0; head < heads; head++) {
      for (let i = 0; i < half; i++) {
        const real = row * width + head * headDim + i;
        const imaginary = real + half;
        const cos = table[positions[row] * headDim + i];
        const sin = table[positions[row] * headDim + half + i] * (direction === "forward" ? 1 : -1);
        result[real] = qkv[real] * cos - qkv[imaginary] * sin;
        result[imaginary] = qkv[real] * sin + qkv[imaginary] * cos;
      }
    }
  }
  return result;
}
