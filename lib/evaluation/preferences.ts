/** The preference figures of models on the same pairs or judged responses, beside each other. */
import type { PairResult } from "../training/metrics.ts";
import {
  bootstrapP,
  type Column,
  difference,
  type Drawn,
  type Estimate,
  estimates,
  mcnemar,
} from "./statistics.ts";

/** What a model was found to say of pairs. */
export interface Measured {
  name: string;
  results: readonly PairResult[];
}

/** How a model differs from the first one. */
export interface Difference {
  /** Of the two models: the second less the first. */
  names: [first: string, second: string];
  /** Pairs that only one of them has right, and McNemar's exact test of that; of judged responses none. */
  accuracy?: Estimate & { onlyFirst: number; onlySecond: number; p: number };
  /** The difference of margins, paired, with the p-value of the bootstrap; none without responses of both labels. */
  margins?: Estimate & { p: number };
}

/** Figures of each model by TRL's names, and how the others differ from the first. */
export interface Preferences {
  /** Or judged responses, of which each is a row. */
  pairs: number;
  /** How many of those have which label. */
  judged?: { desirable: number; undesirable: number };
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

type NamedFigures = readonly [string, Figure][];
type OfResponse = (result: PairResult, of: Response) => number;

/** A figure of the chosen response of each pair, and of the rejected one. */
const ofBoth = (name: string, value: OfResponse): NamedFigures =>
  (["chosen", "rejected"] as const).map((of) => [`${name}/${of}`, [(result) => value(result, of)]]);

const isLabelled = (of: Response) => ({ desirable }: PairResult) => Number(desirable === (of === "chosen"));

/** Of single responses "chosen" are the desirable ones and "rejected" the others, as TRL's KTOTrainer has it. */
const ofLabels = (name: string, value: OfResponse): NamedFigures =>
  (["chosen", "rejected"] as const).map((of) => [
    `${name}/${of}`,
    [(result) => isLabelled(of)(result) * value(result, "chosen"), isLabelled(of)],
  ]);

const ofResponses = (sides: typeof ofBoth): NamedFigures => [
  // The mean log-probability of a token, and the inverse perplexity, whose difference SimPER's loss is.
  ...sides("rewards", reward),
  ...sides("inverse_perplexities", (result, of) => Math.exp(reward(result, of))),
  ...sides("logps", (result, of) => result[of]),
  ...sides("lengths", (result, of) => result[`${of}Labels`]),
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

/** In the order in which they are shown; the names that training logs mean the same. */
const FIGURES: NamedFigures = [
  ["rewards/accuracies", [isRight]],
  ["rewards/margins", [margin]],
  ...ofResponses(ofBoth),
];
const JUDGED_FIGURES = ofResponses(ofLabels);

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

/**
 * Puts models beside each other that were measured on the same pairs, in the same order.
 *
 * @param judged how many have which label, of single responses that were judged.
 */
export function comparePreferences(all: readonly Measured[], judged?: Preferences["judged"]): Preferences {
  const pairs = all[0].results.length;
  const kinds = judged ? JUDGED_FIGURES : FIGURES;
  const models = all.map(({ name, results }) => {
    const drawn = estimates(kinds.map(([, figure]) => columnOf(results, figure)), pairs);
    const found = kinds.map(([name], i) => [name, drawn[i]] as [string, Drawn]);
    if (judged) found.unshift(["rewards/margins", difference(drawn[0], drawn[1])]);
    const figures = found.map(([name, drawn]) => [name, bounds(drawn)] as const);
    // Where all responses were cut there is no end token; and of one label alone no margin.
    return { name, figures: Object.fromEntries(figures.filter(([, { value }]) => !Number.isNaN(value))) };
  });
  const [first, ...others] = all;
  const between = judged ? judgedDifference : differenceOf;
  return {
    pairs,
    ...(judged && { judged }),
    models,
    differences: others.map((other) => between(first, other)),
  };
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
    margins: { ...bounds(margins), p: bootstrapP(margins.draws, first.results.length) },
  };
}

function judgedDifference(first: Measured, second: Measured): Difference {
  const rewards = ofLabels("", (result, of) => reward(result, of));
  const columns = [first, second].flatMap(({ results }) =>
    rewards.map(([, figure]) => columnOf(results, figure))
  );
  const [chosen, rejected, ...others] = estimates(columns, first.results.length);
  const margins = difference(difference(others[0], others[1]), difference(chosen, rejected));
  return {
    names: [first.name, second.name],
    ...(!Number.isNaN(margins.value) &&
      { margins: { ...bounds(margins), p: bootstrapP(margins.draws, first.results.length) } }),
  };
}

const bounds = ({ value, low, high }: Estimate): Estimate => ({ value, low, high });
