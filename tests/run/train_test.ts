import assert from "node:assert/strict";
import { join } from "node:path";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { task } from "../command.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN, MODELS, readGolden, readTensors, relativeDifference } from "../golden_run.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const OPTIMIZERS = "tests/golden/optimizers";

const trainGolden = (model: string, out: string, ...overrides: string[]) =>
  task(
    "train",
    `${GOLDEN}/run.yaml`,
    `--model_name_or_path=${GOLDEN}/${model}`,
    `--output_dir=${out}`,
    "--log_level=error",
    ...overrides,
  );

async function readWeights(folder: string): Promise<Map<string, Float32Array>> {
  const checkpoint = await openCheckpoint(folder);
  try {
    const names = [...checkpoint.tensors.keys()];
    return new Map(
      await Promise.all(names.map(async (name) => [name, await checkpoint.readF32(name)] as const)),
    );
  } finally {
    await checkpoint.close();
  }
}

for (const model of MODELS) {
  Deno.test(`a run of ${model} has PyTorch's log and weights`, () =>
    withTemporaryFolder(async (folder) => {
      const out = join(folder, "out");
      const { status, stdout, stderr } = await trainGolden(model, out);
      assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: "", stderr: "" });

      const { log } = await readGolden(model);
      const state = JSON.parse(await Deno.readTextFile(join(out, "trainer_state.json")));
      assert.equal(state.log_history.length, log.length);
      assert.equal(state.global_step, log.length);
      for (const key of Object.keys(log[0])) {
        const series = (entries: Record<string, number>[]) => entries.map((entry) => entry[key]);
        const difference = relativeDifference(series(state.log_history), series(log));
        assert.ok(difference < 1e-4, `${key}: ${difference}`);
      }

      const [start, end] = [await readWeights(`${GOLDEN}/${model}`), await readWeights(out)];
      const golden = await readTensors(`${GOLDEN}/${model}-golden/model/model.safetensors`);
      assert.deepEqual([...end.keys()].sort(), [...start.keys()].sort());
      for (const [name, expected] of golden) {
        const found = end.get(name)!;
        const before = start.get(name)!;
        // Saved in bfloat16, a weight is off by half a unit of its last place, 2^-8 of it, before any error of ours.
        const rounding = model.includes("bf16") ? 2 ** -8 : 0;
        let difference = 0;
        let change = 0;
        expected.forEach((value, i) => {
          const off = Math.abs(found[i] - value) - rounding * Math.abs(value);
          difference = Math.max(difference, Number.isNaN(off) ? Infinity : off);
          change = Math.max(change, Math.abs(value - before[i]));
        });
        assert.ok(change > 0, `${name} did not change`);
        assert.ok(difference < 2e-3 * change, `${name}: off by ${difference}, changed by ${change}`);
      }
    }));
}

Deno.test("a run of Lion has the log and weights of PyTorch with bitsandbytes' Lion32bit", () =>
  withTemporaryFolder(async (folder) => {
    const out = join(folder, "out");
    const keys = ["--optim=lion_32bit", "--learning_rate=2e-4", "--adam_beta2=0.99", "--weight_decay=0.1"];
    const { status, stderr } = await trainGolden("untied", out, "--max_steps=8", ...keys);
    assert.deepEqual([status, stderr], [0, ""]);
    const log = JSON.parse(await Deno.readTextFile(`${OPTIMIZERS}/lion_run.json`));
    const state = JSON.parse(await Deno.readTextFile(join(out, "trainer_state.json")));
    for (const key of Object.keys(log[0])) {
      const series = (entries: Record<string, number>[]) => entries.map((entry) => entry[key]);
      const difference = relativeDifference(series(state.log_history), series(log));
      assert.ok(difference < 1e-4, `${key}: ${difference}`);
    }
    const [start, end] = [await readWeights(`${GOLDEN}/untied`), await readWeights(out)];
    for (const [name, expected] of await readTensors(`${OPTIMIZERS}/lion_run.safetensors`)) {
      const [before, found] = [start.get(name)!, end.get(name)!];
      // NaN where a sign was rounding's in a step: few, and no more of them than that.
      const isKnown = (_: number, i: number) => !Number.isNaN(expected[i]);
      assert.ok(expected.filter(isKnown).length > 0.98 * expected.length);
      const change = (to: Float32Array) => to.map((value, i) => value - before[i]).filter(isKnown);
      const difference = relativeDifference(change(found), change(expected));
      assert.ok(difference < 1e-4, `${name}: ${difference}`);
    }
  }));

/**
 * Runs of one model that store something in less, and how far they may be from the float32 run: losses; changes of
 * the weights, in the mean over tensors, of each one's largest. Seen: 1e-5 and 3e-3, 1.3e-4 and 2e-2, 1.8e-4 and
 * 1.4e-2, 4e-3 and 0.8 (of weights that have changed by some units of bfloat16's last place).
 */
