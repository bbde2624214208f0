/**
 * Values of losses of one pair in float64, from the formulas of their papers: each of the sums of chosen and
 * rejected, the numbers of their labels, and the reference's sums. Derivatives are differences of these.
 */
import type { ResponseSums } from "../../lib/losses/definition.ts";

/** The value of a loss with its keys. */
export type Value = (c: ResponseSums, r: ResponseSums) => number;

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const logSigmoid = (x: number) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));
const mean = ({ sum, labels }: ResponseSums) => sum / labels;
const ratio = ({ sum, reference }: ResponseSums) => sum - reference;
const meanRatio = (r: ResponseSums) => ratio(r) / r.labels;
const odds = (r: ResponseSums) => mean(r) - Math.log(-Math.expm1(mean(r)));

/** By the difference of the log-ratios. */
const ofRatios = (of: (x: number) => number): Value => (c, r) => of(ratio(c) - ratio(r));

/** The losses of pairs, with the beta of 0.1 where they have one. */
export const REFERENCES: Readonly<Record<string, Value>> = {
  simper: (c, r) => Math.exp(mean(r)) - Math.exp(mean(c)),
  sft: (c) => -mean(c),
  sigmoid: ofRatios((x) => -logSigmoid(0.1 * x)),
  hinge: ofRatios((x) => Math.max(0, 1 - 0.1 * x)),
  robust: ofRatios((x) => (-0.8 * logSigmoid(0.1 * x) + 0.2 * logSigmoid(-0.1 * x)) / 0.6),
  exo_pair: ofRatios((x) => {
    const q = sigmoid(0.1 * x);
    const part = (p: number, of: number) => p === 0 ? 0 : p * Math.log(p / of);
    return part(q, 0.8) + part(sigmoid(-0.1 * x), 0.2);
  }),
  discopop: ofRatios((x) => {
    const m = sigmoid(0.1 * x / 0.05);
    return (1 - m) * -logSigmoid(0.1 * x) + m * Math.exp(-0.1 * x);
  }),
  ipo: (c, r) => (meanRatio(c) - meanRatio(r) - 5) ** 2,
  sigmoid_norm: (c, r) => -logSigmoid(0.1 * (meanRatio(c) - meanRatio(r))),
  nca_pair: (c, r) =>
    -logSigmoid(0.1 * ratio(c)) - 0.5 * logSigmoid(-0.1 * ratio(c)) - 0.5 * logSigmoid(-0.1 * ratio(r)),
  bco_pair: (c, r) => -logSigmoid(0.1 * ratio(c)) - logSigmoid(-0.1 * ratio(r)),
  sppo_hard: (c, r) => (ratio(c) - 5) ** 2 + (ratio(r) + 5) ** 2,
  apo_zero: (c, r) => 1 - sigmoid(0.1 * ratio(c)) + sigmoid(0.1 * ratio(r)),
  apo_down: (c, r) => sigmoid(0.1 * ratio(c)) + 1 - sigmoid(0.1 * (ratio(c) - ratio(r))),
  cpo: (c, r) => -logSigmoid(0.1 * (c.sum - r.sum)) - mean(c),
  slic: (c, r) => Math.max(0, 1 - 0.1 * (c.sum - r.sum)) - mean(c),
  simpo: (c, r) => -logSigmoid(0.1 * (mean(c) - mean(r)) - 0.5),
  alphapo: (c, r) => {
    const reward = (of: ResponseSums) => (1 - Math.exp(-0.3 * mean(of))) / 0.3;
    return -logSigmoid(0.1 * (reward(c) - reward(r)) - 0.5);
  },
  orpo: (c, r) => -mean(c) - 0.1 * logSigmoid(odds(c) - odds(r)),
};

/** The derivatives of a value by the two sums, by central differences of the 4th order. */
export function derivatives(
  of: Value,
  c: ResponseSums,
  r: ResponseSums,
): [dChosen: number, dRejected: number] {
  const step = 1e-3;
  const slope = (at: (change: number) => number) =>
    (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
  return [
    slope((change) => of({ ...c, sum: c.sum + change }, r)),
    slope((change) => of(c, { ...r, sum: r.sum + change })),
  ];
}
