/** What a run's log says, against what it did; and what a resumed run may change. */
import assert from "node:assert/strict";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { bestOf } from "../lib/best.ts";
import { checkConfig } from "../lib/checkpoint/fingerprint.ts";
import type { SavedRun } from "../lib/checkpoint/state.ts";
import { FIELDS, keyOf, type TrainConfig } from "../lib/config/schema.ts";
import { configEntries } from "../lib/config/write.ts";
import type { StepProgress } from "../lib/events.ts";
import { samplePosition, sampleStep } from "../lib/sampler.ts";
import { GOLDEN } from "./golden_run.ts";
import { ls, run, weightsOf } from "./in_process.ts";
import { parsed } from "./run_file.ts";
import { withTemporaryFolder } from "./temporary_folder.ts";

type Entry = Record<string, number>;
const readJson = async (...path: string[]) => JSON.parse(await Deno.readTextFile(join(...path)));

Deno.test("a run's log has the means, sums and rates of what went through it", () =>
  withTemporaryFolder(async (folder) => {
    const out = join(folder, "out");
    const steps: StepProgress[] = [];
    const outcome = await run(out, [
      "--max_steps=6",
      "--logging_steps=2",
      "--warmup_steps=4",
      "--warmup_ratio=0.9",
      "--lr_scheduler_type=linear",
    ], { stepped: (progress) => steps.push(progress) });
    const { log_history: log, num_input_tokens_seen } = await readJson(out, "trainer_state.json");
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    assert.equal(log.length, 3);
    log.forEach((entry: Entry, i: number) => {
      const two = steps.slice(2 * i, 2 * i + 2);
      assert.equal(entry.loss, mean(two.map(({ loss }) => loss)));
      assert.equal(entry["rewards/accuracies"], mean(two.map(({ accuracy }) => accuracy!)));
      // Steps of 4 and 3 pairs by turns: 7 a window.
      const tokens = entry.num_input_tokens_seen - (log[i - 1]?.num_input_tokens_seen ?? 0);
      assert.ok(tokens > 7 * 20, "since the entry before, and no sum of all but the last");
      const each = entry.tokens_per_second / entry.pairs_per_second;
      assert.ok(Math.abs(each - tokens / 7) < 1e-9 * each, `${each} tokens a pair, ${tokens / 7} expected`);
    });
    assert.equal(num_input_tokens_seen, log.at(-1).num_input_tokens_seen);
    assert.deepEqual([outcome.tokens, outcome.pairs], [num_input_tokens_seen, 21]);
    const { train_loss } = await readJson(out, "all_results.json");
    assert.ok(Math.abs(train_loss - mean(steps.map(({ loss }) => loss))) < 1e-12, "of all steps");
    for (const { tokensPerSecond, pairsPerSecond } of steps) {
      assert.ok(tokensPerSecond > 20 * pairsPerSecond, "tokens are not pairs");
    }
    // Four steps of warm-up, which warmup_ratio does not change; the rate is that of the last step of each entry.
    assert.deepEqual(log.map((entry: Entry) => entry.learning_rate), [0.25e-3, 0.75e-3, 0.5e-3]);
  }));

Deno.test("load_best_model_at_end leaves the model of least loss after the start", () =>
  withTemporaryFolder(async (folder) => {
    const data = join(folder, "data");
    await Deno.mkdir(data);
    for (const split of ["train", "test"]) {
      await Deno.copyFile(`${GOLDEN}/pairs.jsonl`, join(data, `${split}.jsonl`));
    }
    const out = join(folder, "out");
    await run(out, [
      `--dataset_mixer={${data}: 1.0}`,
      "--max_steps=5",
      "--save_steps=1",
      "--eval_strategy=steps",
      "--eval_steps=1",
      "--eval_on_start",
      "--load_best_model_at_end",
      // So high that the loss is higher after some steps than before.
      "--learning_rate=0.3",
      "--max_grad_norm=0",
    ]);
    const state = await readJson(out, "trainer_state.json");
    const losses: Entry[] = state.log_history.filter((entry: Entry) =>
      "eval_loss" in entry && entry.step > 0
    );
    const least = losses.reduce((best, entry) => entry.eval_loss < best.eval_loss ? entry : best);
    const most = losses.reduce((worst, entry) => entry.eval_loss > worst.eval_loss ? entry : worst);
    assert.ok(
      least.step !== most.step && least.step < 5,
      JSON.stringify(losses.map(({ eval_loss }) => eval_loss)),
    );
    assert.deepEqual([state.best_global_step, state.best_metric], [least.step, least.eval_loss]);
    assert.deepEqual(await weightsOf(out), await weightsOf(join(out, `checkpoint-${least.step}`)));
    assert.equal((await readJson(out, "all_results.json")).eval_loss, least.eval_loss);
  }));

Deno.test("the evaluation before the first step is never the best", () => {
  const log = [
    { step: 0, epoch: 0, eval_loss: -9, "eval_rewards/margins": 9 },
    { step: 1, epoch: 1, eval_loss: -1, "eval_rewards/margins": 1 },
    { step: 2, epoch: 2, eval_loss: NaN, "eval_rewards/margins": NaN },
  ];
  assert.deepEqual(bestOf(log, { metricForBestModel: "loss", greaterIsBetter: false }), {
    step: 1,
    value: -1,
  });
  assert.deepEqual(bestOf(log, { metricForBestModel: "rewards/margins", greaterIsBetter: true }), {
    step: 1,
    value: 1,
  });
  assert.equal(bestOf(log.slice(0, 1), { metricForBestModel: "loss", greaterIsBetter: false }), undefined);
});

