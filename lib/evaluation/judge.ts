/** Win rates from a judge's annotations, as alpaca_eval 0.6.6 computes them. */
import { readFile } from "node:fs/promises";
import { readCsv } from "../data/csv.ts";
import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import { fitL1Logistic, logLoss, probability, type Sample } from "./logistic.ts";

/** A judge's verdict on one instruction. */
export interface Annotation {
  /** The answers of the baseline and of the model. */
  output_1: string;
  output_2: string;
  generator_1: string;
  generator_2: string;
  /** From 1, the baseline's is better, to 2, the model's is; 0 and 1.5 are draws, null is no verdict. */
  preference: number | null;
  /** The instruction's number in df_gamed.csv; by default the place in the list. */
  index?: number;
}

/** A row of alpaca_eval's df_gamed.csv: the baseline, told to be brief or verbose, against itself. */
export interface Gamed {
  index: number;
  preference: number;
  std_delta_len: number;
  instruction_difficulty: number;
}

/** Figures by alpaca_eval's names, in per cent but for the counts. */
export interface WinRates {
  generator: string;
  baseline: string;
  /** The GLM's name, of alpaca_eval's GLM_INFO. */
  glm: "length_controlled_v1" | "length_controlled_minimal";
  figures: {
    length_controlled_winrate: number;
    lc_standard_error: number;
    win_rate: number;
    standard_error: number;
    discrete_win_rate: number;
    n_wins: number;
    n_wins_base: number;
    n_draws: number;
    n_total: number;
  };
}

/** What the gamed rows weigh together, beside one annotation of each instruction; there are two of them for each. */
const GAMED_WEIGHT = 0.2 / 2;
const FOLDS = 5;
/** scikit-learn's, for LogisticRegressionCV. */
const CS = Array.from({ length: 10 }, (_, i) => 10 ** (-4 + 8 * i / 9));
/** What numpy's `RandomState(123)` draws for each of them: alpaca_eval's `random_state`. */
const SEEDS = [
  ...[843828734, 914636141, 1228959102, 1840268610, 974319580],
  ...[819844194, 220395238, 941243409, 942612051, 2109339754],
];

/**
 * The win rate and the length-controlled one (Dubois et al., arXiv 2404.04475): a logistic regression of the
 * preference on the difference in length, the instruction's difficulty and the model, asked what it says where
 * lengths are the same.
 *
 * @param gamed rows of df_gamed.csv, for alpaca_eval's `length_controlled_v1`; without them it is
 * `length_controlled_minimal`, which does not know how difficult an instruction is.
 */
export function winRates(annotations: readonly Annotation[], gamed?: readonly Gamed[]): WinRates {
  const [{ generator_2: generator, generator_1: baseline }] = annotations;
  const glm = gamed ? "length_controlled_v1" : "length_controlled_minimal";
  const shares = annotations.map(({ preference }) => preference === null ? null : (preference || 1.5) - 1);
  const judged = shares.filter((share) => share !== null);
  const predicted = generator === baseline
    ? annotations.map(() => 0.5)
    : predictions(annotations, shares, gamed);
  const count = (is: (share: number) => boolean) => judged.filter(is).length;
  const [wins, draws] = [count((share) => share > 0.5), count((share) => share === 0.5)];
  return {
    generator,
    baseline,
    glm,
    figures: {
      length_controlled_winrate: 100 * mean(predicted),
      lc_standard_error: 100 * standardError(predicted),
      win_rate: 100 * mean(judged),
      standard_error: 100 * standardError(judged),
      discrete_win_rate: 100 * (wins + draws / 2) / judged.length,
      n_wins: wins,
      n_wins_base: count((share) => share < 0.5),
      n_draws: draws,
      n_total: judged.length,
    },
  };
}

/** What the regression says of each instruction, were both answers of one length. */
function predictions(
  annotations: readonly Annotation[],
  shares: readonly (number | null)[],
  gamed: readonly Gamed[] = [],
): number[] {
  const deltas = annotations.map(({ output_1, output_2 }) => characters(output_1) - characters(output_2));
  const deviation = Math.sqrt(variance(deltas));
  const known = difficulties(gamed);
  const features = (delta: number, difficulty: number, isModel: number) =>
    gamed.length > 0 ? [Math.tanh(delta), difficulty, isModel] : [Math.tanh(delta), isModel];
  const difficultyOf = ({ index }: Annotation, at: number) => {
    if (gamed.length === 0) return 0;
    const difficulty = known.get(index ?? at);
    if (difficulty !== undefined) return difficulty;
    throw new UserError(
      `annotation ${at}: its instruction ${index ?? at} is not in the rows of --gamed`,
      1,
      "DATA_INVALID",
    );
  };
  const samples: Sample[] = gamed.map((row) => ({
    features: features(row.std_delta_len, row.instruction_difficulty, 0),
    target: row.preference,
    weight: GAMED_WEIGHT,
  }));
  annotations.forEach((annotation, i) => {
    const target = shares[i];
    if (target === null) return;
    const delta = deviation > 0 ? deltas[i] / deviation : 0;
    samples.push({ features: features(delta, difficultyOf(annotation, i), 1), target, weight: 1 });
  });
  const weights = fitL1Logistic(samples, bestC(samples), SEEDS[0]);
  return annotations.map((annotation, i) =>
    probability(weights, features(0, difficultyOf(annotation, i), 1))
  );
}

