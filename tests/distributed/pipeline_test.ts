/** Runs whose ranks are stages of a pipeline, all in the process of the test. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { passesOfStage } from "../../lib/distributed/pipeline.ts";
import type { TrainRun } from "../../lib/run/outcome.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN, readGolden, relativeDifference } from "../golden_run.ts";
import { refusal, run } from "../in_process.ts";
import { modelWith } from "../model_with.ts";
import { asRanks, trainAs } from "../ranks.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const STAGES = "--pipeline_parallel_size=2";

/** Of a log what does not tell the time. */
const figuresOf = ({ history }: TrainRun) =>
  history.map((entry) =>
    Object.fromEntries(Object.entries(entry).filter(([key]) => !/runtime|per_second/.test(key)))
  );

async function assertSameFiles(found: string, expected: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const [a, b] = await Promise.all([found, expected].map((folder) => Deno.readFile(join(folder, name))));
    assertEqualBytes(a, b, name);
  }
}

const CHECKPOINT = [
  "model.safetensors",
  "checkpoint-2/optimizer.safetensors",
  "checkpoint-2/model.safetensors",
];

Deno.test("a stage begins as many micro-batches as there are stages after it, and then takes turns", () => {
  const passes = (count: number, rank: number, size: number) =>
    passesOfStage(count, { rank, size }).map(({ index, isForward }) => `${isForward ? "F" : "B"}${index}`)
      .join(" ");
  assert.equal(passes(4, 0, 3), "F0 F1 F2 B0 F3 B1 B2 B3");
  assert.equal(passes(4, 1, 3), "F0 F1 B0 F2 B1 F3 B2 B3");
  assert.equal(passes(4, 2, 3), "F0 B0 F1 B1 F2 B2 F3 B3");
  assert.equal(passes(1, 0, 3), "F0 B0");
  assert.equal(passes(2, 0, 1), "F0 B0 F1 B1");
  assert.equal(passes(0, 0, 3), "");
});

Deno.test("two stages leave the bytes of one process: log, weights and checkpoints", () =>
  withTemporaryFolder(async (folder) => {
    // Four micro-batches of one pair: the first stage has two under way. The second step of an epoch has three.
    const keys = [
      "--max_steps=3",
      "--save_steps=2",
      "--per_device_train_batch_size=1",
      "--gradient_accumulation_steps=4",
    ];
    const at = (name: string) => join(folder, name);
    const [whole] = await trainAs(1, at("whole"), keys);
    const said: string[] = [];
    const [first, second] = await trainAs(2, at("stages"), [...keys, STAGES], () => ({
      onLog: (_, message) => said.push(message),
    }));
    assert.deepEqual(figuresOf(first), figuresOf(whole));
    assert.deepEqual(figuresOf(second), figuresOf(whole));
    await assertSameFiles(at("stages"), at("whole"), CHECKPOINT);
    assert.ok(
      said.includes("2 ranks, a stage of the model each: of the model's layers the first stage has 1"),
    );
    const [, allocated, planned] = /^allocated (\d+) bytes, planned (\d+)$/m.exec(said.join("\n"))!;
    assert.equal(allocated, planned);

    // One process goes on where stages were stopped.
    const stop = new AbortController();
    await trainAs(2, at("mixed"), [...keys, STAGES], ({ rank }) => ({
      ...rank === 0 && {
        signal: stop.signal,
        onStep: ({ step }: { step: number }) => step === 2 && stop.abort(),
      },
    }));
    const [mixed] = await trainAs(1, at("mixed"), keys);
    assert.deepEqual(figuresOf(mixed), figuresOf(whole));
    await assertSameFiles(at("mixed"), at("whole"), CHECKPOINT);
  }));

