/** What checkpoints hold, which are kept, and which run goes on from which. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openCheckpoint, openSafetensors } from "../../lib/safetensors/read.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN } from "../golden_run.ts";
import { ls, refusal, run, stopAt, weightsOf, wholeCheckpoints } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const test = (name: string, body: (folder: string) => Promise<void>) =>
  Deno.test(name, () => withTemporaryFolder(body));

const readJson = async (...path: string[]) => JSON.parse(await Deno.readTextFile(join(...path)));

/** Train and test splits of the golden pairs. */
async function withTestSplit(folder: string): Promise<string> {
  const data = join(folder, "data");
  await Deno.mkdir(data);
  for (const split of ["train", "test"]) {
    await Deno.copyFile(`${GOLDEN}/pairs.jsonl`, join(data, `${split}.jsonl`));
  }
  return `--dataset_mixer={${data}: 1.0}`;
}

test("a checkpoint has the model's files, and what it rounds in float32", async (folder) => {
  const model = `--model_name_or_path=${GOLDEN}/tied-llama3-bf16-sharded`;
  const messages: string[] = [];
  await run(folder, [model, "--max_steps=2", "--save_steps=2"], {
    onLog: (_, message) => messages.push(message),
  });
  const checkpoint = join(folder, "checkpoint-2");
  assert.deepEqual(ls(checkpoint), [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "optimizer.safetensors",
    "run_state.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "trainer_state.json",
  ]);
  assertEqualBytes(await weightsOf(checkpoint), await weightsOf(folder));
  const [weights, optimizer] = [
    await openCheckpoint(checkpoint),
    await openSafetensors(join(checkpoint, "optimizer.safetensors")),
  ];
  for (const { name, dtype, shape } of weights.tensors.values()) {
    assert.equal(dtype, "BF16");
    for (const kept of ["master", "exp_avg", "exp_avg_sq"]) {
      const found = optimizer.tensors.get(`${kept}.${name}`)!;
      assert.deepEqual([found.dtype, found.shape], ["F32", shape]);
    }
    const rounded = await weights.readF32(name);
    const exact = await optimizer.readF32(`master.${name}`);
    assert.ok(rounded.every((value, i) => Math.abs(value - exact[i]) <= 2 ** -8 * Math.abs(exact[i])), name);
    assert.ok(rounded.some((value, i) => value !== exact[i]), name);
  }
  const source = await openCheckpoint(`${GOLDEN}/tied-llama3-bf16-sharded`);
  let [same, all] = [0, 0];
  for (const name of source.tensors.keys()) {
    const [before, after] = [await source.readF32(name), await weights.readF32(name)];
    same += after.filter((value, i) => value === before[i]).length;
    all += after.length;
  }
  const share = Number((100 * same / all).toFixed(1));
  assert.ok(share > 0 && share < 100);
  assert.match(
    messages.at(-1)!,
    new RegExp(`^saved in BF16 as the source is: ${share} % of the weights are`),
  );
  await source.close();
  await weights.close();
  await optimizer.close();
  const state = await readJson(checkpoint, "run_state.json");
  assert.deepEqual([state.step, state.position], [2, { epoch: 1, pair: 0 }]);
  assert.match(state.run.model["config.json"], /^[0-9a-f]{64}$/);
  assert.equal(state.run.config.learning_rate, 1e-3);
});

test("float32 models have their weights once", async (folder) => {
  await run(folder, ["--max_steps=1"]);
  const optimizer = await openSafetensors(join(folder, "checkpoint-1", "optimizer.safetensors"));
  const names = [...optimizer.tensors.keys()];
  await optimizer.close();
  assert.ok(names.every((name) => /^exp_avg(_sq)?\./.test(name)), names.join());
});

test("checkpoints come every save_steps and at the end, at a share of the steps, after epochs, or not at all", async (folder) => {
  const saved = async (...overrides: string[]) => {
    await run(folder, [...overrides, "--overwrite_output_dir"]);
    return await wholeCheckpoints(folder);
  };
  assert.deepEqual(await saved("--max_steps=7", "--save_steps=3"), [3, 6, 7]);
  assert.deepEqual(await saved("--max_steps=7", "--save_steps=0.5"), [4, 7]);
  // Two steps are an epoch.
  assert.deepEqual(await saved("--max_steps=5", "--save_strategy=epoch"), [2, 4, 5]);
  assert.deepEqual(await saved("--max_steps=5", "--save_strategy=no"), []);
  assert.equal((await readJson(folder, "trainer_state.json")).save_steps, 4);
});

