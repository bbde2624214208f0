/**
 * The references of gradients against differences of the references of values, and AdamW's against PyTorch.
 */
import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { normal, uniform } from "../../lib/random.ts";
import { assertClose, freshSeed } from "../kernels/harness.ts";
import { randomPairs } from "../random_pairs.ts";
import { ACTIVATIONS } from "../../kernels/activation.ts";
import { activate, activateBackward, glu, gluBackward } from "./activation.ts";
import { adamw, clip } from "./adamw.ts";
import { attention, attentionBackward } from "./attention.ts";
import { logProbabilities, logProbabilitiesBackward } from "./log_probabilities.ts";
import { matrix, multiply, transposed } from "./matrix.ts";
import { sft, simper } from "./preference_loss.ts";
import { norm, normBackward } from "./norm.ts";
import { rope } from "./rope.ts";
import { takeRows, takeRowsBackward } from "./rows.ts";

const STEP = 1e-5;

/** The gradient of `f` at `x` by central differences, with an error of about STEP^2. */
function differences(f: (x: Float64Array) => number, x: Float64Array): Float64Array {
  const at = (i: number, change: number) => f(x.map((value, j) => j === i ? value + change : value));
  return x.map((_, i) => (at(i, STEP) - at(i, -STEP)) / (2 * STEP));
}

const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i], 0);

/**
 * A gradient test: with a random upstream gradient u, d(u . f(x)) / dx must be what `backward` makes of u.
 */
function checkGradient(
  name: string,
  of: (random: (count: number) => Float64Array, next: () => number) => {
    x: Float64Array;
    forward: (x: Float64Array) => Float64Array;
    backward: (upstream: Float64Array, x: Float64Array) => Float64Array;
  },
): void {
  Deno.test(`the reference gradient of ${name} equals finite differences`, () => {
    const seed = freshSeed();
    const next = normal(seed);
    const random = (count: number) => Float64Array.from({ length: count }, next);
    const { x, forward, backward } = of(random, uniform(seed, 1));
    const upstream = random(forward(x).length);
    const expected = differences((x) => dot(upstream, forward(x)), x);
    assertClose(backward(upstream, x), expected, { tolerance: 1e-7 }, `seed ${seed}`);
  });
}

checkGradient("a matrix product by its left factor", (random) => {
  const b = matrix(random(5 * 4), 5, 4);
  return {
    x: random(3 * 5),
    forward: (x) => multiply(matrix(x, 3, 5), b),
    backward: (u) => multiply(matrix(u, 3, 4), transposed(b)),
  };
});

checkGradient("a matrix product by its right factor", (random) => {
  const a = matrix(random(3 * 5), 3, 5);
  return {
    x: random(5 * 4),
    forward: (x) => multiply(a, matrix(x, 5, 4)),
    backward: (u) => multiply(transposed(a), matrix(u, 3, 4)),
  };
});

for (const kind of ["rms", "layer"] as const) {
  const how = { kind, epsilon: 1e-2, onePlus: kind === "rms" };
  checkGradient(`${kind} norm by its input`, (random) => {
    const parameters = { ...how, weight: random(7), bias: random(7) };
    return {
      x: random(3 * 7),
      forward: (x) => norm(x, parameters).y,
      backward: (u, x) => normBackward(x, u, parameters).dX,
    };
  });

  checkGradient(`${kind} norm by its weight`, (random) => {
    const x = random(3 * 7);
    return {
      x: random(7),
      forward: (weight) => norm(x, { ...how, weight }).y,
      backward: (u, weight) => normBackward(x, u, { ...how, weight }).dWeight,
    };
  });

  checkGradient(`${kind} norm by its bias`, (random) => {
    const [x, weight] = [random(3 * 7), random(7)];
    return {
      x: random(7),
      forward: (bias) => norm(x, { ...how, weight, bias }).y,
      backward: (u, bias) => normBackward(x, u, { ...how, weight, bias }).dBias,
    };
  });
}

checkGradient("rotary embedding", (random) => {
  const shape = { heads: 3, headDim: 6, width: 24 };
  const table = random(5 * 6);
  const turn = (x: Float64Array, direction: "forward" | "backward") =>
    rope(x, [4, 0, 2], table, shape, direction);
  return {
    x: random(3 * 24),
    forward: (x) => turn(x, "forward"),
    backward: (u) => turn(u, "backward"),
  };
});

for (const act of ACTIVATIONS) {
  checkGradient(act, (random) => ({
    x: random(15),
    forward: (x) => activate(x, act),
    backward: (u, x) => activateBackward(x, u, act),
  }));
}

checkGradient("a gated linear unit", (random) => ({
  x: random(3 * 2 * 5),
  forward: (x) => glu(x, 5, "gelu"),
  backward: (u, x) => gluBackward(x, u, 5, "gelu"),
}));

