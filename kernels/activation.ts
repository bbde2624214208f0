/**
 * WGSL of the functions between the products of an MLP, by transformers' names (ACT2FN in its activations.py).
 * Drivers' exp is off by 1e-6 and their tanh is NaN for large arguments, so all but silu are made of `exp_accurate`
 * of what is never above 0.
 */
import { elementSource } from "./prelude.ts";

/** What a kernel needs of a function of `x`, an element `E`. */
interface Formula {
  /** Lines before it, of which `value` and `slope` are made. */
  lines?: string;
  value: string;
  slope: string;
  /** Forward alone, where that takes less. */
  forward?: string;
}

/** sigmoid(z) and, where the exponential vanishes without a loss of digits, its slope sigmoid(z) sigmoid(-z). */
const SIGMOID = `
  let e = exp_element(-abs(z));
  let large = E(1.0) / (E(1.0) + e);
  let sigmoid = select(e * large, large, z >= E());
  let sigmoid_slope = e * large * large;`;

/** Beyond the bounds its slope is 0 or 1. */
const QUICK_GELU: Formula = {
  lines: `let near = clamp(x, E(-100.0), E(100.0));
  let z = 1.702 * near;${SIGMOID}`,
  value: "x * sigmoid",
  slope: "sigmoid + z * sigmoid_slope",
};

const SILU: Formula = {
  lines: "let sigmoid = E(1.0) / (exp(-x) + 1.0);\n  let silu = x * sigmoid;",
  value: "silu",
  slope: "sigmoid + silu * (E(1.0) - sigmoid)",
  forward: "x / (exp(-x) + 1.0)",
};

/**
 * x P(X <= x) of a normal X. P is 1/2 + x p(x^2) about 0, and exp(-x^2/2) q(1 / (|x| + 2.5)) in its tails:
 * polynomials of least relative error against float64, 1e-9 and 3e-8.
 */
const GELU: Formula = {
  lines: `let near = clamp(x, E(-14.0), E(14.0));
  let square = near * near;
  let e = exp_element(-0.5 * square);
  let t = E(1.0) / (abs(near) + 2.5);
  let tail = e * ${
    polynomial("t", [
      44.70771408,
      -48.84243393,
      11.74657536,
      1.83013022,
      2.21717787,
      0.990927875,
      0.39912802,
      -2.26706766e-6,
    ])
  };
  let half = near * ${
    polynomial("square", [
      4.37203425e-7,
      -8.86829093e-6,
      1.14683855e-4,
      -1.18681625e-3,
      9.97338910e-3,
      -6.64903596e-2,
      0.398942292,
    ])
  };
  let normal = select(select(tail, 1.0 - tail, x >= E()), 0.5 + half, abs(near) < E(1.3));`,
  value: "x * normal",
  slope: "normal + near * (e * 0.39894228)",
};

/** GELU by tanh: (1 + tanh(u)) / 2 is sigmoid(2 u), which keeps its digits where it is small; 2 u at 12 is 142. */
const GELU_TANH: Formula = {
  lines: `let near = clamp(x, E(-12.0), E(12.0));
  let z = near * (1.59576912 + 0.0713548163 * near * near);${SIGMOID}`,
  value: "x * sigmoid",
  slope: "sigmoid + near * sigmoid_slope * (1.59576912 + 0.214064449 * near * near)",
};

/** Near 0 by Cephes' polynomial (tanhf), since 1 - exp(-2 x) would have lost its digits. */
const TANH: Formula = {
  lines: `let e = exp_element(-2.0 * abs(x));
  let small = clamp(x, E(-1.0), E(1.0));
  let square = small * small;
  let odd = small + small * square * ${
    polynomial("square", [
      -5.70498872745e-3,
      2.06390887954e-2,
      -5.37397155531e-2,
      1.33314422036e-1,
      -3.33332819422e-1,
    ])
  };
  let large = (E(1.0) - e) / (E(1.0) + e);
  let value = select(select(-large, large, x >= E()), odd, abs(x) < E(0.625));`,
  value: "value",
  slope: "4.0 * e / ((E(1.0) + e) * (E(1.0) + e))",
};

/** x tanh(log(1 + exp(x))) = x n / (n + d), of n and d by exp(-|x|). */
const MISH: Formula = {
  lines: `let near = clamp(x, E(-100.0), E(100.0));
  let e = exp_element(-abs(near));
  let n = select(e * (e + 2.0), 1.0 + 2.0 * e, x >= E());
  let d = select(E(2.0), 2.0 * e * e, x >= E());
  let t = n / (n + d);
  let sigmoid = select(e, E(1.0), x >= E()) / (E(1.0) + e);`,
  value: "x * t",
  slope: "t + near * sigmoid * (d / (n + d)) * (1.0 + t)",
};

const FORMULAS = {
  silu: SILU,
  swish: SILU,
  gelu: GELU,
  gelu_python: GELU,
  gelu_new: GELU_TANH,
  gelu_pytorch_tanh: GELU_TANH,
  gelu_python_tanh: GELU_TANH,
  gelu_fast: GELU_TANH,
  gelu_accurate: GELU_TANH,
  quick_gelu: QUICK_GELU,
  relu: { value: "max(x, E())", slope: "select(E(), E(1.0), x > E())" },
  relu2: { lines: "let r = max(x, E());", value: "r * r", slope: "2.0 * r" },
  sigmoid: { lines: `let z = x;${SIGMOID}`, value: "sigmoid", slope: "sigmoid_slope" },
  tanh: TANH,
  mish: MISH,
} satisfies Record<string, Formula>;

/** A function by its name in transformers' ACT2FN. */
export type Activation = keyof typeof FORMULAS;
export const ACTIVATIONS = Object.keys(FORMULAS) as Activation[];

/** WGSL of `activate(x) -> E`, and of `activated(x)`, which is its value and slope. */
export function activationSource(activation: Activation): string {
  const { lines = "", value, slope, forward }: Formula = FORMULAS[activation];
  return `
struct Activated { value: E, slope: E }
fn activated(x: E) -> Activated {
  ${lines}
  return Activated(${value}, ${slope});
}
fn activate(x: E) -> E { return ${forward ?? "activated(x).value"}; }
`;
}

/** The same for sources without the prelude, of vec4f. */
export const activationSource4 = (activation: Activation): string =>
  elementSource(4) + activationSource(activation);

/** Horner's rule, from the highest power on. */
function polynomial(x: string, coefficients: number[]): string {
  return coefficients.map((c) => `E(${c})`).reduce((sum, c) => `fma(${sum}, ${x}, ${c})`);
}
