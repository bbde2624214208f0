/** The training loop without a GPU: what it gives the runner, and what it makes of the results. */
import assert from "node:assert/strict";
import { alone } from "../../lib/distributed/communicator.ts";
import { ALONE } from "../../lib/distributed/grid.ts";
import { CollapseAlarm } from "../../lib/training/collapse.ts";
import { Figures } from "../../lib/training/figures.ts";
import { Loop } from "../../lib/run/loop.ts";
import type { PairResult } from "../../lib/training/metrics.ts";
import type { LogEntry } from "../../lib/training/log_entry.ts";
import type { StepResult } from "../../lib/training/step_figures.ts";
import { losses } from "../../lib/losses/losses.ts";
import { parsed } from "../run_file.ts";

const PAIRS = 16;

/** Step `step` of pairs with these mean rewards; a quarter of them have it the other way round. */
function result(step: number, chosen: number, rejected: number): StepResult {
  const pairs = Array.from({ length: PAIRS }, (_, i): PairResult => ({
    loss: step,
    chosen: 2 * (i % 4 ? chosen : rejected),
    rejected: 5 * (i % 4 ? rejected : chosen),
    chosenLabels: 2,
    rejectedLabels: 5,
    chosenFigures: { entropy: 1, logits: 0, correct: 1 },
    rejectedFigures: { entropy: 1, logits: 0, correct: 1 },
  }));
  const clip = { norm: 10 + step, broken: false };
  return { step, pairs, clip, tokens: 300, sequenceTokens: 400, flops: 1 };
}

interface Seen {
  rates: number[];
  logged: LogEntry[];
  stepped: Record<string, number | undefined>[];
  messages: string[];
  /** What the runner was asked for, and what the loop told of, in order. */
  order: string[];
}

/** Runs the loop over `totalSteps` steps whose rewards are `rewardsOf`; two steps and four seconds to a collection. */
async function loop(
  lines: string,
  totalSteps: number,
  {
    before,
    rewardsOf = () => [-1, -2],
    isSoftware = false,
  }: {
    before?: { step: number; alarm: CollapseAlarm };
    rewardsOf?: (step: number) => [number, number];
    isSoftware?: boolean;
  } = {},
): Promise<Seen> {
  const seen: Seen = { rates: [], logged: [], stepped: [], messages: [], order: [] };
  const pending: number[] = [];
  let milliseconds = 0;
  const turn = () => {
    if (pending.length === 0) return undefined;
    const steps = pending.splice(0);
    return () => {
      milliseconds += 4000;
      seen.order.push(`wait for ${steps.map((step) => step + 1)}`);
      return Promise.resolve(steps.map((step) => result(step, ...rewardsOf(step))));
    };
  };
  const runner = {
    run: (
      _gpu: unknown,
      step: number,
      _micro: unknown,
      rate: number,
      { onEncoded }: { onEncoded: () => void },
    ) => {
      seen.order.push(`encode ${step + 1}`);
      onEncoded();
      seen.order.push(`submit ${step + 1}`);
      pending.push(step);
      seen.rates.push(rate);
    },
    get isFull() {
      return pending.length === 2;
    },
    turn,
    collect: async () => await turn()?.() ?? [],
  };
  const nothing = () => Promise.resolve();
  const { config } = parsed(lines.includes("save_strategy") ? lines : `${lines}\nsave_strategy: no`);
  const run = {
    gpu: { check: () => {}, isSoftware },
    config,
    prepared: {
      totalSteps,
      loss: losses.simper,
      sampler: {
        ...{ pairs: 2 * PAIRS, perBatch: PAIRS, batchesPerStep: 1, gpus: 1, epochs: 1, maxSteps: totalSteps },
        ...{ strategy: "sequential", seed: 1 },
      },
      train: { read: () => Promise.resolve([]) },
    },
    planned: { runner },
    checkpoints: {
      finish: nothing,
      save: () => Promise.resolve(seen.order.push("save")),
      trainerState: () => Promise.resolve({}),
    },
    log: { append: nothing, writeState: nothing },
    communicator: alone,
    ranks: ALONE,
  } as unknown as ConstructorParameters<typeof Loop>[0];
  const saved = before && {
    state: { step: before.step, collapse: before.alarm.toJSON(), figures: new Figures().toJSON() },
    trainerState: { log_history: [] },
  } as unknown as ConstructorParameters<typeof Loop>[2];
  const own = performance.now;
  performance.now = () => milliseconds;
  try {
    await new Loop(run, {
      onLog: (_, message) => seen.messages.push(message),
      onEntry: (entry) => seen.logged.push(entry),
      onStep: (progress) => {
        seen.stepped.push({ ...progress });
        seen.order.push(`tell ${progress.step}`);
      },
    }, saved).train();
  } finally {
    performance.now = own;
  }
  return seen;
}

Deno.test("warmup_steps wins over warmup_ratio, which counts where it is 0", async () => {
  const rates = async (lines: string) =>
    (await loop(`learning_rate: 8\nlr_scheduler_type: constant\n${lines}`, 8)).rates;
  assert.deepEqual(await rates("warmup_ratio: 0.5\nwarmup_steps: 2"), [0, 4, 8, 8, 8, 8, 8, 8]);
  assert.deepEqual(await rates("warmup_ratio: 0.5\nwarmup_steps: 0.25"), [0, 4, 8, 8, 8, 8, 8, 8]);
  assert.deepEqual(await rates("warmup_ratio: 0.5\nwarmup_steps: 0"), [0, 2, 4, 6, 8, 8, 8, 8]);
  assert.deepEqual(await rates("warmup_ratio: 0"), Array(8).fill(8));
});