Deno.test("adapters with dropout, a loss in TypeScript, evaluation and a signal: the bytes of the unbroken process", () =>
  withTemporaryFolder(async (folder) => {
    for (const split of ["train", "test"]) {
      await Deno.mkdir(join(folder, "pairs"), { recursive: true });
      await Deno.copyFile(`${GOLDEN}/pairs.jsonl`, join(folder, "pairs", `${split}.jsonl`));
    }
    const keys = [
      ...[
        "--use_peft",
        "--lora_dropout=0.1",
        "--do_eval",
        "--eval_strategy=steps",
        "--eval_steps=2",
        "--max_steps=4",
      ],
      ...[
        "--per_device_eval_batch_size=3",
        "--save_steps=2",
        "--save_total_limit=1",
        "--load_best_model_at_end",
      ],
      `--dataset_mixer={${JSON.stringify(join(folder, "pairs"))}: 1}`,
    ];
    const loss = {
      name: "log-ratio",
      of: (chosen: { sum: number; labels: number }, rejected: { sum: number; labels: number }) => ({
        value: rejected.sum / rejected.labels - chosen.sum / chosen.labels,
        dChosen: -1 / chosen.labels,
        dRejected: 1 / rejected.labels,
      }),
    };
    const at = (name: string) => join(folder, name);
    const [whole] = await trainAs(1, at("whole"), keys, () => ({ loss }));
    const stop = new AbortController();
    const stopped = await trainAs(2, at("stages"), [...keys, STAGES], ({ rank }) => ({
      loss,
      ...rank === 1 && {
        signal: stop.signal,
        onStep: ({ step }: { step: number }) => step === 3 && stop.abort(),
      },
    }));
    assert.deepEqual(stopped.map(({ isStopped, steps }) => [isStopped, steps]), [[true, 3], [true, 3]]);
    const [resumed] = await trainAs(2, at("stages"), [...keys, STAGES], () => ({ loss }));
    assert.deepEqual(figuresOf(resumed), figuresOf(whole));
    await assertSameFiles(at("stages"), at("whole"), [
      "adapter_model.safetensors",
      "checkpoint-4/optimizer.safetensors",
    ]);
  }));

Deno.test("four stages from random weights leave the bytes of one process", () =>
  withTemporaryFolder(async (folder) => {
    const model = join(folder, "model");
    await Deno.mkdir(model);
    for (const name of ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
      await Deno.copyFile(`${GOLDEN}/untied/${name}`, join(model, name));
    }
    const config = JSON.parse(await Deno.readTextFile(`${GOLDEN}/untied/config.json`));
    await Deno.writeTextFile(
      join(model, "config.json"),
      JSON.stringify({ ...config, num_hidden_layers: 4 }),
    );
    const keys = [
      ...[`--model_name_or_path=${model}`, "--from_scratch", "--max_steps=2", "--save_steps=2"],
      ...["--per_device_train_batch_size=1", "--gradient_accumulation_steps=4"],
      ...["--gradient_checkpointing"],
    ];
    const at = (name: string) => join(folder, name);
    const [whole] = await trainAs(1, at("whole"), keys);
    const [stages] = await trainAs(4, at("stages"), [...keys, "--pipeline_parallel_size=4"]);
    assert.deepEqual(figuresOf(stages), figuresOf(whole));
    await assertSameFiles(at("stages"), at("whole"), CHECKPOINT);
  }));

Deno.test("two pipelines of two stages, and of their reference, leave the bytes of two ranks", () =>
  withTemporaryFolder(async (folder) => {
    const keys = [
      "--max_steps=2",
      "--save_steps=2",
      "--from_scratch",
      "--zero_stage=1",
      "--gradient_checkpointing",
      "--loss_type=sigmoid",
      // So that the second run computes its reference's sums too.
      "--overwrite_cache",
    ];
    const at = (name: string) => join(folder, name);
    const [ranks] = await trainAs(2, at("ranks"), keys);
    const [pipelines] = await trainAs(4, at("pipelines"), [...keys, STAGES]);
    assert.deepEqual(figuresOf(pipelines), figuresOf(ranks));
    await assertSameFiles(at("pipelines"), at("ranks"), CHECKPOINT);
  }));

