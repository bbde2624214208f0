/** What a run's log says, against what it did. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { responsesOf } from "../../lib/data/pair.ts";
import type { StepProgress } from "../../lib/training/step_progress.ts";
import { samplePosition, sampleStep } from "../../lib/training/sampler.ts";
import { GOLDEN, readGolden } from "../golden_run.ts";
import { run, weightsOf } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

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
    ], { onStep: (progress) => steps.push(progress) });
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
    // Three passes over the seven pairs, each response with its prompt.
    const { pairs } = await readGolden("untied");
    const sequences = pairs.flatMap(responsesOf).reduce((sum, { ids }) => sum + ids.length, 0);
    assert.equal(log.at(-1).num_tokens, 3 * sequences);
    for (
      const name of ["entropy", "mean_token_accuracy", "logits/chosen", "logits/rejected", "eos/probability"]
    ) {
      assert.ok(log.every((entry: Entry) => Number.isFinite(entry[name])), name);
    }
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