Deno.test("a tenth of the steps or more at a learning rate of 0 is warned of", async () => {
  const said = async (lines: string, totalSteps: number) => (await loop(lines, totalSteps)).messages;
  const warning = (steps: number, key = "warmup_ratio") => [
    `1 of ${steps} steps changes nothing: the warm-up begins at a learning rate of 0; ${key}: 0 trains in it`,
  ];
  assert.deepEqual(await said("warmup_ratio: 0.1", 1), warning(1));
  assert.deepEqual(await said("warmup_ratio: 0.1", 2), warning(2));
  assert.deepEqual(await said("warmup_steps: 3", 10), warning(10, "warmup_steps"));
  assert.deepEqual(await said("warmup_ratio: 0.1", 11), []);
  assert.deepEqual(await said("warmup_ratio: 0", 2), []);
  assert.deepEqual(await said("learning_rate: 0\nwarmup_ratio: 0.1", 2), []);
});

Deno.test("a log entry has the rate and the norm of its own step, as they were", async () => {
  const { logged, rates } = await loop(
    "learning_rate: 8\nwarmup_ratio: 0.5\nlogging_steps: 3\nlogging_first_step: true",
    8,
  );
  assert.deepEqual(logged.map(({ step }) => step), [1, 3, 6]);
  for (const { step, learning_rate, grad_norm, epoch } of logged) {
    assert.deepEqual([learning_rate, grad_norm, epoch], [rates[step - 1], 10 + step - 1, step / 2]);
  }
  const { logged: later } = await loop("logging_steps: 3\nlogging_first_step: false", 8);
  assert.deepEqual(later.map(({ step, loss }) => [step, loss]), [[3, 1], [6, 4]]);
});

Deno.test("progress shows the step's own figures, and the rates of what was collected together", async () => {
  const { stepped, rates } = await loop("max_steps: 4", 4);
  assert.deepEqual(stepped.map(({ step }) => step), [1, 2, 3, 4]);
  for (const { step, totalSteps, startStep, loss, accuracy, tokensPerSecond, pairsPerSecond } of stepped) {
    assert.deepEqual([totalSteps, startStep, loss, accuracy], [4, 0, step! - 1, 0.75]);
    assert.deepEqual([tokensPerSecond, pairsPerSecond], [150, 8]);
  }
  // Two steps take four seconds, and whatever comes between them nothing.
  assert.deepEqual(stepped.map(({ secondsLeft }) => secondsLeft), [6, 4, 2, 0]);
  assert.deepEqual(stepped.map(({ gradNorm }) => gradNorm), [10, 11, 12, 13]);
  assert.deepEqual(stepped.map(({ learningRate }) => learningRate), rates);
  assert.deepEqual(stepped.map(({ margin }) => margin), Array(4).fill(0.5));
});

Deno.test("a GPU has the next step before the figures of the last are waited for, and all before a checkpoint", async () => {
  const { order } = await loop("logging_steps: 1\nsave_strategy: steps\nsave_steps: 3", 4);
  assert.deepEqual(order, [
    ...["encode 1", "submit 1"],
    ...["encode 2", "wait for 1", "submit 2", "tell 1"],
    ...["encode 3", "wait for 2", "submit 3", "tell 2", "wait for 3", "tell 3", "save"],
    ...["encode 4", "submit 4", "wait for 4", "tell 4", "save"],
  ]);
});

Deno.test("steps that nobody waits for are submitted one after the other, as many as a staging buffer holds", async () => {
  const { order } = await loop("logging_steps: 5", 5);
  assert.deepEqual(order, [
    ...["encode 1", "submit 1", "encode 2", "submit 2"],
    ...["encode 3", "wait for 1,2", "submit 3", "tell 1", "tell 2", "encode 4", "submit 4"],
    ...["encode 5", "wait for 3,4", "submit 5", "tell 3", "tell 4", "wait for 5", "tell 5"],
  ]);
});

Deno.test("a driver on the processor, which has done a step by then, is asked for its figures before the next", async () => {
  const { order } = await loop("logging_steps: 1", 2, { isSoftware: true });
  assert.deepEqual(order, [
    ...["encode 1", "submit 1", "wait for 1", "tell 1"],
    ...["encode 2", "submit 2", "wait for 2", "tell 2"],
  ]);
});

Deno.test("a collapse that began before a checkpoint is told of after it", async () => {
  const alarm = new CollapseAlarm();
  for (let step = 1; step <= 4; step++) alarm.add(step, PAIRS, { chosen: -1, rejected: -1 });
  for (let step = 5; step <= 7; step++) alarm.add(step, PAIRS, { chosen: -4, rejected: -4 });
  const { messages } = await loop("", 8, { before: { step: 7, alarm }, rewardsOf: () => [-4, -4] });
  assert.match(messages.join(), /^step 8: chosen responses are becoming improbable/);
});
