/**
 * Logistic regression on shares with an L1 penalty, for a few features: liblinear's `solve_l1r_lr` as scikit-learn
 * 1.9 has it, step by step. It stops far from the optimum, at a place that hangs on the order of its steps, and
 * published win rates are from there.
 */

/** An observation. */
export interface Sample {
  features: readonly number[];
  /** The share of it that is 1, from 0 to 1. */
  target: number;
  /** How much it counts. */
  weight: number;
}

/** The probability of 1. */
export const probability = (weights: readonly number[], features: readonly number[]) =>
  1 / (1 + Math.exp(-dot(weights, features)));

/** Mean over samples of the weighted loss. */
export function logLoss(weights: readonly number[], samples: readonly Sample[]): number {
  const sum = samples.reduce((sum, { features, target, weight }) => {
    const p = Math.min(1 - 1e-15, Math.max(1e-15, probability(weights, features)));
    return sum - weight * (target * Math.log(p) + (1 - target) * Math.log(1 - p));
  }, 0);
  return sum / samples.length;
}

/** scikit-learn's `tol` and `max_iter`, and constants of `solve_l1r_lr` by its names. */
const EPS = 1e-4;
const MAX_NEWTON_ITER = 100;
const MAX_ITER = 1000;
const MAX_NUM_LINESEARCH = 20;
const NU = 1e-12;
const SIGMA = 0.01;

/**
 * The weights that make the sum of their absolute values and `c` times the summed loss small, without an intercept:
 * by Newton steps on the loss, each minimised with the penalty by coordinate descent in a random order (Yuan, Ho and
 * Lin, JMLR 13, 2012).
 *
 * @param seed as scikit-learn draws it from its `random_state`.
 *
 * @example
 * ```ts
 * import { fitL1Logistic } from "./logistic.ts";
 * import assert from "node:assert/strict";
 * // Where the penalty is nothing beside the loss, the probability is the target.
 * const [weight] = fitL1Logistic([{ features: [1], target: 0.75, weight: 1 }], 1e9, 1);
 * assert.ok(Math.abs(weight - Math.log(3)) < 1e-3);
 * ```
 */
export function fitL1Logistic(samples: readonly Sample[], c: number, seed: number): number[] {
  const { x, isOne, weights } = binary(samples, c);
  const [features, l] = [x.length, weights.length];
  const ones = isOne.filter(Boolean).length;
  const eps = EPS * Math.max(Math.min(ones, l - ones), 1) / l;
  const random = mersenneTwister(seed);
  const w = new Float64Array(features);
  const wpd = new Float64Array(features);
  const index = Array.from({ length: features }, (_, j) => j);
  const swap = (i: number, j: number) => [index[i], index[j]] = [index[j], index[i]];
  const [gradient, curvature] = [new Float64Array(features), new Float64Array(features)];
  const negativeSums = x.map((values) => sum(l, (i) => isOne[i] ? 0 : weights[i] * values[i]));
  const [xTd, tau, d] = [new Float64Array(l), new Float64Array(l), new Float64Array(l)];
  let expWTx = new Float64Array(l).fill(1);
  let expWTxNew = new Float64Array(l);
  const derive = () => {
    for (let i = 0; i < l; i++) {
      const at = 1 / (1 + expWTx[i]);
      tau[i] = weights[i] * at;
      d[i] = weights[i] * expWTx[i] * at * at;
    }
  };
  derive();
  let [norm, innerEps, initial, largestBefore] = [0, 1, 0, Infinity];
  for (let newton = 0; newton < MAX_NEWTON_ITER; newton++) {
    let [largest, total, active] = [0, 0, features];
    for (let s = 0; s < active; s++) {
      const j = index[s];
      curvature[j] = NU + sum(l, (i) => x[j][i] * x[j][i] * d[i]);
      gradient[j] = negativeSums[j] - sum(l, (i) => x[j][i] * tau[i]);
      const violation = violationOf(w[j], gradient[j], largestBefore / l);
      if (violation === undefined) swap(s--, --active);
      else [largest, total] = [Math.max(largest, violation), total + violation];
    }
    if (newton === 0) initial = total;
    if (total <= eps * initial) break;

    // The second-order model of the loss, with the penalty.
    xTd.fill(0);
    let [iterations, qpActive, qpLargestBefore] = [0, active, Infinity];
    while (iterations < MAX_ITER) {
      let [qpLargest, qpTotal] = [0, 0];
      for (let j = 0; j < qpActive; j++) swap(j + below(qpActive - j, random), j);
      for (let s = 0; s < qpActive; s++) {
        const j = index[s];
        const h = curvature[j];
        const g = gradient[j] + (wpd[j] - w[j]) * NU + sum(l, (i) => x[j][i] * d[i] * xTd[i]);
        const violation = violationOf(wpd[j], g, qpLargestBefore / l);
        if (violation === undefined) {
          swap(s--, --qpActive);
          continue;
        }
        [qpLargest, qpTotal] = [Math.max(qpLargest, violation), qpTotal + violation];
        const step = g + 1 < h * wpd[j] ? -(g + 1) / h : g - 1 > h * wpd[j] ? -(g - 1) / h : -wpd[j];
        if (Math.abs(step) < 1e-12) continue;
        const z = Math.min(Math.max(step, -10), 10);
        wpd[j] += z;
        for (let i = 0; i < l; i++) xTd[i] += x[j][i] * z;
      }
      iterations++;
      if (qpTotal > innerEps * initial) qpLargestBefore = qpLargest;
      else if (qpActive === active) break;
      else [qpActive, qpLargestBefore] = [active, Infinity];
    }

    let normNew = sum(features, (j) => Math.abs(wpd[j]));
    let delta = sum(features, (j) => gradient[j] * (wpd[j] - w[j])) + normNew - norm;
    let negative = sum(l, (i) => isOne[i] ? 0 : weights[i] * xTd[i]);
    let searches = 0;
    for (; searches < MAX_NUM_LINESEARCH; searches++) {
      let condition = normNew - norm + negative - SIGMA * delta;
      for (let i = 0; i < l; i++) {
        const e = Math.exp(xTd[i]);
        expWTxNew[i] = expWTx[i] * e;
        condition += weights[i] * Math.log((1 + expWTxNew[i]) / (e + expWTxNew[i]));
      }
      if (condition <= 0) {
        norm = normNew;
        w.set(wpd);
        [expWTx, expWTxNew] = [expWTxNew, expWTx];
        derive();
        break;
      }
      for (let j = 0; j < features; j++) wpd[j] = (w[j] + wpd[j]) * 0.5;
      normNew = sum(features, (j) => Math.abs(wpd[j]));
      delta *= 0.5;
      negative *= 0.5;
      for (let i = 0; i < l; i++) xTd[i] *= 0.5;
    }
    if (searches === MAX_NUM_LINESEARCH) {
      for (let i = 0; i < l; i++) expWTx[i] = Math.exp(sum(features, (j) => w[j] * x[j][i]));
    }
    if (iterations === 1) innerEps *= 0.25;
    largestBefore = largest;
  }
  return [...w];
}

