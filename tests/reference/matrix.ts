/** Matrix products in float64, by their definition. */

/** A rectangular view of an array: `at(row, column)` of `rows` x `columns`, rows `stride` elements apart. */
export interface Matrix {
  rows: number;
  columns: number;
  at(row: number, column: number): number;
}

export const matrix = (data: ArrayLike<number>, rows: number, columns: number, stride = columns): Matrix => ({
  rows,
  columns,
  at: (row, column) => data[row * stride + column],
});

export const transposed = (m: Matrix): Matrix => ({
  rows: m.columns,
  columns: m.rows,
  at: (row, column) => m.at(column, row),
});

/** Every element's magnitude: of a product of such matrices, no sum can have lost digits by cancellation. */
export const magnitudes = (m: Matrix): Matrix => ({ ...m, at: (row, column) => Math.abs(m.at(row, column)) });

/** A B, dense, [rows of A, columns of B]. */
export function multiply(a: Matrix, b: Matrix): Float64Array {
  const product = new Float64Array(a.rows * b.columns);
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < b.columns; j++) {
      for (let k = 0; k < a.columns; k++) product[i * b.columns + j] += a.at(i, k) * b.at(k, j);
    }
  }
  return product;
}