Deno.test("with a tied table, of bfloat16 files, two stages have PyTorch's log and the same bytes twice", () =>
  withTemporaryFolder(async (folder) => {
    const model = "tied-llama3-bf16-sharded";
    const keys = [`--model_name_or_path=${GOLDEN}/${model}`, STAGES, "--max_steps=-1", "--save_strategy=no"];
    const at = (name: string) => join(folder, name);
    const [first] = await trainAs(2, at("first"), keys);
    await trainAs(2, at("second"), keys);
    await assertSameFiles(at("second"), at("first"), ["model.safetensors"]);
    const { log } = await readGolden(model);
    for (const key of Object.keys(log[0])) {
      const [found, expected] = [first.history, log].map((log) => log.map((entry) => entry[key] as number));
      const difference = relativeDifference(found, expected);
      assert.ok(difference < 1e-4, `${key}: ${difference}`);
    }
  }));

Deno.test("the first bad tensor of a pipeline is told by all its stages with the rank that has it: that of one process", () =>
  withTemporaryFolder(async (folder) => {
    const [embedding, first, last, head] = [
      "model.embed_tokens.weight",
      "model.layers.0.mlp.down_proj.weight",
      "model.layers.1.mlp.down_proj.weight",
      "lm_head.weight",
    ];
    const huge = async (name: string, value: number) => {
      const model = join(folder, `${name}-${value}`);
      await Deno.mkdir(model);
      return await modelWith(model, (tensor) => {
        if (tensor.name === name) tensor.values.fill(value);
      });
    };
    const told = async (size: number, model: string, ...keys: string[]) => {
      const words = [
        "--share_gpu",
        "--max_steps=3",
        `--pipeline_parallel_size=${Math.min(size, 2)}`,
        ...keys,
      ];
      const all = await asRanks(size, (communicator) =>
        refusal(
          run(join(folder, "out"), [`--model_name_or_path=${model}`, "--overwrite_output_dir", ...words], {
            communicator,
          }),
          1,
        ));
      assert.equal(new Set(all).size, 1, all.join("\n"));
      return all[0];
    };
    for (
      const [name, value, rank] of [[embedding, Infinity, 0], [first, 3e38, 0], [last, 3e38, 1], [
        head,
        NaN,
        1,
      ]] as const
    ) {
      const model = await huge(name, value);
      const alone = await told(1, model);
      assert.match(alone, /The first bad tensor is /);
      const staged = await told(2, model);
      assert.ok(staged.includes(`, on rank ${rank}.`), staged);
      assert.equal(staged.replace(`, on rank ${rank}.`, "."), alone, name);
    }
    // Every loss is finite: it comes up on the way back.
    const keys = ["--learning_rate=1e30", "--warmup_ratio=0"];
    const [alone, staged] = [
      await told(1, `${GOLDEN}/untied`, ...keys),
      await told(2, `${GOLDEN}/untied`, ...keys),
    ];
    assert.match(
      staged,
      /^step 2: the gradient of model.embed_tokens.weight is not finite, .* first bad tensor is /,
    );
    assert.equal(staged.replace(/, on rank [01]\./, "."), alone);
  }));

Deno.test("more stages than layers, and ranks that are none of a pipeline, are refused", () =>
  withTemporaryFolder(async (folder) => {
    const refused = (size: number, stages: number) =>
      asRanks(
        size,
        (communicator) =>
          refusal(run(folder, ["--share_gpu", `--pipeline_parallel_size=${stages}`], { communicator })),
      );
    for (const message of await refused(3, 3)) {
      assert.equal(
        message,
        "pipeline_parallel_size: 3 stages, and the model has 2 layers: a stage has one or more",
      );
    }
    for (const message of await refused(3, 2)) {
      assert.match(message, /^pipeline_parallel_size: 2 stages want /);
    }
  }));
