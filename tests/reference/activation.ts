/** Activations, alone and gated (arXiv 2002.05202), in float64, by transformers' names. */
import type { Activation } from "../../kernels/activation.ts";

const sigmoid = (z: number) => 1 / (1 + Math.exp(-z));

/**
 * P(X <= x) of a normal X: about 0 by the series of erf whose terms have one sign, in the tails by Laplace's
 * continued fraction.
 */
function normalBelow(x: number): number {
  const density = Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
  const a = Math.abs(x);
  if (a < 5) {
    let [sum, term] = [0, a];
    for (let n = 1; term > 1e-17 * sum; n++) [sum, term] = [sum + term, term * a * a / (2 * n + 1)];
    return 0.5 + Math.sign(x) * density * sum;
  }
  let fraction = a;
  for (let n = 60; n > 0; n--) fraction = a + n / fraction;
  return x < 0 ? density / fraction : 1 - density / fraction;
}

const gelu = (x: number) => x * normalBelow(x);
const geluTanh = (x: number) => {
  const u = Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
  // (1 + tanh(u)) / 2, where that would cancel.
  return x * sigmoid(2 * u);
};
const silu = (x: number) => x * sigmoid(x);

export const activations: Record<Activation, (x: number) => number> = {
  silu,
  swish: silu,
  gelu,
  gelu_python: gelu,
  gelu_new: geluTanh,
  gelu_pytorch_tanh: geluTanh,
  gelu_python_tanh: geluTanh,
  gelu_fast: geluTanh,
  gelu_accurate: geluTanh,
  quick_gelu: (x) => x * sigmoid(1.702 * x),
  relu: (x) => Math.max(x, 0),
  relu2: (x) => Math.max(x, 0) ** 2,
  sigmoid,
  tanh: Math.tanh,
  mish: (x) => x * Math.tanh(Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))),
};

const normalDensity = (x: number) => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
const geluTanhSlope = (x: number) => {
  const z = 2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
  const slope = 2 * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x * x);
  return sigmoid(z) + x * sigmoid(z) * sigmoid(-z) * slope;
};
const geluSlope = (x: number) => normalBelow(x) + x * normalDensity(x);
const gatedSlope = (scale: number) => (x: number) =>
  sigmoid(scale * x) + scale * x * sigmoid(scale * x) * sigmoid(-scale * x);

export const slopes: Record<Activation, (x: number) => number> = {
  silu: gatedSlope(1),
  swish: gatedSlope(1),
  gelu: geluSlope,
  gelu_python: geluSlope,
  gelu_new: geluTanhSlope,
  gelu_pytorch_tanh: geluTanhSlope,
  gelu_python_tanh: geluTanhSlope,
  gelu_fast: geluTanhSlope,
  gelu_accurate: geluTanhSlope,
  quick_gelu: gatedSlope(1.702),
  // As PyTorch's at 0.
  relu: (x) => x > 0 ? 1 : 0,
  relu2: (x) => 2 * Math.max(x, 0),
  sigmoid: (x) => sigmoid(x) * sigmoid(-x),
  tanh: (x) => 4 / (Math.exp(x) + Math.exp(-x)) ** 2,
  mish: (x) => {
    const t = Math.tanh(Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))));
    return t + x * (1 - t * t) * sigmoid(x);
  },
};

export const activate = (x: ArrayLike<number>, act: Activation): Float64Array =>
  Float64Array.from(x, activations[act]);

export const activateBackward = (
  x: ArrayLike<number>,
  dY: ArrayLike<number>,
  act: Activation,
): Float64Array => Float64Array.from(x, (value, i) => dY[i] * slopes[act](value));

/**
 * Index of the gate that y's element `i` comes from: a row of `gateUp` holds `width` gates, then `width` ups.
 */
const gateOf = (i: number, width: number) => Math.floor(i / width) * 2 * width + i % width;

/** y [rows, width] of gateUp [rows, 2 width]. */
export const glu = (gateUp: ArrayLike<number>, width: number, act: Activation = "silu"): Float64Array =>
  Float64Array.from({ length: gateUp.length / 2 }, (_, i) => {
    const gate = gateOf(i, width);
    return activations[act](gateUp[gate]) * gateUp[gate + width];
  });

/** The gradient of gateUp. */
export function gluBackward(
  gateUp: ArrayLike<number>,
  dY: ArrayLike<number>,
  width: number,
  act: Activation = "silu",
): Float64Array {
  const dGateUp = new Float64Array(gateUp.length);
  for (let i = 0; i < dY.length; i++) {
    const at = gateOf(i, width);
    const [gate, up] = [gateUp[at], gateUp[at + width]];
    dGateUp[at] = dY[i] * up * slopes[act](gate);
    dGateUp[at + width] = dY[i] * activations[act](gate);
  }
  return dGateUp;
}
