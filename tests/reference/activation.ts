/** SwiGLU (arXiv 2002.05202) in float64: y = silu(gate) * up, with silu(z) = z sigmoid(z). */

const sigmoid = (z: number) => 1 / (1 + Math.exp(-z));

/**
 * Index of the gate that y's element `i` comes from: a row of `gateUp` holds `width` gates, then `width` ups.
 */
const gateOf = (i: number, width: number) => Math.floor(i / width) * 2 * width + i % width;

/** y [rows, width] of gateUp [rows, 2 width]. */
export const swiglu = (gateUp: ArrayLike<number>, width: number): Float64Array =>
  Float64Array.from({ length: gateUp.length / 2 }, (_, i) => {
    const gate = gateOf(i, width);
    return gateUp[gate] * sigmoid(gateUp[gate]) * gateUp[gate + width];
  });

/** The gradient of gateUp, from silu'(z) = sigmoid(z) + z sigmoid(z) sigmoid(-z). */
export function swigluBackward(
  gateUp: ArrayLike<number>,
  dY: ArrayLike<number>,
  width: number,
): Float64Array {
  const dGateUp = new Float64Array(gateUp.length);
  for (let i = 0; i < dY.length; i++) {
    const at = gateOf(i, width);
    const [gate, up] = [gateUp[at], gateUp[at + width]];
    dGateUp[at] = dY[i] * up * (sigmoid(gate) + gate * sigmoid(gate) * sigmoid(-gate));
    dGateUp[at + width] = dY[i] * gate * sigmoid(gate);
  }
  return dGateUp;
}