/** transformers 5.17's ACT2FN[name] of float64 tensors: at -2.3 and 0.7. */
const ACT2FN = {
  silu: [-0.20958281033416915, 0.46773144051771626],
  swish: [-0.20958281033416915, 0.46773144051771626],
  gelu: [-0.024665453049854423, 0.5306254434438489],
  gelu_python: [-0.024665453049854423, 0.5306254434438489],
  gelu_new: [-0.024327029795919095, 0.5305701347051167],
  gelu_pytorch_tanh: [-0.024327029795919095, 0.5305701347051167],
  gelu_python_tanh: [-0.024327029795919095, 0.5305701347051167],
  gelu_fast: [-0.024327029796311316, 0.5305701347045902],
  gelu_accurate: [-0.024327029795919095, 0.5305701347051167],
  quick_gelu: [-0.04498424152689113, 0.5368939517231501],
  relu: [0, 0.7],
  relu2: [0, 0.49],
  sigmoid: [0.09112296101485616, 0.6681877721681662],
  tanh: [-0.9800963962661914, 0.6043677771171635],
  mish: [-0.21908829297465837, 0.5611483776438518],
};

Deno.test("activations by transformers' names have its values", () => {
  assert.deepEqual(Object.keys(ACT2FN).sort(), [...ACTIVATIONS].sort());
  // gelu_fast has its constant to ten digits.
  for (const act of ACTIVATIONS) {
    assertClose(activate([-2.3, 0.7], act), ACT2FN[act], { tolerance: 1e-11 }, act);
  }
});

checkGradient("attention over packed pairs", (random, next) => {
  const shape = { heads: 4, keyValueHeads: 2, headDim: 3, scale: 0.8, softcap: 1.5 };
  // Of the last 7 queries: their spans are in rows of all 9 keys.
  const spans = pack(randomPairs(next, 9)).masks[0].spans.subarray(4 * 2);
  return {
    x: random(9 * 8 * 3),
    forward: (x) => attention(x, spans, shape).out,
    backward: (u, x) => attentionBackward(x, u, spans, shape),
  };
});

checkGradient("copied rows", (random) => {
  const indices = [2, 0, 2, 3];
  return {
    x: random(5 * 3),
    forward: (x) => takeRows(x, indices, 3),
    backward: (u) => takeRowsBackward(u, indices, 5, 3),
  };
});

checkGradient("log-probabilities", (random) => {
  const targets = [3, 0, 4];
  return {
    x: random(3 * 5),
    forward: (x) => logProbabilities(x, targets).logps,
    backward: (u, x) => logProbabilitiesBackward(x, targets, u),
  };
});

for (const loss of [simper, sft]) {
  checkGradient(`the ${loss === simper ? "simper" : "sft"} loss`, (random) => {
    const of = (x: Float64Array) => loss([...x.subarray(0, 3)], [...x.subarray(3)]);
    return {
      x: random(7).map((value) => -Math.abs(value)),
      forward: (x) => Float64Array.of(of(x).value),
      backward: ([u], x) => x.map((_, i) => u * (i < 3 ? of(x).dChosen : of(x).dRejected)),
    };
  });
}

/**
 * torch 2.13.0 in float64: `AdamW([w], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)` from w =
 * `START`, with `clip_grad_norm_([w], 1.0)` before each step: the norm that it returns, and w after the step.
 */
const START = [0.5, -1.25, 2.0, 0.0];
const TORCH = [
  {
    gradient: [0.3, -4.0, 0.0, 1e-3],
    norm: 4.011234348676227,
    weights: [0.48950000133707827, -1.238750000100281, 1.998, -0.009999598892554497],
  },
  {
    gradient: [0.1, 2.0, -0.5, 0.0],
    norm: 2.0639767440550294,
    weights: [0.47929028969131326, -1.237894262261576, 2.0033515995993776, -0.016775686772102453],
  },
  {
    gradient: [-3.0, 0.25, 0.5, 2e-3],
    norm: 3.051639559318892,
    weights: [0.48436188617757997, -1.2373366611642693, 2.002523133570797, -0.02442592874974597],
  },
];

Deno.test("the reference of clipping and AdamW equals PyTorch", () => {
  const state = {
    weights: Float64Array.from(START),
    first: new Float64Array(4),
    second: new Float64Array(4),
  };
  const figures = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
  for (const [i, { gradient, norm, weights }] of TORCH.entries()) {
    const clipped = clip([gradient], 1);
    assert.ok(Math.abs(clipped.norm - norm) < 1e-14);
    adamw(state, Float64Array.from(gradient, (value) => value * clipped.coefficient), i + 1, figures);
    assertClose(state.weights, weights, { tolerance: 1e-14 }, `step ${i + 1}`);
  }
});
