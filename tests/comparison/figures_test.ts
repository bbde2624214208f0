import assert from "node:assert/strict";
import { aloneAtTheTop, compared, FIGURES, type MeasuredMember } from "../../lib/comparison/figures.ts";
import type { Measurement } from "../../lib/comparison/measure.ts";
import {
  findings,
  reportHtml,
  reportJson,
  reportOf,
  tablesOf,
  withHalf,
} from "../../lib/comparison/report.ts";
import type { PairResult } from "../../lib/training/metrics.ts";

/** Pairs with so many labels and such sums. */
const pair = (chosen: number, rejected: number, rejectedLabels = 4): PairResult => ({
  ...{ loss: 0, chosen, rejected, chosenLabels: 2, rejectedLabels },
  chosenFigures: { entropy: 1, logits: 0, correct: 1, endProbability: 0.5 },
  rejectedFigures: { entropy: 1, logits: 0, correct: 1 },
});

const measurement = (results: PairResult[], tokens = 5): Measurement => ({
  results,
  text: { tokens: 9, words: 4, bytes: 20, logp: -9, perplexity: Math.E },
  answers: [{ text: `<b>${tokens}</b>`, tokens, ended: tokens < 8 }],
  lengths: [{ tokens, ended: tokens < 8 }],
});

// Of four pairs, with twice as many labels of rejected: by means none is right, by sums the last.
const START = measurement([pair(-4, -4), pair(-4, -4), pair(-4, -4), pair(-4, -6)]);
const LOG = [8, 2, 4].map((pace, i) => ({
  step: i + 1,
  epoch: 1,
  "logps/chosen": -4 + i,
  pairs_per_second: pace,
}));

const member = (name: string, ...runs: Measurement[]): MeasuredMember => ({
  name,
  keys: [["loss_type", name]],
  failures: [],
  runs: runs.map((measurement, i) => ({
    ...{
      seed: 42 + i,
      log: LOG,
      memoryBytes: 4000,
      pairsPerPass: 8,
      pairsPerRow: 1,
      usesReference: name === "dpo",
      measurement,
    },
  })),
});

const right = pair(-4, -12);
const wrong = pair(-4, -4, 1);
const sft = pair(-2, -5);

Deno.test("figures are those of the definitions, over seeds and beside the start", () => {
  const first = member(
    "simper",
    measurement([right, right, right, pair(-4, -5, 1)]),
    measurement([right, right, wrong, wrong]),
  );
  const { before, members: [found] } = compared(START, [first]);
  assert.equal(before["rewards/accuracies"], 0);
  assert.equal(before["rewards/chosen"], -2);
  assert.equal(before["text/perplexity"], Math.E);
  assert.ok(!("log_ratios/accuracies" in before));
  const { figures } = found;
  assert.deepEqual(figures["rewards/accuracies"].runs, [1, 1]);
  assert.deepEqual(figures["logps/accuracies"].runs, [1, 0.5]);
  assert.deepEqual(figures["log_ratios/accuracies"].runs, [0.75, 0.5]);
  // Student's for one degree of freedom.
  const { value, high } = figures["logps/accuracies"];
  assert.equal(value, 0.75);
  assert.ok(Math.abs(high! - value - 12.706204736174694 * 0.25) < 1e-9);
  // The middle pace of the log.
  assert.equal(figures.seconds_per_pair.value, 0.25);
  assert.equal(figures.bytes_per_pair.value, 500);
  // Two single responses make a pair.
  const runs = first.runs.map((run) => ({ ...run, pairsPerPass: 4, pairsPerRow: 0.5 }));
  const [judged] = compared(START, [{ ...first, runs }]).members;
  assert.equal(judged.figures.seconds_per_pair.value, 0.5);
  assert.equal(judged.figures.bytes_per_pair.value, 1000);
  assert.equal(figures["answers/tokens"].value, 5);
});

Deno.test("runs that no seed changed are one: no interval, and nothing told apart by them", () => {
  const varied = member(
    "simper",
    measurement([right, right, right, sft]),
    measurement([right, sft, sft, sft]),
  );
  const same = measurement([wrong, wrong, wrong, wrong], 7);
  const report = reportOf(
    {
      ...{ before: START, members: [varied, member("kto", same, same, same)], prompts: [] },
      ...{ device: "a GPU", split: "test", text: "text.txt" },
    } as unknown as Parameters<typeof reportOf>[0],
    "out",
    [42, 43, 44],
  );
  const [, kto] = report.found.members;
  assert.deepEqual([kto.seeds, kto.isSeedless], [[42, 43, 44], true]);
  const { runs, low } = kto.figures["rewards/accuracies"];
  assert.deepEqual([runs.length, low], [1, undefined]);
  assert.ok(kto.differences.length > 0 && kto.differences.every(({ isSure }) => !isSure));
  const ofText = kto.differences.find(({ figure }) => figure === "rewards/margins");
  assert.equal(ofText!.seeds.runs.length, 2, "it is the twin of every seed");
  assert.match(findings(report).join("\n"), /^kto: the seeds change nothing in it, .* count as one/m);
  assert.doesNotMatch(findings(report).join("\n"), /^simper: the seeds/m);
});

