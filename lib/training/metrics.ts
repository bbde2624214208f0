import type { Batch } from "../batch/pack.ts";
import { figuresOf, isJudged, type Loss, type ResponseSums, rewardOf } from "../losses/loss.ts";
import { losses } from "../losses/losses.ts";

/** What the kernels give for one response, over its labels. */
export interface ResponseFigures {
  /** Sum of the entropies of the distributions that predict them, in nats. */
  entropy: number;
  /** Sum of the means of their rows of logits, as scaled and capped. */
  logits: number;
  /** How many are the most probable token. */
  correct: number;
  /** The probability of the first that is the end token; undefined where none is, since the response was cut. */
  endProbability?: number;
}

/** What the kernels give for one pair: natural logarithms, summed over the labels of each response. */
export interface PairResult {
  /** Its loss. */
  loss: number;
  /** Log-probability of chosen. */
  chosen: number;
  /** That of rejected; 0 where there is none. */
  rejected: number;
  /** KTO's reference point, of its micro-batch; 0 of other losses. */
  kl?: number;
  /** The reference model's of chosen; 0 or left out without one. */
  chosenReference?: number;
  /** That of rejected. */
  rejectedReference?: number;
  /** Of unpaired data, whether the response was judged desirable. */
  desirable?: boolean;
  /** Labels of chosen. */
  chosenLabels: number;
  /** Those of rejected. */
  rejectedLabels: number;
  /** Further figures of chosen. */
  chosenFigures: ResponseFigures;
  /** Those of rejected. */
  rejectedFigures: ResponseFigures;
}

/**
 * Figures over pairs, by TRL's names. Rewards are those that TRL logs for the loss; under SimPER the mean
 * log-probability, as it publishes them. Of single responses that were judged, "chosen" are the desirable ones and
 * "rejected" the others, and a step or an evaluation that has none of one has no figures of it. TRL's DPOTrainer
 * takes its means over labels in each micro-batch and then the mean of those; here they are over all labels of a step
 * or an evaluation, so that they do not depend on how those are cut into batches.
 */
export interface Metrics {
  /** Mean over pairs. */
  loss: number;
  /** Reward of the chosen response, mean over pairs. */
  "rewards/chosen"?: number;
  /** That of the rejected one. */
  "rewards/rejected"?: number;
  /** The part of the pairs, from 0 to 1, whose chosen response has the higher reward. */
  "rewards/accuracies"?: number;
  /** Reward of the chosen response less that of the rejected one, mean over pairs. */
  "rewards/margins"?: number;
  /** Log-probabilities summed over a response, mean over pairs: TRL's `logps/*`. */
  "logps/chosen"?: number;
  /** Likewise. */
  "logps/rejected"?: number;
  /** Mean over vocabulary and labels. */
  "logits/chosen"?: number;
  /** Likewise. */
  "logits/rejected"?: number;
  /** Mean over the labels of both responses, in nats. */
  entropy: number;
  /** Share of chosen's labels that are the most probable token, the first of equals. */
  mean_token_accuracy: number;
  /**
   * Mean probability of chosen's end token, where generation would stop: its first, given all before it. No figure of
   * TRL's. Of rejected there is none: a loss that lowers all its tokens lowers that one too, which says nothing about
   * stopping.
   */
  "eos/probability"?: number;
  /** Chosen's mean negative log-probability, of losses that have it as a part. */
  nll_loss?: number;
  /** ORPO's: the logarithm of the sigmoid of `log_odds_chosen`. */
  log_odds_ratio?: number;
  /** ORPO's: by how much chosen's log-odds are higher. */
  log_odds_chosen?: number;
  /** KTO's reference point, the mean over micro-batches. */
  kl?: number;
}

/** Floats that the kernels leave of a pair: the loss kernel's four, and four of each response. */
export const RESULT_FLOATS = 4;
export const FIGURE_FLOATS = 8;

/**
 * Reads what the kernels leave for the pairs of `batch`: the loss kernel's results and the figures of the responses.
 */
export function pairResults(
  results: Float32Array,
  figures: Float32Array,
  { labelsOfPair, references, pairs }: Batch,
): PairResult[] {
  return Array.from({ length: pairs }, (_, p) => ({
    loss: results[4 * p],
    chosen: results[4 * p + 1],
    rejected: results[4 * p + 2],
    kl: results[4 * p + 3],
    chosenReference: references[4 * p],
    rejectedReference: references[4 * p + 1],
    desirable: references[4 * p + 2] > 0,
    chosenLabels: labelsOfPair[4 * p + 1] - labelsOfPair[4 * p],
    rejectedLabels: labelsOfPair[4 * p + 3] - labelsOfPair[4 * p + 2],
    chosenFigures: figuresAt(figures, 8 * p),
    rejectedFigures: figuresAt(figures, 8 * p + 4),
  }));
}

function figuresAt(figures: Float32Array, at: number): ResponseFigures {
  const [entropy, logits, correct, endProbability] = figures.subarray(at, at + 4);
  return { entropy, logits, correct, ...(endProbability !== -1 && { endProbability }) };
}