test("save_total_limit keeps the newest and the best, which load_best_model_at_end leaves as the result", async (folder) => {
  const mixer = await withTestSplit(folder);
  const best = async (out: string, ...overrides: string[]) => {
    // So high a rate that the loss goes up and down.
    await run(join(folder, out), [
      mixer,
      "--eval_strategy=steps",
      "--eval_steps=1",
      "--save_steps=1",
      ...overrides,
    ]);
    const state = await readJson(folder, out, "trainer_state.json");
    const evaluations = state.log_history.filter((entry: Record<string, number>) => "eval_loss" in entry);
    return { state, evaluations, results: await readJson(folder, out, "all_results.json") };
  };
  const metric = ["--metric_for_best_model=eval_rewards/chosen", "--greater_is_better=false"];
  const limited = await best("limited", "--save_total_limit=1", "--load_best_model_at_end", ...metric);
  const values = limited.evaluations.map((entry: Record<string, number>) => entry["eval_rewards/chosen"]);
  const lowest = values.indexOf(Math.min(...values)) + 1;
  assert.ok(lowest < 12, "the metric has to be best before the end");
  const { state } = limited;
  assert.deepEqual([state.best_global_step, state.best_metric], [lowest, values[lowest - 1]]);
  assert.equal(state.best_model_checkpoint, join(folder, "limited", `checkpoint-${lowest}`));
  assert.deepEqual(await wholeCheckpoints(join(folder, "limited")), [lowest, 12]);
  assertEqualBytes(await weightsOf(join(folder, "limited")), await weightsOf(state.best_model_checkpoint));
  assert.equal(limited.results["eval_rewards/chosen"], values[lowest - 1]);

  await best("three", "--save_total_limit=3");
  assert.deepEqual(await wholeCheckpoints(join(folder, "three")), [10, 11, 12]);
  await best("best", "--save_strategy=best", ...metric);
  assert.equal((await wholeCheckpoints(join(folder, "best"))).at(-1), lowest);
});

test("a run goes on from its last checkpoint by itself, to the same bytes, and says so", async (folder) => {
  const [out, unbroken] = [join(folder, "out"), join(folder, "unbroken")];
  await run(unbroken);
  await stopAt(6, out);
  assert.ok(!ls(out).includes("model.safetensors"));
  // Of a process that was killed.
  await Deno.mkdir(join(out, "tmp-checkpoint-8"));
  await Deno.mkdir(join(out, "tmp-old-checkpoint-2"));
  const [last] = (await wholeCheckpoints(out)).slice(-1);
  const messages: string[] = [];
  await run(out, [], { onLog: (_, message) => messages.push(message) });
  assert.ok(messages.includes(`going on from ${join(out, `checkpoint-${last}`)}, after ${last} steps`));
  assertEqualBytes(await weightsOf(out), await weightsOf(unbroken));
  assert.deepEqual(ls(out).filter((name) => name.startsWith("tmp-")), []);

  assert.match(await refusal(run(out)), /is not empty.*--overwrite_output_dir/s);
  // From an earlier checkpoint, over the later ones.
  await run(out, [`--resume_from_checkpoint=${join(out, "checkpoint-4")}`]);
  assertEqualBytes(await weightsOf(out), await weightsOf(unbroken));
  await run(out, ["--resume_from_checkpoint"]);
  assertEqualBytes(await weightsOf(out), await weightsOf(unbroken));
  await run(out, ["--overwrite_output_dir", "--max_steps=2"]);
  assert.deepEqual(await wholeCheckpoints(out), [2]);
});

test("what matters is refused by the name of each key, what does not is let through", async (folder) => {
  const out = join(folder, "out");
  await stopAt(2, out);
  const message = await refusal(
    run(out, [
      "--learning_rate=2e-3",
      "--seed=1",
      "--gradient_accumulation_steps=1",
      "--max_length=64",
      "--max_steps=13",
    ]),
  );
  assert.match(message, /checkpoint-\d is of another run:\n/);
  for (
    const line of [
      "learning_rate: 0.001 there, 0.002 now",
      "seed: 42 there, 1 now",
      "gradient_accumulation_steps: 2 there, 1 now",
      "max_length: 96 there, 64 now",
      "max_steps: 12 there, 13 now: the learning rate of every step follows from it",
    ]
  ) assert.ok(message.includes(`\n  ${line}\n`), `${line} in ${message}`);
  assert.match(message, /--overwrite_output_dir/);
  assert.match(
    await refusal(run(out, ["--resume_from_checkpoint=false"])),
    /resume_from_checkpoint is false/,
  );

  const data = join(folder, "pairs.jsonl");
  await Deno.writeTextFile(data, (await Deno.readTextFile(`${GOLDEN}/pairs.jsonl`)).repeat(2));
  const model = `${GOLDEN}/padding`;
  const others = await refusal(run(out, [`--dataset_mixer={${data}: 1.0}`, `--model_name_or_path=${model}`]));
  assert.match(others, /dataset_mixer: the data of the train split are others/);
  assert.match(others, /model_name_or_path: model\.safetensors is another file/);
  assert.match(
    await refusal(run(out, [`--dataset_mixer={${GOLDEN}/pairs.jsonl: 0.5}`])),
    /shares \[1\] there, \[0.5\] now/,
  );
  assert.match(
    await refusal(run(out, ["--chat_template={{ messages[0].content }}"])),
    /chat_template: .* another/,
  );

  const copy = join(folder, "copy.jsonl");
  await Deno.copyFile(`${GOLDEN}/pairs.jsonl`, copy);
  await run(out, [
    `--dataset_mixer={${copy}: 1.0}`,
    "--logging_steps=3",
    "--save_steps=5",
    "--run_name=other",
    "--gradient_checkpointing",
    "--prompts=[]",
  ]);
  await run(join(folder, "unbroken"));
  assertEqualBytes(await weightsOf(out), await weightsOf(join(folder, "unbroken")));
});

