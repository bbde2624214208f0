/** The preference figures of models on the same pairs, beside each other. */
import type { PairResult } from "../training/metrics.ts";
import { bootstrapP, type Column, type Estimate, estimates, mcnemar } from "./statistics.ts";

/** What a model was found to say of pairs. */
export interface Measured {
  name: string;
  results: readonly PairResult[];
}

/** How a model differs from the first one. */
export interface Difference {
  /** Of the two models: the second less the first. */
  names: [first: string, second: string];
  /** Pairs that only one of them has right, and McNemar's exact test of that. */
  accuracy: Estimate & { onlyFirst: number; onlySecond: number; p: number };
  /** The difference of margins, paired, with the p-value of the bootstrap. */
  margins: Estimate & { p: number };
}

/** Figures of each model by TRL's names, and how the others differ from the first. */
export interface Preferences {
  pairs: number;
  models: { name: string; figures: Record<string, Estimate> }[];
  differences: Difference[];
}

type Response = "chosen" | "rejected";

/** The mean log-probability of a response's tokens: SimPER's reward. */
export const reward = (result: PairResult, of: Response) => result[of] / result[`${of}Labels`];
const isRight = (result: PairResult) => Number(reward(result, "chosen") > reward(result, "rejected"));
const margin = (result: PairResult) => reward(result, "chosen") - reward(result, "rejected");

/** A figure of a pair, and what it is a share of where that is not the pair. */
type Figure = readonly [value: (result: PairResult) => number, weight?: (result: PairResult) => number];

const ofBoth = (name: string, value: (result: PairResult, of: Response) => number): [string, Figure][] =>
  (["chosen", "rejected"] as const).map((of) => [`${name}/${of}`, [(result) => value(result, of)]]);

/** In the order in which they are shown; the names that training logs mean the same. */
const FIGURES: readonly [string, Figure][] = [
  ["rewards/accuracies", [isRight]],
  ["rewards/margins", [margin]],
  // The mean log-probability of a token, and the inverse perplexity, whose difference SimPER's loss is.
  ...ofBoth("rewards", reward),
  ...ofBoth("inverse_perplexities", (result, of) => Math.exp(reward(result, of))),
  ...ofBoth("logps", (result, of) => result[of]),
  ...ofBoth("lengths", (result, of) => result[`${of}Labels`]),
  ["entropy", [
    ({ chosenFigures, rejectedFigures }) => chosenFigures.entropy + rejectedFigures.entropy,
    ({ chosenLabels, rejectedLabels }) => chosenLabels + rejectedLabels,
  ]],
  ["mean_token_accuracy", [({ chosenFigures }) => chosenFigures.correct, ({ chosenLabels }) => chosenLabels]],
  ["eos/probability", [
    ({ chosenFigures }) => chosenFigures.endProbability ?? 0,
    ({ chosenFigures }) => Number(chosenFigures.endProbability !== undefined),
  ]],
];

const columnOf = (results: readonly PairResult[], [value, weight]: Figure): Column => ({
  values: Float64Array.from(results, value),
  ...(weight && { weights: Float64Array.from(results, weight) }),
});

/** The figures of one model by their names, without intervals; those that it has not are left out. */
export function preferenceFigures(results: readonly PairResult[]): Record<string, number> {
  const sum = (of: (result: PairResult) => number) => results.reduce((sum, result) => sum + of(result), 0);
  const figures = FIGURES.map(([name, [value, weight = () => 1]]) =>
    [name, sum(value) / sum(weight)] as const
  );
  return Object.fromEntries(figures.filter(([, value]) => !Number.isNaN(value)));
}

/** Puts models beside each other that were measured on the same pairs, in the same order. */
export function comparePreferences(all: readonly Measured[]): Preferences {
  const pairs = all[0].results.length;
  const models = all.map(({ name, results }) => {
    const found = estimates(FIGURES.map(([, figure]) => columnOf(results, figure)), pairs);
    const figures = FIGURES.map(([name], i) => [name, bounds(found[i])] as const);
    // Where all responses were cut there is no end token.
    return { name, figures: Object.fromEntries(figures.filter(([, { value }]) => !Number.isNaN(value))) };
  });
  const [first, ...others] = all;
  return { pairs, models, differences: others.map((other) => differenceOf(first, other)) };
}

function differenceOf(first: Measured, second: Measured): Difference {
  const less = (of: (result: PairResult) => number): Column => ({
    values: Float64Array.from(second.results, (result, i) => of(result) - of(first.results[i])),
  });
  const [accuracy, margins] = estimates([less(isRight), less(margin)], first.results.length);
  const only = (one: Measured, other: Measured) =>
    one.results.filter((result, i) => isRight(result) > isRight(other.results[i])).length;
  const [onlyFirst, onlySecond] = [only(first, second), only(second, first)];
  return {
    names: [first.name, second.name],
    accuracy: { ...bounds(accuracy), onlyFirst, onlySecond, p: mcnemar(onlyFirst, onlySecond) },
    margins: { ...bounds(margins), p: bootstrapP(margins.draws) },
  };
}

const bounds = ({ value, low, high }: Estimate): Estimate => ({ value, low, high });
