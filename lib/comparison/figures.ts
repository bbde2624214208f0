/**
 * The figures of a comparison: of every run, over the seeds of each member, and how the others differ from the first.
 */
import { preferenceFigures, reward } from "../evaluation/preferences.ts";
import {
  bootstrapP,
  type Estimate,
  estimates,
  type MeanEstimate,
  meanEstimate,
} from "../evaluation/statistics.ts";
import type { LogEntry } from "../training/log_entry.ts";
import type { PairResult } from "../training/metrics.ts";
import type { Measurement } from "./measure.ts";

/** A run that has ended, and what was found of its model. */
export interface MeasuredRun {
  seed: number;
  log: readonly LogEntry[];
  /** What it took of the GPU's memory, as planned; not known of one of an earlier version. */
  memoryBytes?: number;
  /** Pairs of a pass; of single responses two make one. */
  pairsPerPass: number;
  /** Pairs that a row of the log's pace stands for: half of one where rows are single responses. */
  pairsPerRow: number;
  /** Whether its loss needed a reference model's log-probabilities. */
  usesReference: boolean;
  measurement: Measurement;
}

/** A run that came to numbers that are not finite, and why. */
export interface Failure {
  seed: number;
  why: string;
}

/** One of those that are compared. */
export interface MeasuredMember {
  name: string;
  keys: readonly [key: string, value: string][];
  runs: readonly MeasuredRun[];
  failures: readonly Failure[];
}

/** A figure, and which way it is better, where that can be said. */
export interface Figure {
  name: string;
  /** As tables and charts have it. */
  title: string;
  better?: "higher" | "lower";
  /** What it is of each pair, where it is a mean over pairs. */
  ofPair?: (result: PairResult, before: PairResult) => number;
}

const isAbove = (value: number) => Number(value > 0);
const sums = ({ chosen, rejected }: PairResult) => chosen - rejected;

/** In the order in which they are shown. */
export const FIGURES: readonly Figure[] = [
  {
    name: "rewards/accuracies",
    title: "accuracy by mean log-probability",
    better: "higher",
    ofPair: (result) => isAbove(reward(result, "chosen") - reward(result, "rejected")),
  },
  {
    name: "logps/accuracies",
    title: "accuracy by log-probability",
    better: "higher",
    ofPair: (result) => isAbove(sums(result)),
  },
  {
    name: "log_ratios/accuracies",
    title: "accuracy by log-ratio to the start",
    better: "higher",
    ofPair: (result, before) => isAbove(sums(result) - sums(before)),
  },
  {
    name: "rewards/margins",
    title: "margin, mean log-probability",
    ofPair: (result) => reward(result, "chosen") - reward(result, "rejected"),
  },
  { name: "rewards/chosen", title: "chosen, mean log-probability" },
  { name: "rewards/rejected", title: "rejected, mean log-probability" },
  { name: "logps/chosen", title: "chosen, log-probability" },
  { name: "logps/rejected", title: "rejected, log-probability" },
  { name: "answers/tokens", title: "answer, tokens" },
  { name: "answers/ended", title: "answers that end by themselves" },
  { name: "eos/probability", title: "end token of chosen, probability" },
  { name: "text/perplexity", title: "perplexity of the text", better: "lower" },
  { name: "seconds_per_pair", title: "training, seconds a pair" },
  { name: "memory_bytes", title: "training, bytes of the GPU" },
  { name: "bytes_per_pair", title: "training, bytes a pair of a pass" },
];

/** What a figure is over the seeds of a member. */
export interface OverSeeds extends MeanEstimate {
  /** Of each run, in the order of the seeds. */
  runs: number[];
}

/** How a member differs from the first: the later less the former. */
export interface Difference {
  figure: string;
  /** Over the seeds that both have, each with its twin. */
  seeds: OverSeeds;
  /** Over pairs, of means over these seeds, where the figure is one over pairs; `p` of the bootstrap. */
  pairs?: Estimate & { p: number };
  /** Whether all intervals there are leave 0 out, that over seeds among them. */
  isSure: boolean;
}

/** Figures of a member. */
export interface ComparedMember {
  name: string;
  keys: Record<string, string>;
  /** Those that were run; where `isSeedless`, the first stands for all. */
  seeds: number[];
  /** Whether no seed changed anything: one run, made several times. */
  isSeedless: boolean;
  failures: MeasuredMember["failures"];
  figures: Record<string, OverSeeds>;
  /** From the first member. */
  differences: Difference[];
}

/** All of it, as compare.json has it. */
export interface Compared {
  pairs: number;
  /** Tokens of the responses that the data have. */
  lengths: { chosen: number; rejected: number };
  before: Record<string, number>;
  members: ComparedMember[];
}

/** The figures of every member, and how each differs from the first. */
export function compared(before: Measurement, members: readonly MeasuredMember[]): Compared {
  const start = figuresOf(before, before);
  // Nothing differs from itself: half of the pairs are no figure.
  delete start["log_ratios/accuracies"];
  const { "lengths/chosen": chosen, "lengths/rejected": rejected } = preferenceFigures(before.results);
  const [first] = members;
  return {
    pairs: before.results.length,
    lengths: { chosen, rejected },
    before: start,
    members: members.map((member) => ({
      name: member.name,
      keys: Object.fromEntries(member.keys),
      seeds: member.runs.map(({ seed }) => seed),
      isSeedless: isSeedless(member),
      failures: member.failures,
      figures: overSeeds(
        // Runs that are the same say nothing of how far another would be.
        (isSeedless(member) ? member.runs.slice(0, 1) : member.runs).map((run) => ({
          ...figuresOf(run.measurement, before),
          ...costs(run),
        })),
      ),
      differences: member === first ? [] : differences(first, member, before),
    })),
  };
}

