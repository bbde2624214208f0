/** How sure a figure over pairs is, and whether two models differ in it. */
import { uniform } from "../random.ts";

/** A figure of each pair as a fraction: over pairs it is the sum of `values` divided by that of `weights`. */
export interface Column {
  values: Float64Array;
  /** By default 1 for each pair: the figure is a mean over pairs. */
  weights?: Float64Array;
}

/** A figure with the bounds of its 95 % interval. */
export interface Estimate {
  value: number;
  low: number;
  high: number;
}

/** A figure of all pairs, and the same of each draw of pairs. */
export type Drawn = Estimate & { draws: Float64Array };

/** How often pairs are drawn anew: the bounds then move by about a fortieth of the interval with another seed. */
export const RESAMPLES = 2000;
const SEED = 42;
const COVERED = 0.95;

/**
 * Each column's figure over `pairs` pairs, with its percentile bootstrap interval (Efron and Tibshirani, 1993,
 * section 13.3): pairs are drawn with replacement, the same ones for all columns. Where no draw has the figure,
 * bounds are NaN.
 */
export function estimates(
  columns: readonly Column[],
  pairs: number,
): Drawn[] {
  const next = uniform(SEED);
  const drawn = new Uint32Array(pairs);
  const found = columns.map(() => new Float64Array(RESAMPLES));
  for (let r = 0; r < RESAMPLES; r++) {
    for (let i = 0; i < pairs; i++) drawn[i] = Math.floor(next() * pairs);
    columns.forEach((column, c) => found[c][r] = ratio(column, drawn));
  }
  const all = Uint32Array.from({ length: pairs }, (_, i) => i);
  return columns.map((column, c) => withInterval(ratio(column, all), found[c]));
}

/** By how much `one` is more than `other`, a figure of the same draws. */
export const difference = (one: Drawn, other: Drawn): Drawn =>
  withInterval(one.value - other.value, one.draws.map((value, i) => value - other.draws[i]));

function withInterval(value: number, draws: Float64Array): Drawn {
  const sorted = draws.filter((drawn) => !Number.isNaN(drawn)).sort();
  const [low, high] = [1 - COVERED, 1 + COVERED].map((share) => quantile(sorted, share / 2));
  return { value, low, high, draws };
}

function ratio({ values, weights }: Column, indices: Uint32Array): number {
  let [sum, weight] = [0, 0];
  for (const i of indices) {
    sum += values[i];
    weight += weights?.[i] ?? 1;
  }
  return sum / weight;
}

/** Between the two nearest of sorted values, as `numpy.quantile`. */
export function quantile(sorted: Float64Array, share: number): number {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted.length === 0 ? NaN : sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

/**
 * How likely a mean difference is that is as far from 0 as the one found, were there none, from its bootstrap draws:
 * twice the smaller share on either side of 0, the found one counted with them (Davison and Hinkley, 1997, section
 * 4.2), so never 0; nor below what the signs of so many pairs can show, which are all alike in 1 of 2^(pairs - 1).
 */
export function bootstrapP(draws: Float64Array, pairs: number): number {
  const share = (isBeyond: (draw: number) => boolean) =>
    (draws.filter(isBeyond).length + 1) / (draws.length + 1);
  const found = 2 * Math.min(share((draw) => draw <= 0), share((draw) => draw >= 0));
  return Math.min(1, Math.max(found, 2 ** (1 - pairs)));
}

/**
 * McNemar's exact test, two-sided: how likely a split of the pairs that only one of two models has right is that is
 * as uneven as the one found, were either equally likely.
 *
 * @param onlyFirst pairs that only the first model has right.
 *
 * @example
 * ```ts
 * import { mcnemar } from "./statistics.ts";
 * import assert from "node:assert/strict";
 * assert.ok(Math.abs(mcnemar(0, 3) - 0.25) < 1e-12);
 * ```
 */
export function mcnemar(onlyFirst: number, onlySecond: number): number {
  const n = onlyFirst + onlySecond;
  // Terms as logarithms: 2 ** -n is no number of 64 bits for some thousand pairs.
  let term = -n * Math.LN2;
  let tail = Math.exp(term);
  for (let k = 1; k <= Math.min(onlyFirst, onlySecond); k++) {
    term += Math.log((n - k + 1) / k);
    tail += Math.exp(term);
  }
  return Math.min(1, 2 * tail);
}

/**
 * How likely a value within `t` of 0 is under Student's distribution with `df` degrees of freedom (Abramowitz and
 * Stegun, 1964, 26.7.3 and 26.7.4).
 */
function studentWithin(t: number, df: number): number {
  const theta = Math.atan(t / Math.sqrt(df));
  const [sine, cosine] = [Math.sin(theta), Math.cos(theta)];
  const isOdd = df % 2 === 1;
  let term = isOdd ? cosine : 1;
  let sum = df === 1 ? 0 : term;
  for (let k = isOdd ? 2 : 1; k <= df - 3; k += 2) {
    term *= k / (k + 1) * cosine ** 2;
    sum += term;
  }
  return isOdd ? 2 / Math.PI * (theta + sine * sum) : sine * sum;
}

/**
 * The value within which 95 % of Student's distribution with `df` degrees of freedom lie, on both sides of 0.
 *
 * @example
 * ```ts
 * import { studentQuantile } from "./statistics.ts";
 * import assert from "node:assert/strict";
 * assert.equal(studentQuantile(2).toFixed(4), "4.3027");
 * ```
 */
export function studentQuantile(df: number): number {
  let [low, high] = [0, 20];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (studentWithin(middle, df) < COVERED) low = middle;
    else high = middle;
  }
  return low;
}

/** A mean of independent values with the bounds of its 95 % interval, which a single one has not. */
export interface MeanEstimate {
  value: number;
  low?: number;
  high?: number;
}

/** The mean of values, one a seed, with Student's interval. */
export function meanEstimate(values: readonly number[]): MeanEstimate {
  const n = values.length;
  const value = values.reduce((sum, one) => sum + one, 0) / n;
  if (n < 2) return { value };
  const variance = values.reduce((sum, one) => sum + (one - value) ** 2, 0) / (n - 1);
  const half = studentQuantile(n - 1) * Math.sqrt(variance / n);
  return { value, low: value - half, high: value + half };
}