const MOMENTS = "--optim_args=momentum_dtype=bfloat16,variance_dtype=bfloat16";
const ROUNDED: [string, string[], { loss: number; weights: number }][] = [
  ["moments in bfloat16", ["--optim=adamw_anyprecision", MOMENTS], { loss: 1e-4, weights: 1e-2 }],
  ["activations in bfloat16", ["--activation_dtype=bfloat16"], { loss: 1e-3, weights: 5e-2 }],
  ["moments in bytes", ["--optim=adamw_8bit"], { loss: 1e-3, weights: 5e-2 }],
  [
    "weights in bfloat16, moments in bytes",
    ["--optim=adamw_8bit", "--optim_args=bf16_stochastic_round=True"],
    {
      loss: 2e-2,
      weights: 1.2,
    },
  ],
];
for (const [name, keys, limits] of ROUNDED) {
  Deno.test(`a run with ${name} stays near the float32 one`, () =>
    withTemporaryFolder(async (folder) => {
      const run = async (out: string, ...overrides: string[]) => {
        const { status, stderr } = await trainGolden(MODELS[0], join(folder, out), ...overrides);
        assert.deepEqual([status, stderr], [0, ""]);
        const state = JSON.parse(await Deno.readTextFile(join(folder, out, "trainer_state.json")));
        const losses = state.log_history.map(({ loss }: { loss: number }) => loss);
        return { losses, weights: await readWeights(join(folder, out)) };
      };
      const [exact, rounded] = [await run("exact"), await run("rounded", ...keys)];
      const loss = relativeDifference(rounded.losses, exact.losses);
      assert.ok(loss < limits.loss, `loss: ${loss}`);

      const start = await readWeights(`${GOLDEN}/${MODELS[0]}`);
      const changes = [...exact.weights].map(([name, values]) => {
        const change = (to: Float32Array) => to.map((value, i) => value - start.get(name)![i]);
        return relativeDifference(change(rounded.weights.get(name)!), change(values));
      });
      const mean = changes.reduce((sum, change) => sum + change, 0) / changes.length;
      assert.ok(mean > 0 && mean < limits.weights, `changes of the weights: ${changes}`);
    }));
}

Deno.test("a run leaves the source's names, shapes and dtypes, and the files that design.md lists", () =>
  withTemporaryFolder(async (folder) => {
    const out = join(folder, "out");
    assert.equal((await trainGolden(MODELS[1], out, "--max_steps=1")).status, 0);
    const [source, saved] = [await openCheckpoint(`${GOLDEN}/${MODELS[1]}`), await openCheckpoint(out)];
    const form = (checkpoint: typeof source) =>
      [...checkpoint.tensors.values()].map(({ name, dtype, shape }) => [name, dtype, shape]).sort();
    assert.deepEqual(form(saved), form(source));
    await source.close();
    await saved.close();
    const files = [...Deno.readDirSync(out)].map(({ name }) => name).sort();
    assert.deepEqual(files, [
      "README.md",
      "all_results.json",
      "chat_template.jinja",
      "checkpoint-1",
      "config.json",
      "generation_config.json",
      "metrics.jsonl",
      "model.safetensors",
      "report.html",
      "report.json",
      "tokenizer.json",
      "tokenizer_config.json",
      "trainer_state.json",
    ]);
  }));

Deno.test("the same run twice gives the same bytes of weights, in random order too", () =>
  withTemporaryFolder(async (folder) => {
    const bytes: Uint8Array[] = [];
    for (const name of ["first", "second"]) {
      const out = join(folder, name);
      const { status } = await trainGolden(MODELS[0], out, "--train_sampling_strategy=random", "--seed=3");
      assert.equal(status, 0);
      bytes.push(await Deno.readFile(join(out, "model.safetensors")));
    }
    assertEqualBytes(bytes[0], bytes[1]);
  }));

Deno.test("evaluation is logged at step 0, at its steps and at the end", () =>
  withTemporaryFolder(async (folder) => {
    const data = join(folder, "data");
    await Deno.mkdir(data);
    for (const name of ["train.jsonl", "test.jsonl"]) {
      await Deno.copyFile(`${GOLDEN}/pairs.jsonl`, join(data, name));
    }
    const out = join(folder, "out");
    const run = join(folder, "run.yaml");
    const config = (await Deno.readTextFile(`${GOLDEN}/run.yaml`))
      .replace(`${GOLDEN}/pairs.jsonl`, data) +
      "do_eval: true\neval_on_start: true\neval_steps: 2\nmax_steps: 3\n";
    await Deno.writeTextFile(run, config);
    const { status, stderr } = await task("train", run, `--output_dir=${out}`, "--log_level=error");
    assert.deepEqual([status, stderr], [0, ""]);
    const { log_history: history } = JSON.parse(await Deno.readTextFile(join(out, "trainer_state.json")));
    const evaluations = history.filter((entry: Record<string, number>) => "eval_loss" in entry);
    assert.deepEqual(evaluations.map(({ step }: { step: number }) => step), [0, 2, 3]);
    for (
      const key of ["eval_rewards/accuracies", "eval_rewards/margins", "eval_runtime", "eval_logps/chosen"]
    ) {
      assert.ok(Number.isFinite(evaluations[0][key]), key);
    }
    // The test split is the training split, so the step-0 evaluation and the first training steps see the same model.
    const { log } = await readGolden(MODELS[0]);
    const expected = (log[0]["rewards/chosen"] * 4 + log[1]["rewards/chosen"] * 3) / 7;
    assert.ok(Math.abs(evaluations[0]["eval_rewards/chosen"] - expected) < 1e-5 * Math.abs(expected));
    const results = JSON.parse(await Deno.readTextFile(join(out, "all_results.json")));
    assert.equal(results.eval_loss, evaluations.at(-1).eval_loss);
  }));