/**
 * Means over pairs or labels; without those of rejected where no pair has one, and of end tokens where there are none.
 *
 * @example
 * ```ts
 * import { summarize } from "./metrics.ts";
 * import assert from "node:assert/strict";
 * const pair = {
 *   ...{ loss: -0.1, chosen: -4, rejected: -9, chosenLabels: 2, rejectedLabels: 3 },
 *   chosenFigures: { entropy: 3, logits: 1, correct: 1, endProbability: 0.5 },
 *   rejectedFigures: { entropy: 7, logits: -3, correct: 0 },
 * };
 * const metrics = summarize([pair]);
 * assert.equal(metrics["rewards/chosen"], -2);
 * assert.equal(metrics["rewards/margins"], 1);
 * assert.equal(metrics["logps/rejected"], -9);
 * assert.equal(metrics.entropy, 2);
 * assert.equal(metrics["eos/probability"], 0.5);
 * ```
 */
export function summarize(results: readonly PairResult[], loss: Loss = losses.simper): Metrics {
  return isJudged(loss) ? summarizeJudged(results, loss) : summarizePairs(results, loss);
}

const sumOf = <T>(all: readonly T[], of: (one: T) => number) => all.reduce((sum, one) => sum + of(one), 0);
const meanOf = <T>(all: readonly T[], of: (one: T) => number) => sumOf(all, of) / all.length;

/** What the loss sees of both responses. */
const responsesOf = (r: PairResult): [chosen: ResponseSums, rejected: ResponseSums] => [
  { sum: r.chosen, labels: r.chosenLabels, reference: r.chosenReference ?? 0 },
  { sum: r.rejected, labels: r.rejectedLabels, reference: r.rejectedReference ?? 0 },
];

function summarizePairs(results: readonly PairResult[], loss: Loss): Metrics {
  const reward = rewardOf(loss);
  const rewards = results.map((result) => responsesOf(result).map(reward));
  const [chosenLabels, rejectedLabels] = [
    sumOf(results, (r) => r.chosenLabels),
    sumOf(results, (r) => r.rejectedLabels),
  ];
  const hasRejected = results.every((r) => r.rejectedLabels > 0);
  const entropy = sumOf(results, (r) => r.chosenFigures.entropy + r.rejectedFigures.entropy);
  return {
    loss: meanOf(results, (r) => r.loss),
    "rewards/chosen": meanOf(rewards, ([chosen]) => chosen),
    ...(hasRejected && {
      "rewards/rejected": meanOf(rewards, ([, rejected]) => rejected),
      "rewards/accuracies": meanOf(rewards, ([chosen, rejected]) => chosen > rejected ? 1 : 0),
      "rewards/margins": meanOf(rewards, ([chosen, rejected]) => chosen - rejected),
    }),
    "logps/chosen": meanOf(results, (r) => r.chosen),
    ...(hasRejected && { "logps/rejected": meanOf(results, (r) => r.rejected) }),
    "logits/chosen": sumOf(results, (r) => r.chosenFigures.logits) / chosenLabels,
    ...(hasRejected &&
      { "logits/rejected": sumOf(results, (r) => r.rejectedFigures.logits) / rejectedLabels }),
    entropy: entropy / (chosenLabels + rejectedLabels),
    mean_token_accuracy: sumOf(results, (r) => r.chosenFigures.correct) / chosenLabels,
    ...endProbability(results),
    ...meansOf(results.map((result) => figuresOf(loss)(...responsesOf(result)))),
  };
}

/** As TRL's KTOTrainer. Rejected, in these pairs, is what the reference point is estimated from: it has no figures. */
function summarizeJudged(results: readonly PairResult[], loss: Loss): Metrics {
  const reward = (result: PairResult) => rewardOf(loss)(responsesOf(result)[0]);
  const labels = sumOf(results, (r) => r.chosenLabels);
  const sides = (["chosen", "rejected"] as const).map((name) => {
    const own = results.filter(({ desirable }) => desirable === (name === "chosen"));
    return own.length === 0 ? {} : {
      [`rewards/${name}`]: meanOf(own, reward),
      [`logps/${name}`]: meanOf(own, (r) => r.chosen),
      [`logits/${name}`]: sumOf(own, (r) => r.chosenFigures.logits) / sumOf(own, (r) => r.chosenLabels),
    };
  });
  const found: Partial<Metrics> = Object.assign({}, ...sides);
  const [chosen, rejected] = [found["rewards/chosen"], found["rewards/rejected"]];
  return {
    loss: meanOf(results, (r) => r.loss),
    ...found,
    ...(chosen !== undefined && rejected !== undefined && { "rewards/margins": chosen - rejected }),
    entropy: sumOf(results, (r) => r.chosenFigures.entropy) / labels,
    mean_token_accuracy: sumOf(results, (r) => r.chosenFigures.correct) / labels,
    ...endProbability(results),
    kl: meanOf(results, (r) => r.kl ?? 0),
  };
}

function endProbability(results: readonly PairResult[]): Pick<Metrics, "eos/probability"> {
  const ends = results.map((r) => r.chosenFigures.endProbability).filter((end) => end !== undefined);
  return ends.length > 0 ? { "eos/probability": meanOf(ends, (end) => end) } : {};
}

const meansOf = (figures: readonly Record<string, number>[]): Record<string, number> =>
  Object.fromEntries(
    Object.keys(figures[0] ?? {}).map((name) => [name, meanOf(figures, (of) => of[name])]),
  );

/**
 * The mean log-probability of a token of chosen and of rejected responses, mean over pairs; rejected where each has
 * one.
 */
export function tokenLogps(results: readonly PairResult[]): { chosen: number; rejected?: number } {
  const hasRejected = results.every((r) => r.rejectedLabels > 0);
  return {
    chosen: meanOf(results, (r) => r.chosen / r.chosenLabels),
    ...(hasRejected && { rejected: meanOf(results, (r) => r.rejected / r.rejectedLabels) }),
  };
}
