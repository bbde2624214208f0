/**
 * RMSNorm (arXiv 1910.07467) and LayerNorm (arXiv 1607.06450) in float64, row by row: y = f c r + b, where c is x, of
 * LayerNorm x less its mean, r = (mean of c^2 + epsilon)^(-1/2), and f the weight or 1 + weight.
 */

export interface NormParameters {
  kind: "rms" | "layer";
  epsilon: number;
  /** As long as a row. */
  weight: ArrayLike<number>;
  bias?: ArrayLike<number>;
  onePlus?: boolean;
}

const rowsOf = (x: ArrayLike<number>, width: number) =>
  Array.from(
    { length: x.length / width },
    (_, row) => Float64Array.from(x).slice(row * width, (row + 1) * width),
  );
const meanOf = (row: Float64Array) => row.reduce((sum, value) => sum + value, 0) / row.length;

function statisticsOf(row: Float64Array, { kind, epsilon }: NormParameters) {
  const mean = kind === "layer" ? meanOf(row) : 0;
  const centred = row.map((value) => value - mean);
  return { mean, centred, rstd: (meanOf(centred.map((value) => value ** 2)) + epsilon) ** -0.5 };
}
const factorsOf = ({ weight, onePlus }: NormParameters) =>
  Float64Array.from(weight, (value) => onePlus ? 1 + value : value);

/** `rstd` is r of each row, `mean` what was taken from it. */
export function norm(x: ArrayLike<number>, how: NormParameters) {
  const factors = factorsOf(how);
  const found = rowsOf(x, factors.length).map((row) => statisticsOf(row, how));
  const y = found.flatMap(({ centred, rstd }) => [
    ...centred.map((value, j) => factors[j] * value * rstd + (how.bias?.[j] ?? 0)),
  ]);
  return {
    y: Float64Array.from(y),
    rstd: Float64Array.from(found, ({ rstd }) => rstd),
    mean: Float64Array.from(found, ({ mean }) => mean),
  };
}

/**
 * Since dr/dc_j = -r^3 c_j / width, the chain rule gives d_c_j = r f_j d_y_j - r^3 c_j / width * sum_i(d_y_i f_i
 * c_i); d_x is d_c, of LayerNorm less its mean; d_w_j is the sum over rows of d_y_j c_j r, and d_b_j that of d_y_j.
 */
export function normBackward(x: ArrayLike<number>, dY: ArrayLike<number>, how: NormParameters) {
  const factors = factorsOf(how);
  const width = factors.length;
  const dX = new Float64Array(x.length);
  const dWeight = new Float64Array(width);
  const dBias = new Float64Array(width);
  const gradients = rowsOf(dY, width);
  for (const [i, row] of rowsOf(x, width).entries()) {
    const { centred, rstd: r } = statisticsOf(row, how);
    const dR = gradients[i].reduce((sum, gradient, j) => sum + gradient * factors[j] * centred[j], 0);
    const dC = centred.map((c, j) => r * factors[j] * gradients[i][j] - r ** 3 * c / width * dR);
    const mean = how.kind === "layer" ? meanOf(dC) : 0;
    for (let j = 0; j < width; j++) {
      dX[i * width + j] = dC[j] - mean;
      dWeight[j] += gradients[i][j] * centred[j] * r;
      dBias[j] += gradients[i][j];
    }
  }
  return { dX, dWeight, dBias };
}
