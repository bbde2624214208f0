/** Copies of rows, as in an embedding lookup, and their gradient. */

/** y[i] = x[indices[i]], for rows of `width` elements. */
export const takeRows = (x: ArrayLike<number>, indices: ArrayLike<number>, width: number): Float64Array =>
  Float64Array.from(
    { length: indices.length * width },
    (_, i) => x[indices[Math.floor(i / width)] * width + i % width],
  );

/** The gradient of x [rows, width]: each row's is the sum of those of its copies. */
export function takeRowsBackward(
  dY: ArrayLike<number>,
  indices: ArrayLike<number>,
  rows: number,
  width: number,
): Float64Array {
  const dX = new Float64Array(rows * width);
  for (let i = 0; i < dY.length; i++) dX[indices[Math.floor(i / width)] * width + i % width] += dY[i];
  return dX;
}
