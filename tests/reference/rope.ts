/** Rotary position embedding (arXiv 2104.09864) in float64. */

export interface RopeShape {
  /** Heads that turn: queries and keys. The rest of a row, the values, stays. */
  heads: number;
  headDim: number;
  /** Elements of a row of qkv. */
  width: number;
  /** How many elements of a head turn, the first ones; all by default. */
  dimensions?: number;
  /** Pairs are elements 2i and 2i + 1. */
  interleaved?: boolean;
}

/**
 * Column i of the first half of what turns of a head and column i of its second (or columns 2i and 2i + 1) are a
 * complex number, which is multiplied by the table's cos + i sin of the row's position; the gradient passes through
 * the conjugate. `table` has `dimensions` numbers a position: the cosines, then the sines.
 */
export function rope(
  qkv: ArrayLike<number>,
  positions: ArrayLike<number>,
  table: ArrayLike<number>,
  { heads, headDim, width, dimensions = headDim, interleaved = false }: RopeShape,
  direction: "forward" | "backward",
): Float64Array {
  const half = dimensions / 2;
  const result = Float64Array.from(qkv);
  for (let row = 0; row < positions.length; row++) {
    for (let head = 0; head < heads; head++) {
      for (let i = 0; i < half; i++) {
        const real = row * width + head * headDim + (interleaved ? 2 * i : i);
        const imaginary = real + (interleaved ? 1 : half);
        const cos = table[positions[row] * dimensions + i];
        const sin = table[positions[row] * dimensions + half + i] * (direction === "forward" ? 1 : -1);
        result[real] = qkv[real] * cos - qkv[imaginary] * sin;
        result[imaginary] = qkv[real] * sin + qkv[imaginary] * cos;
      }
    }
  }
  return result;
}