Deno.test("differences are paired by seed and by pair, and sure where both intervals say so", () => {
  const many = (one: PairResult, other: PairResult, count: number) =>
    measurement(Array.from({ length: 40 }, (_, i) => i < count ? one : other));
  const start = measurement(Array.from({ length: 40 }, () => pair(-4, -4)));
  const first = member("simper", many(right, sft, 10), many(right, sft, 11), many(right, sft, 12));
  const second = member("dpo", many(right, wrong, 30), many(right, wrong, 31), many(right, wrong, 32));
  const third = member("sft", many(right, sft, 11), many(right, sft, 10), many(right, sft, 12));
  const { members } = compared(start, [first, second, third]);
  const of = (i: number, name: string) => members[i].differences.find(({ figure }) => figure === name)!;
  assert.deepEqual(members[0].differences, []);
  const dpo = of(1, "logps/accuracies");
  assert.deepEqual(dpo.seeds.runs.map((one) => Number(one.toFixed(9))), [-0.25, -0.225, -0.2]);
  assert.ok(dpo.pairs!.high < 0 && dpo.isSure);
  const margins = of(2, "rewards/margins");
  assert.ok(margins.seeds.low! < 0 && margins.seeds.high! > 0 && !margins.isSure);

  const [accuracy] = FIGURES.filter(({ name }) => name === "logps/accuracies");
  assert.equal(aloneAtTheTop(members, accuracy), undefined);
  assert.equal(aloneAtTheTop([members[1], { ...members[0], figures: {} }], accuracy), undefined);
  const spread = member("worse", many(right, wrong, 5), many(right, wrong, 5), many(right, wrong, 6));
  assert.equal(aloneAtTheTop(compared(start, [first, spread]).members, accuracy), "simper");
  const between = (low: number, high: number) => ({
    ...members[0],
    name: `${low}`,
    figures: { [accuracy.name]: { value: (low + high) / 2, low, high, runs: [] } },
  });
  assert.equal(aloneAtTheTop([between(1, 3), between(2, 4)], accuracy), undefined);
  assert.equal(aloneAtTheTop([between(1, 3), between(4, 5)], accuracy), "4");
  assert.equal(aloneAtTheTop([between(1, 3), between(4, 5)], { ...accuracy, better: "lower" }), "1");
  // Of one seed nothing is known.
  const single =
    compared(start, [first, spread].map((one) => ({ ...one, runs: one.runs.slice(0, 1) }))).members;
  assert.equal(aloneAtTheTop(single, accuracy), undefined);
  assert.ok(single[1].differences.every(({ isSure }) => !isSure));
});

Deno.test("the reports say what is known, run nothing and show text as text", () => {
  const first = member(
    "simper",
    measurement([right, right, right, wrong]),
    measurement([right, right, wrong, wrong]),
  );
  const second = {
    ...member("<i>", measurement([sft, sft, sft, sft], 8)),
    failures: [{ seed: 43, why: "step 3: the loss is not finite" }],
  };
  const report = reportOf(
    {
      ...{ device: "a GPU", version: "0.1.0", split: "test", text: "text.txt", prompts: ["Why <b>?"] },
      ...{ before: START, members: [first, second], isStopped: false },
    },
    "out/all",
    [42, 43],
  );
  const html = reportHtml(report);
  assert.match(html, /default-src 'none'/);
  assert.doesNotMatch(html, /<script|<b>|<i>|https?:/);
  assert.match(html, /Why &lt;b&gt;\?/);
  assert.match(html, /&lt;b&gt;8&lt;\/b&gt; \(cut\)/);
  const said = findings(report).join("\n");
  assert.match(
    said,
    /^<i>, seed 43: no result: step 3: the loss is not finite\. Its figures are of 42\.$/m,
  );
  assert.match(
    said,
    /^Accuracy by log-probability: none is alone at the top\. Beside simper, not told apart from it: <i>\.$/m,
  );
  const [pairs, costs] = tablesOf(report);
  assert.deepEqual(pairs.rows.map(([name]) => name), ["before", "simper", "<i>"]);
  assert.equal(pairs.rows[1][2], "0.6 ±1.6");
  assert.ok(costs.rows[1].includes("4 kB") || costs.rows[1].includes("4.0 kB"), costs.rows[1].join());
  const json = JSON.parse(reportJson(report));
  assert.deepEqual(json.members[1].failures, second.failures);
  assert.equal(json.answers[0].members[0].answers[1].seed, 43);
});

Deno.test("a mean is written with as many digits as its interval leaves", () => {
  assert.equal(withHalf({ value: 0.81234, low: 0.8, high: 0.82468 }), "0.812 ±0.012");
  assert.equal(withHalf({ value: 1234.5, low: 1034.5, high: 1434.5 }), "1235 ±200");
  assert.equal(withHalf({ value: 0.8 }), "0.8");
  assert.equal(withHalf({ value: 0.999784, low: 0.999783, high: 0.999785 }), "0.99978 ±1.0e-6");
});
