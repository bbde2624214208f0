/** Logistic regression on shares with an L1 penalty, for a few features. */

/** An observation. */
export interface Sample {
  features: readonly number[];
  /** The share of it that is 1, from 0 to 1. */
  target: number;
  /** How much it counts. */
  weight: number;
}

const MOST_STEPS = 200;
const MOST_SWEEPS = 1000;
/** Relative to the largest weight. */
const TOLERANCE = 1e-10;

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

/**
 * The weights that make the sum of their absolute values and `c` times the summed loss least, without an intercept: liblinear's
 * objective. By Newton steps on the loss, each minimised with the penalty by coordinate descent (Yuan, Ho and Lin, JMLR 13, 2012).
 *
 * @example
 * ```ts
 * import { fitL1Logistic } from "./logistic.ts";
 * import assert from "node:assert/strict";
 * // Where the penalty is nothing beside the loss, the probability is the target.
 * const [weight] = fitL1Logistic([{ features: [1], target: 0.75, weight: 1 }], 1e9);
 * assert.ok(Math.abs(weight - Math.log(3)) < 1e-6);
 * ```
 */
export function fitL1Logistic(samples: readonly Sample[], c: number): number[] {
  const size = samples[0].features.length;
  let weights: number[] = new Array(size).fill(0);
  let value = objective(weights, samples, c);
  for (let step = 0; step < MOST_STEPS; step++) {
    const direction = newtonStep(weights, samples, c);
    const largest = Math.max(...weights.map(Math.abs), 1e-3);
    if (Math.max(...direction.map(Math.abs)) <= TOLERANCE * largest) break;
    let scale = 1;
    let next = weights.map((weight, j) => weight + direction[j]);
    let nextValue = objective(next, samples, c);
    while (nextValue > value && scale > 1e-6) {
      scale /= 2;
      next = weights.map((weight, j) => weight + scale * direction[j]);
      nextValue = objective(next, samples, c);
    }
    if (!(nextValue < value)) break;
    [weights, value] = [next, nextValue];
  }
  return weights;
}

function objective(weights: readonly number[], samples: readonly Sample[], c: number): number {
  const loss = samples.reduce((sum, { features, target, weight }) => {
    const z = dot(weights, features);
    // log(1 + exp(z)) - target z, without an overflow.
    return sum + weight * (Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))) - target * z);
  }, 0);
  return c * loss + weights.reduce((sum, weight) => sum + Math.abs(weight), 0);
}

/** The step to the least of the loss's second-order model and the penalty. */
function newtonStep(weights: readonly number[], samples: readonly Sample[], c: number): number[] {
  const size = weights.length;
  const gradient: number[] = new Array(size).fill(0);
  const hessian = Array.from({ length: size }, () => new Array<number>(size).fill(0));
  for (const { features, target, weight } of samples) {
    const p = probability(weights, features);
    for (let j = 0; j < size; j++) {
      gradient[j] += c * weight * (p - target) * features[j];
      for (let k = 0; k < size; k++) hessian[j][k] += c * weight * p * (1 - p) * features[j] * features[k];
    }
  }
  const step: number[] = new Array(size).fill(0);
  for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) {
    let change = 0;
    for (let j = 0; j < size; j++) {
      // A feature that is 0 everywhere has no curvature, and gets no weight.
      const curvature = hessian[j][j] || 1;
      const at = weights[j] + step[j] - (gradient[j] + dot(hessian[j], step)) / curvature;
      const shrunk = Math.sign(at) * Math.max(0, Math.abs(at) - 1 / curvature);
      change = Math.max(change, Math.abs(shrunk - weights[j] - step[j]));
      step[j] = shrunk - weights[j];
    }
    if (change <= TOLERANCE / 100 * Math.max(...step.map(Math.abs))) break;
  }
  return step;
}

const dot = (a: readonly number[], b: readonly number[]) =>
  a.reduce((sum, value, i) => sum + value * b[i], 0);