/**
 * Each sample as one of 0 and one of 1, weighted by the share of either, as alpaca_eval has it; those without weight
 * are left out.
 */
function binary(samples: readonly Sample[], c: number) {
  const of = (isOne: boolean) =>
    samples.map(({ features, target, weight }) => ({
      features,
      isOne,
      weight: c * (weight * (isOne ? target : 1 - target)),
    }));
  const all = [...of(false), ...of(true)].filter(({ weight }) => weight > 0);
  return {
    x: samples[0].features.map((_, j) => Float64Array.from(all, ({ features }) => features[j])),
    isOne: all.map(({ isOne }) => isOne),
    weights: Float64Array.from(all, ({ weight }) => weight),
  };
}

/** How far a weight is from what the penalty asks of its gradient; undefined where it stays 0, with a margin. */
function violationOf(weight: number, gradient: number, margin: number): number | undefined {
  const [positive, negative] = [gradient + 1, gradient - 1];
  if (weight > 0) return Math.abs(positive);
  if (weight < 0) return Math.abs(negative);
  if (positive < 0) return -positive;
  if (negative > 0) return negative;
  return positive > margin && negative < -margin ? undefined : 0;
}

function sum(count: number, of: (i: number) => number): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += of(i);
  return total;
}

/** A whole number from 0 on, below `range` (Lemire, arXiv 1805.10941). */
function below(range: number, random: () => number): number {
  const least = 2 ** 32 % range;
  for (;;) {
    const product = BigInt(random()) * BigInt(range);
    if (Number(product & 0xffffffffn) >= least) return Number(product >> 32n);
  }
}

/** C++'s `std::mt19937` (Matsumoto and Nishimura, 1998). */
function mersenneTwister(seed: number): () => number {
  const [n, m] = [624, 397];
  const state = new Uint32Array(n);
  state[0] = seed;
  for (let i = 1; i < n; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ state[i - 1] >>> 30) + i;
  let at = n;
  return () => {
    if (at === n) {
      for (let i = 0; i < n; i++) {
        const y = state[i] & 0x80000000 | state[(i + 1) % n] & 0x7fffffff;
        state[i] = state[(i + m) % n] ^ y >>> 1 ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++];
    y ^= y >>> 11;
    y ^= y << 7 & 0x9d2c5680;
    y ^= y << 15 & 0xefc60000;
    return (y ^ y >>> 18) >>> 0;
  };
}

const dot = (a: readonly number[], b: readonly number[]) =>
  a.reduce((sum, value, i) => sum + value * b[i], 0);