/** The strength with the lowest loss on the folds that were left out, as scikit-learn's GroupKFold cuts them. */
function bestC(samples: readonly Sample[]): number {
  const foldOf = (i: number) => (samples.length - 1 - i) % FOLDS;
  const losses = CS.map((c, i) => {
    let loss = 0;
    for (let fold = 0; fold < FOLDS; fold++) {
      const weights = fitL1Logistic(samples.filter((_, i) => foldOf(i) !== fold), c, SEEDS[i]);
      loss += logLoss(weights, samples.filter((_, i) => foldOf(i) === fold));
    }
    return loss;
  });
  return CS[losses.indexOf(Math.min(...losses))];
}

/** By the number of the row where an instruction is first, which is the instruction's own in alpaca_eval's file. */
function difficulties(gamed: readonly Gamed[]): Map<number, number> {
  const seen = new Set<number>();
  const found = new Map<number, number>();
  gamed.forEach(({ index, instruction_difficulty }, row) => {
    if (!seen.has(index)) found.set(row, instruction_difficulty);
    seen.add(index);
  });
  return found;
}

/** As Python counts them. */
const characters = (text: string) => [...text].length;
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

function variance(values: readonly number[]): number {
  const middle = mean(values);
  return values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1);
}

const standardError = (values: readonly number[]) => Math.sqrt(variance(values) / values.length);

const MOST_PROBLEMS = 10;

/**
 * Reads alpaca_eval's annotations.json.
 * @throws {UserError} with the first mistakes.
 */
export async function readAnnotations(file: string): Promise<Annotation[]> {
  let list: unknown;
  try {
    list = JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw new UserError(`${file}: the annotations cannot be read: ${(error as Error).message}`, 2);
  }
  if (!Array.isArray(list) || list.length < 2) {
    throw new UserError(`${file}: expected a list of two annotations or more, found ${show(list)}`, 2);
  }
  const problems = list.flatMap((item, i) =>
    problemsOf(item).map((problem) => `${file}: annotation ${i}: ${problem}`)
  );
  const models = [...new Set(list.map((item) => isObject(item) ? item.generator_2 : undefined))];
  if (models.length > 1) {
    problems.push(`${file}: expected one generator_2, found ${models.map(show).join(", ")}`);
  }
  if (problems.length === 0 && list.filter(({ preference }) => preference !== null).length < 2) {
    problems.push(`${file}: expected two preferences or more, the others are null`);
  }
  if (problems.length > 0) throw new UserError(problems.slice(0, MOST_PROBLEMS).join("\n"), 2);
  return list;
}

function problemsOf(item: unknown): string[] {
  if (!isObject(item)) return [`expected an object, found ${show(item)}`];
  const texts = ["output_1", "output_2", "generator_1", "generator_2"]
    .filter((key) => typeof item[key] !== "string")
    .map((key) => `${key}: expected text, found ${show(item[key])}`);
  const { preference, index } = item;
  const isShare = typeof preference === "number" && (preference === 0 || preference >= 1 && preference <= 2);
  return [
    ...texts,
    ...(isShare || preference === null
      ? []
      : [`preference: expected 0, 1 to 2, or null, found ${show(preference)}`]),
    ...(index === undefined || Number.isInteger(index)
      ? []
      : [`index: expected a whole number, found ${show(index)}`]),
  ];
}

/**
 * Reads alpaca_eval's df_gamed.csv.
 * @throws {UserError} for the first row that lacks a number.
 */
export async function readGamed(file: string): Promise<Gamed[]> {
  const rows: Gamed[] = [];
  for await (const { row, where } of readCsv(file, ",")) {
    const number = (key: keyof Gamed) => {
      const value = row[key];
      if (typeof value !== "object" && value !== "" && Number.isFinite(Number(value))) return Number(value);
      throw new UserError(`${where}: ${key}: expected a number, found ${show(value)}`, 2);
    };
    rows.push({
      index: number("index"),
      preference: number("preference"),
      std_delta_len: number("std_delta_len"),
      instruction_difficulty: number("instruction_difficulty"),
    });
  }
  if (rows.length > 0) return rows;
  throw new UserError(`${file}: expected rows, found none`, 2);
}
