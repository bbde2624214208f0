/**
 * RMSNorm (arXiv 1910.07467) in float64: y_i = w_i x_i r with r = (mean of x^2 + epsilon)^(-1/2), for each
 * row.
 */

const rowsOf = (x: ArrayLike<number>, width: number) =>
  Array.from(
    { length: x.length / width },
    (_, row) => Float64Array.from(x).slice(row * width, (row + 1) * width),
  );

const reciprocalRms = (row: Float64Array, epsilon: number) =>
  (row.reduce((sum, value) => sum + value ** 2, 0) / row.length + epsilon) ** -0.5;

/** `rstd` is r of each row; the width of a row is that of `weight`. */
export function rmsNorm(x: ArrayLike<number>, weight: ArrayLike<number>, epsilon: number) {
  const rows = rowsOf(x, weight.length);
  const rstd = Float64Array.from(rows, (row) => reciprocalRms(row, epsilon));
  const y = Float64Array.from(
    rows.flatMap((row, i) => [...row.map((value, j) => weight[j] * value * rstd[i])]),
  );
  return { y, rstd };
}

/**
 * Since dr/dx_j = -r^3 x_j / width, the chain rule gives d_x_j = r w_j d_y_j - r^3 x_j / width * sum_i(d_y_i
 * w_i x_i), and d_w_j is the sum over rows of d_y_j x_j r.
 */
export function rmsNormBackward(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  dY: ArrayLike<number>,
  epsilon: number,
) {
  const width = weight.length;
  const dX = new Float64Array(x.length);
  const dWeight = new Float64Array(width);
  const gradients = rowsOf(dY, width);
  for (const [i, row] of rowsOf(x, width).entries()) {
    const r = reciprocalRms(row, epsilon);
    const dR = gradients[i].reduce((sum, gradient, j) => sum + gradient * weight[j] * row[j], 0);
    for (let j = 0; j < width; j++) {
      dX[i * width + j] = r * weight[j] * gradients[i][j] - r ** 3 * row[j] / width * dR;
      dWeight[j] += gradients[i][j] * row[j] * r;
    }
  }
  return { dX, dWeight };
}