Deno.test("a place in the data is where the next step begins", () => {
  for (const pairs of [7, 8, 77]) {
    const options = {
      pairs,
      perBatch: 2,
      batchesPerStep: 2,
      gpus: 1,
      epochs: 3,
      maxSteps: 0,
      strategy: "random" as const,
      seed: 3,
    };
    const orders = new Map<number, number[]>();
    const steps = Array.from(
      { length: 3 * Math.ceil(pairs / 4) },
      (_, step) => sampleStep(step, options).batches.flat(),
    );
    steps.forEach((indices, step) => {
      const { epoch, pair } = samplePosition(step, options);
      const order = orders.get(epoch) ?? [];
      assert.equal(order.length, pair, `${pairs} pairs, step ${step}`);
      orders.set(epoch, [...order, ...indices]);
    });
    for (const order of orders.values()) {
      assert.deepEqual(order.toSorted((a, b) => a - b), [...Array(pairs).keys()]);
    }
    assert.deepEqual(samplePosition(steps.length, options), { epoch: 3, pair: 0 });
  }
});

/** Keys that a resumed run may change, each with why the steps after it are the same. */
const MAY_CHANGE: (keyof TrainConfig)[] = [
  // Compared by the hashes of what they name.
  ...[
    "modelNameOrPath",
    "modelRevision",
    "chatTemplate",
    "datasetMixer",
    "datasetSplits",
    "datasetConfigs",
  ] as const,
  // Compared together, where a learning rate depends on them: not so in the test's run.
  ...["numTrainEpochs", "maxSteps"] as const,
  // Another order of the same sums, or none.
  ...["perDeviceEvalBatchSize", "gradientCheckpointing", "deviceMemory"] as const,
  // What is evaluated, saved, logged, shown and uploaded.
  ...["doEval", "evalStrategy", "evalSteps", "evalOnStart"] as const,
  ...[
    "outputDir",
    "overwriteOutputDir",
    "resumeFromCheckpoint",
    "saveStrategy",
    "saveSteps",
    "saveTotalLimit",
  ] as const,
  ...["loadBestModelAtEnd", "metricForBestModel", "greaterIsBetter", "overwriteCache", "runName"] as const,
  ...[
    "loggingSteps",
    "loggingFirstStep",
    "logLevel",
    "pushToHub",
    "hubModelId",
    "hubPrivateRepo",
    "hubToken",
  ] as const,
];
/** What steps, or what is said of them, follow from. */
const MUST_NOT: (keyof TrainConfig)[] = [
  "fromScratch",
  "autoInsertEmptySystemMsg",
  "maxLength",
  "maxPromptLength",
  "truncationMode",
  "lossType",
  "optim",
  "optimArgs",
  "learningRate",
  "lrSchedulerType",
  "warmupRatio",
  "warmupSteps",
  "weightDecay",
  "maxGradNorm",
  "adamBeta1",
  "adamBeta2",
  "adamEpsilon",
  "perDeviceTrainBatchSize",
  "gradientAccumulationSteps",
  "numGpus",
  "activationDtype",
  "trainSamplingStrategy",
  "seed",
  // Their answers before the first step are those of then.
  "prompts",
];

Deno.test("every key is either free to change for a resumed run or refused by its name", () => {
  const others = FIELDS.filter((field) => !MAY_CHANGE.includes(field) && !MUST_NOT.includes(field));
  assert.deepEqual(others, [], "decide whether a resumed run may change it, and say so here");
  const { config } = parsed("lr_scheduler_type: constant\nwarmup_ratio: 0\n");
  const now = Object.fromEntries(
    configEntries(config).map(([key, value]) => [key, value instanceof Map ? [...value] : value]),
  );
  for (const field of FIELDS) {
    const key = keyOf(field);
    const there = field === "datasetMixer" ? [["elsewhere.jsonl", 1]] : "another";
    const before = {
      folder: "there",
      state: { run: { config: { ...now, [key]: there } } },
    } as unknown as SavedRun;
    const check = () => checkConfig(config, before);
    if (MAY_CHANGE.includes(field)) check();
    else if (MUST_NOT.includes(field)) {
      assert.throws(check, new RegExp(`\\n  ${key}: "another" there, `), key);
    }
  }
});

Deno.test("a checkpoint has its name only when all of its files are on the disk", () =>
  withTemporaryFolder(async (folder) => {
    const probe = await open(join(folder, "probe"), "w");
    const handles = Object.getPrototypeOf(probe);
    await probe.close();
    await Deno.remove(join(folder, "probe"));
    const { sync } = handles;
    const flushed: { began: boolean; ended: boolean }[] = [];
    const isThere = () => ls(folder).includes("checkpoint-1");
    handles.sync = async function () {
      const began = isThere();
      await sync.call(this);
      // A slow disk.
      await new Promise((resolve) => setTimeout(resolve, 50));
      flushed.push({ began, ended: isThere() });
    };
    try {
      await run(folder, ["--max_steps=1"]);
    } finally {
      handles.sync = sync;
    }
    const before = flushed.filter(({ began, ended }) => !began && !ended);
    // Each file and the folder's list of them.
    assert.ok(before.length > ls(join(folder, "checkpoint-1")).length, JSON.stringify(flushed));
    assert.deepEqual(flushed.filter(({ began, ended }) => began !== ended), []);
    assert.ok(flushed.at(-1)!.began);
  }));
