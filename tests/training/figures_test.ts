import assert from "node:assert/strict";
import { Figures } from "../../lib/training/figures.ts";
import type { PairResult } from "../../lib/training/metrics.ts";
import type { StepResult } from "../../lib/training/step_figures.ts";

/** Runs `body` by a clock that it sets, in seconds. */
function atClock(body: (clock: { seconds: number }) => void): void {
  const clock = { seconds: 1000 };
  const own = performance.now;
  performance.now = () => 1000 * clock.seconds;
  try {
    body(clock);
  } finally {
    performance.now = own;
  }
}

/** Step `step` of pairs with these losses, of 10 tokens each, whose rewards are their losses too. */
function result(step: number, ...losses: number[]): StepResult {
  const pairs = losses.map((loss): PairResult => ({
    loss,
    chosen: 2 * loss,
    rejected: 3 * loss - 3,
    chosenLabels: 2,
    rejectedLabels: 3,
    // Those of the first response alone have an end.
    chosenFigures: { entropy: 4, logits: 0, correct: 1, ...(loss === 1 && { endProbability: 0.5 }) },
    rejectedFigures: { entropy: 6, logits: 0, correct: 1 },
  }));
  const tokens = 10 * losses.length;
  return { step, pairs, clip: { norm: 1, broken: false }, tokens, sequenceTokens: tokens + 1, flops: 7 };
}

Deno.test("a log entry is of the steps since the last one, with means over steps and the tokens of the whole run", () =>
  atClock((clock) => {
    const figures = new Figures();
    figures.add(result(0, 1, 3));
    figures.add(result(1, 5));
    clock.seconds += 2;
    const first = figures.takeWindow();
    assert.deepEqual([first.loss, first["rewards/chosen"], first["rewards/margins"]], [3.5, 3.5, 1]);
    assert.deepEqual([first.tokens_per_second, first.pairs_per_second], [15, 1.5]);
    assert.deepEqual([first.num_input_tokens_seen, first.num_tokens], [30, 32]);
    // Of the one step that has an end token.
    assert.deepEqual([first.entropy, first["eos/probability"]], [2, 0.5]);
    figures.add(result(2, 8, 10, 12));
    clock.seconds += 4;
    const second = figures.takeWindow();
    assert.deepEqual([second.loss, second.tokens_per_second, second.pairs_per_second], [10, 7.5, 0.75]);
    assert.deepEqual([second.num_input_tokens_seen, second.num_tokens], [60, 63]);
    assert.equal("eos/probability" in second, false);
  }));

Deno.test("totals are of all steps: pairs, tokens, operations, seconds, and the mean loss of a step", () =>
  atClock((clock) => {
    const figures = new Figures();
    assert.equal(figures.totals.trainLoss, 0);
    figures.add(result(0, 1, 3));
    figures.takeWindow();
    figures.add(result(1, 8));
    clock.seconds += 9;
    assert.deepEqual(figures.totals, { steps: 2, pairs: 3, tokens: 30, flops: 14, seconds: 9, trainLoss: 5 });
  }));

Deno.test("evaluations and checkpoints are left out of the rates, and not of the seconds of the run", () =>
  atClock((clock) => {
    const figures = new Figures();
    figures.add(result(0, 1, 3));
    clock.seconds += 5;
    figures.exclude(3000);
    assert.equal(figures.takeWindow().tokens_per_second, 10);
    assert.equal(figures.totals.seconds, 5);
  }));

Deno.test("a run that goes on from a checkpoint has the figures of one that was not stopped", () =>
  atClock((clock) => {
    const figures = new Figures();
    figures.history.push({ step: 0, epoch: 0, eval_loss: 2 });
    figures.add(result(0, 1, 3));
    clock.seconds += 2;
    figures.takeWindow();
    figures.add(result(1, 5));
    clock.seconds += 1;
    const state = JSON.parse(JSON.stringify(figures));
    // The time between the two counts for neither.
    clock.seconds += 100;
    const resumed = new Figures({ steps: 2, history: figures.history, state });
    resumed.add(result(2, 8, 10));
    clock.seconds += 2;
    assert.deepEqual(resumed.totals, {
      steps: 3,
      pairs: 5,
      tokens: 50,
      flops: 21,
      seconds: 5,
      trainLoss: 16 / 3,
    });
    const { loss, tokens_per_second, num_input_tokens_seen, num_tokens } = resumed.takeWindow();
    assert.deepEqual([loss, tokens_per_second, num_input_tokens_seen, num_tokens], [7, 10, 50, 53]);
    assert.deepEqual(resumed.history, [{ step: 0, epoch: 0, eval_loss: 2 }]);
  }));

Deno.test("a run goes on from the figures of a version that had fewer of them", () => {
  const before = new Figures();
  before.add(result(0, 1, 3));
  const { sequenceTokens: _, window, ...state } = before.toJSON();
  const steps = window.steps.map(({ entropy: _, ...metrics }) => metrics as typeof window.steps[0]);
  const resumed = new Figures({ steps: 1, history: [], state: { ...state, window: { ...window, steps } } });
  resumed.add(result(1, 5));
  const entry = resumed.takeWindow();
  // A mean over the steps that have it; tokens that were not counted are not made up.
  assert.deepEqual([entry.loss, entry.entropy], [3.5, 2]);
  assert.equal("num_tokens" in entry, false);
});

Deno.test("weights count as evaluated by an evaluation of their own step alone", () => {
  const figures = new Figures();
  assert.equal(figures.isEvaluated, false);
  figures.history.push({ step: 0, epoch: 0, eval_loss: 2 });
  assert.equal(figures.isEvaluated, true);
  figures.add(result(0, 1));
  assert.equal(figures.isEvaluated, false);
  figures.history.push({ step: 1, epoch: 1, loss: 1 });
  assert.equal(figures.isEvaluated, false);
});