/** Whether several seeds came to the same numbers for every pair. */
function isSeedless({ runs: [first, ...others] }: MeasuredMember): boolean {
  const numbers = ({ measurement }: MeasuredRun) => JSON.stringify(measurement.results);
  return others.length > 0 && others.every((run) => numbers(run) === numbers(first));
}

/** What was measured of a model. */
function figuresOf({ results, text, lengths }: Measurement, before: Measurement): Record<string, number> {
  const all = preferenceFigures(results);
  const found: Record<string, number> = {};
  for (const { name, ofPair } of FIGURES) {
    if (ofPair) found[name] = mean(results.map((result, i) => ofPair(result, before.results[i])));
    else if (name in all) found[name] = all[name];
  }
  if (lengths.length > 0) {
    found["answers/tokens"] = mean(lengths.map(({ tokens }) => tokens));
    found["answers/ended"] = mean(lengths.map(({ ended }) => Number(ended)));
  }
  if (text) found["text/perplexity"] = text.perplexity;
  return found;
}

/** What a run cost. */
function costs({ log, memoryBytes, pairsPerPass, pairsPerRow }: MeasuredRun): Record<string, number> {
  // The middle one: the first have compiled.
  const pace = middle(log.map((entry) => entry.pairs_per_second).filter((pace) => pace > 0));
  return {
    ...pace !== undefined && { seconds_per_pair: 1 / (pace * pairsPerRow) },
    ...memoryBytes !== undefined && { memory_bytes: memoryBytes, bytes_per_pair: memoryBytes / pairsPerPass },
  };
}

/** The median; undefined of nothing. */
export function middle(values: readonly number[]): number | undefined {
  if (values.length === 0) return undefined;
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) / 2;
  return (sorted[Math.floor(at)] + sorted[Math.ceil(at)]) / 2;
}

function overSeeds(runs: readonly Record<string, number>[]): Record<string, OverSeeds> {
  const names = FIGURES.map(({ name }) => name).filter((name) =>
    runs.length > 0 && runs.every((run) => name in run)
  );
  return Object.fromEntries(names.map((name) => {
    const values = runs.map((run) => run[name]);
    return [name, { ...meanEstimate(values), runs: values }];
  }));
}

/** Figures in which members are compared one by one. */
const DIFFERING = [
  ...["rewards/accuracies", "logps/accuracies", "log_ratios/accuracies", "rewards/margins"],
  ...["answers/tokens", "text/perplexity"],
];

function differences(first: MeasuredMember, second: MeasuredMember, before: Measurement): Difference[] {
  const twins = second.runs.flatMap((run) => {
    const twin = first.runs.find(({ seed }) => seed === run.seed);
    return twin ? [[twin.measurement, run.measurement]] : [];
  });
  if (twins.length === 0) return [];
  return DIFFERING.flatMap((name) => {
    const values = twins.map((pair) => pair.map((one) => figuresOf(one, before)[name]));
    if (values.flat().some((value) => value === undefined)) return [];
    const less = values.map(([one, other]) => other - one);
    const seeds = { ...meanEstimate(less), runs: less };
    const { ofPair } = FIGURES.find((figure) => figure.name === name)!;
    const pairs = ofPair && overPairs(twins, ofPair, before);
    // How far another run of it would be is not known of one that no seed changes.
    const isSure = !isSeedless(first) && !isSeedless(second) && excludesZero(seeds) &&
      (!pairs || excludesZero(pairs) && pairs.p < 0.05);
    return [{ figure: name, seeds, ...pairs && { pairs }, isSure }];
  });
}

function overPairs(
  twins: readonly Measurement[][],
  ofPair: NonNullable<Figure["ofPair"]>,
  before: Measurement,
): Estimate & { p: number } {
  const values = Float64Array.from(
    before.results,
    (start, i) =>
      mean(twins.map(([one, other]) => ofPair(other.results[i], start) - ofPair(one.results[i], start))),
  );
  const [{ value, low, high, draws }] = estimates([{ values }], values.length);
  return { value, low, high, p: bootstrapP(draws, values.length) };
}

const excludesZero = ({ low, high }: MeanEstimate) =>
  low !== undefined && high !== undefined && low * high > 0;

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

/**
 * The member whose interval of a figure is beyond those of all others, if there is one: else undefined. Where another
 * has no interval, its figure stands for it, and it is never the one.
 */
export function aloneAtTheTop(
  members: readonly ComparedMember[],
  { name, better }: Figure,
): string | undefined {
  const sign = better === "lower" ? -1 : 1;
  const bounds = members.map(({ name: member, figures }) => {
    const { value = NaN, low = NaN, high = NaN } = figures[name] ?? {};
    const isKnown = !Number.isNaN(low) && !Number.isNaN(high);
    const ends = isKnown ? [sign * low, sign * high] : [sign * value, sign * value];
    return { member, isKnown, low: Math.min(...ends), high: Math.max(...ends) };
  });
  if (bounds.length < 2) return;
  const isTop = (one: typeof bounds[number]) =>
    one.isKnown && bounds.every((other) => other === one || one.low > other.high);
  return bounds.find(isTop)?.member;
}