test("a run whose learning rate does not depend on its length may be made longer", async (folder) => {
  const constant = ["--lr_scheduler_type=constant", "--warmup_ratio=0"];
  await run(join(folder, "short"), constant);
  await run(join(folder, "long"), [...constant, "--max_steps=15"]);
  await run(join(folder, "short"), [...constant, "--max_steps=15", "--resume_from_checkpoint"]);
  assertEqualBytes(await weightsOf(join(folder, "short")), await weightsOf(join(folder, "long")));
  const shorter = run(join(folder, "short"), [...constant, "--max_steps=9", "--resume_from_checkpoint"]);
  assert.match(await refusal(shorter), /max_steps: 9 steps now, and 15 are done/);
});

test("a folder that is no checkpoint of this program's is refused", async (folder) => {
  const out = join(folder, "out");
  assert.match(await refusal(run(out, ["--resume_from_checkpoint"])), /out holds no checkpoint-N/);
  assert.match(
    await refusal(run(out, [`--resume_from_checkpoint=${folder}/nowhere`])),
    /nowhere: no such folder/,
  );
  assert.match(
    await refusal(run(out, [`--resume_from_checkpoint=${GOLDEN}/untied`]), 1),
    /untied\/run_state\.json: cannot be read/,
  );
  await run(out, ["--max_steps=2", "--save_steps=1"]);
  const again = ["--max_steps=2", "--save_steps=1", "--resume_from_checkpoint"];
  const file = (name: string) => join(out, "checkpoint-2", name);
  const state = await Deno.readTextFile(file("run_state.json"));
  for (const text of ["", "{}", "[1]", '{"format": 2}', state.replace('"step": 2', '"step": 1')]) {
    await Deno.writeTextFile(file("run_state.json"), text);
    assert.match(await refusal(run(out, again), 1), /checkpoint-2\/(run|trainer)_state\.json: /, text);
  }
  await Deno.writeTextFile(file("run_state.json"), state);
  await Deno.truncate(file("optimizer.safetensors"), 9000);
  assert.match(await refusal(run(out, again), 1), /optimizer\.safetensors: /);
  await Deno.copyFile(`${GOLDEN}/untied/model.safetensors`, file("optimizer.safetensors"));
  assert.match(
    await refusal(run(out, again), 1),
    /optimizer\.safetensors does not fit the model:\n.*missing/,
  );
});

test("kernels that were chosen by measurement are those of the checkpoint", async (folder) => {
  await run(folder, ["--max_steps=2", "--save_steps=1"]);
  const path = join(folder, "checkpoint-1", "run_state.json");
  const state = await readJson(path);
  const kernels = {
    buffer: { ...state.kernels.buffer, "nt wide": "storage 8x8" },
    textured: [],
    fuses: true,
  };
  assert.notDeepEqual(kernels, state.kernels);
  await Deno.writeTextFile(path, JSON.stringify({ ...state, kernels }));
  await run(folder, [
    "--max_steps=2",
    "--save_steps=1",
    `--resume_from_checkpoint=${join(folder, "checkpoint-1")}`,
  ]);
  assert.deepEqual((await readJson(folder, "checkpoint-2", "run_state.json")).kernels, kernels);
});

test("epochs are counted in batches, and in a log of before, which counted pairs, too", async (folder) => {
  // Seven pairs: four batches, the last of one pair, and two steps an epoch.
  await stopAt(1, folder, ["--max_steps=3"]);
  const path = join(folder, "checkpoint-1", "trainer_state.json");
  const before = await readJson(path);
  before.log_history[0].epoch = before.epoch = 4 / 7;
  await Deno.writeTextFile(path, JSON.stringify(before));
  await run(folder, ["--max_steps=3", "--logging_steps=1"]);
  const { epoch, log_history } = await readJson(folder, "trainer_state.json");
  assert.deepEqual(log_history.map(({ epoch }: { epoch: number }) => epoch), [0.5, 1, 1.5]);
  assert.deepEqual([epoch, (await readJson(folder, "all_results.json")).epoch], [1.5, 1.5]);
});
