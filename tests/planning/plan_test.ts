/** `deno task plan`: its figures are those of the run, and of the published models. */
import assert from "node:assert/strict";
import { smolLM2 } from "../../bench/models.ts";
import { parseConfig } from "../../lib/config/parse.ts";
import type { TrainConfig } from "../../lib/config/schema.ts";
import {
  estimatedAlternatives,
  longestPair,
  planAnyway,
  stepCost,
  worstCase,
} from "../../lib/planning/estimate.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { kernelsOf } from "../../lib/gpu/program.ts";
import { usualTiles } from "../../lib/gpu/tuning.ts";
import { adviceFor, alternatives, lastAlternative, withBatchesOf } from "../../lib/planning/advice.ts";
import { bytesOfParameters, bytesOfRun, capacityOf, planRun } from "../../lib/planning/plan.ts";
import { planReport } from "../../lib/report/plan_report.ts";
import { task } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { parsed } from "../run_file.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const LARGEST = 2 ** 31 - 1;
const ADAPTER = { largestBuffer: LARGEST };

async function setup(name: string, model: string, ...overrides: string[]) {
  const file = `configs/${name}-simper.yaml`;
  const { config } = parseConfig(await Deno.readTextFile(file), file, overrides);
  const shape = await readModelConfig(`tests/golden/configs/${model}`);
  const workloadOf = (changed: TrainConfig) => worstCase(shape, changed);
  return { config, workloadOf, ...planAnyway(workloadOf(config), config, ADAPTER) };
}

/** Rows of the printed table, in bytes. */
const bytesIn = (text: string) =>
  Object.fromEntries(
    [...text.matchAll(/^(\w+) +[\d.]+ [kMGT]?B {2}(\d+)$/gm)].map(([, name, n]) => [name, Number(n)]),
  );

Deno.test("the plan of a run is what the run then allocates, to the byte", () =>
  withTemporaryFolder(async (folder) => {
    const changes = [
      [],
      ["--gradient_checkpointing", "--num_gpus=2", "--max_length=64"],
      [
        ...["--max_grad_norm=0", "--gradient_accumulation_steps=1"],
        ...["--optim=adamw_8bit", "--optim_args=bf16_stochastic_round=True"],
      ],
    ];
    for (const change of changes) {
      const planned = await task("plan", `${GOLDEN}/run.yaml`, "--data", ...change);
      assert.equal(planned.status, 0, planned.stderr);
      const args = [`--output_dir=${folder}`, "--overwrite_output_dir", "--log_level=debug", ...change];
      const trained = await task("train", `${GOLDEN}/run.yaml`, ...args);
      assert.equal(trained.status, 0, trained.stderr);
      const expected = bytesIn(trained.stderr);
      assert.ok(expected.total > 0);
      assert.deepEqual(bytesIn(planned.stdout), expected);
      const [, allocated] = /allocated (\d+) bytes/.exec(trained.stderr)!;
      assert.equal(Number(allocated), expected.total);

      const state = JSON.parse(await Deno.readTextFile(`${folder}/trainer_state.json`));
      const [, steps] = /^steps +([\d,]+)$/m.exec(planned.stdout)!;
      assert.equal(Number(steps), state.global_step);
      const [, flops] = /([\d.e+]+) in all$/m.exec(planned.stdout)!;
      // Four digits are printed.
      assert.ok(Math.abs(Number(flops) / state.total_flos - 1) < 1e-3, `${flops} and ${state.total_flos}`);
    }
  }));

Deno.test("without data a plan is never smaller than with them", async () => {
  const total = async (...args: string[]) =>
    bytesIn((await task("plan", `${GOLDEN}/run.yaml`, ...args)).stdout).total;
  assert.ok(await total() >= await total("--data"));
});

Deno.test("the four setups have the published models' parameters, and every tensor fits a binding", async () => {
  for (
    const [name, model, parameters] of [
      ["mistral-7b-base", "zephyr-7b-sft-full", 7_241_732_096],
      ["mistral-7b-instruct", "Mistral-7B-Instruct-v0.2", 7_241_732_096],
      ["llama-3-8b-base", "Llama-3-Base-8B-SFT", 8_030_261_248],
      ["llama-3-8b-instruct", "Meta-Llama-3-8B-Instruct", 8_030_261_248],
    ] as const
  ) {
    const { config, workloadOf, planned, tooLarge } = await setup(name, model);
    assert.equal(planned.decoder.parameters.count, parameters);
    assert.deepEqual(tooLarge, []);
    assert.equal(stepCost(workloadOf(config), config, [longestPair(config)]).pairs, 128);
  }
});

Deno.test("Llama 3 8B, every parameter trained, pairs of 2 x 2048 one at a time, fits one GPU of 141 GB", async () => {
  const one = ["--per_device_train_batch_size=1", "--per_device_eval_batch_size=1"];
  const { config, workloadOf, planned } = await setup("llama-3-8b-base", "Llama-3-Base-8B-SFT", ...one);
  const { plan, capacity } = planned.decoder;
  assert.deepEqual([capacity.tokens, capacity.labels, capacity.pairs], [2 * 2047, 2 * 2047, 1]);
  for (const [purpose, copies] of [["weights", 1], ["gradients", 1], ["moments", 2]] as const) {
    const bytes = copies * 4 * 8_030_261_248;
    assert.ok(plan.bytesOf(purpose) >= bytes && plan.bytesOf(purpose) < 1.001 * bytes, purpose);
  }
  assert.ok(plan.bytes < 132e9, `${plan.bytes}`);
  // Forward and backward take six operations a weight and token (the embedding is no product), attention 12 a
  // query-key pair of each head's dimension.
  const { tokens, flops, pairs } = stepCost(workloadOf(config), config, [longestPair(config)]);
  assert.equal(pairs, 64);
  const weights = 8_030_261_248 - 128256 * 4096 - 65 * 4096;
  const visible = pairs * 2 * 2047 * 2048 / 2;
  assert.ok(Math.abs(flops / (6 * weights * tokens + 12 * 32 * 4096 * visible) - 1) < 1e-9);
});

Deno.test("Llama 3 8B, every parameter trained as published, fits 4 GPUs of 80 GB where each keeps its part of the sums", async () => {
  const { config, workloadOf } = await setup("llama-3-8b-base", "Llama-3-Base-8B-SFT", "--zero_stage=2");
  const planned = planRun(workloadOf(config), config, ADAPTER, { rank: 1, size: 4 });
  const { decoder: { plan }, runner } = planned;
  for (const [purpose, copies] of [["gradients", 1], ["moments", 2]] as const) {
    const bytes = copies * 4 * 8_030_261_248 / 4;
    assert.ok(plan.bytesOf(purpose) >= bytes && plan.bytesOf(purpose) < 1.05 * bytes, purpose);
  }
  assert.ok(plan.bytes < 71e9, `${plan.bytes}`);
  // On the host: what is being sent and added up, of 16 MiB a piece, and the sums of its 16 passes a step.
  assert.equal(runner.hostBytes(1), 7 * 2 ** 24);
  assert.equal(runner.hostBytes(16), 7 * 2 ** 24 + 4 * 8_030_261_248);
});

Deno.test("Llama 3 8B, every parameter trained, fits four GPUs of 40 GB as four stages, which have it once", async () => {
  const keys = [
    "--pipeline_parallel_size=4",
    "--per_device_train_batch_size=1",
    "--per_device_eval_batch_size=1",
  ];
  const { config, workloadOf } = await setup("llama-3-8b-base", "Llama-3-Base-8B-SFT", ...keys);
  const workload = workloadOf(config);
  const plans = [0, 1, 2, 3].map((rank) => planRun(workload, config, ADAPTER, { rank, size: 4 }).decoder);
  for (const { plan } of plans) assert.ok(plan.bytes < 40e9, `${plan.bytes}`);
  assert.equal(plans.reduce((sum, { parameters }) => sum + parameters.trainedCount, 0), 8_030_261_248);
});

Deno.test("what ranks are advised to share is what they can: sums in no pipeline, and nothing in one alone", async () => {
  for (
    const [stages, size, advised] of [[1, 4, 2], [2, 4, 1], [2, 2, undefined], [1, 1, undefined]] as const
  ) {
    const file = "configs/tiny.yaml";
    const keys = ["--prompts=[]", "--do_eval=false", `--pipeline_parallel_size=${stages}`];
    const { config } = parseConfig(await Deno.readTextFile(file), file, keys);
    const shape = await readModelConfig(`${GOLDEN}/untied`);
    const workloadOf = (changed: TrainConfig) => worstCase(shape, changed);
    const found = alternatives(config, ADAPTER, 1e9, workloadOf, { rank: 0, size });
    assert.deepEqual(
      [...new Set(found.map(({ change }) => change.zeroStage))].filter((stage) => stage !== undefined),
      advised === undefined ? [] : [advised],
      `${size} ranks, ${stages} stages`,
    );
  }
});

Deno.test("on software tiles a plan of 8B is made of its products, not of their 200,000 blocks", async () => {
  const { config, workloadOf } = await setup("llama-3-8b-base", "Llama-3-Base-8B-SFT");
  const tiles = usualTiles("software");
  const { decoder } = planRun(workloadOf(config), config, { largestBuffer: 2 ** 27, tiles });
  const calls = [...decoder.forward, ...decoder.backward];
  assert.ok(kernelsOf(calls).length > 200_000);
  assert.ok(calls.length < 10_000, `${calls.length}`);
});

Deno.test("with max_grad_norm 0 and one batch a step, the same takes 12 bytes a parameter and one matrix' gradient", async () => {
  const keys = [
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "num_gpus",
  ];
  const one = keys.map((key) => `--${key}=1`);
  const { planned } = await setup("llama-3-8b-base", "Llama-3-Base-8B-SFT", ...one, "--max_grad_norm=0");
  const { plan } = planned.decoder;
  assert.ok(plan.bytesOf("gradients") < 1.001 * 4 * 128256 * 4096, `${plan.bytesOf("gradients")}`);
  assert.ok(plan.bytes < 12 * 8_030_261_248 + 6e9, `${plan.bytes}`);
});

Deno.test("what does not fit comes with the change that would make it fit, at the same numbers", async () => {
  const { config, workloadOf, planned } = await setup("llama-3-8b-base", "Llama-3-Base-8B-SFT");
  assert.ok(planned.decoder.plan.bytes > 141e9);
  const [change, ...others] = estimatedAlternatives(config, ADAPTER, 141e9, workloadOf, true);
  assert.deepEqual(others, []);
  assert.equal(
    change.keys,
    "per_device_train_batch_size: 1, gradient_accumulation_steps: 32, per_device_eval_batch_size: 1",
  );
  const changed = {
    ...config,
    perDeviceTrainBatchSize: 1,
    gradientAccumulationSteps: 32,
    perDeviceEvalBatchSize: 1,
  };
  assert.equal(change.bytes, planRun(workloadOf(changed), changed, ADAPTER).decoder.plan.bytes);
  assert.ok(change.bytes < 141e9);
  assert.deepEqual(
    stepCost(workloadOf(changed), changed, [longestPair(changed)]),
    stepCost(workloadOf(config), config, [longestPair(config)]),
  );

  const [, rounded, ...more] = estimatedAlternatives(config, ADAPTER, 131e9, workloadOf, true);
  assert.deepEqual(more, []);
  assert.ok(rounded.rounds && rounded.bytes < 99e9, `${rounded.bytes}`);
  assert.match(
    rounded.keys,
    /optim: adamw_anyprecision, optim_args: momentum_dtype=bfloat16,variance_dtype=bfloat16, activation_dtype: bfloat16$/,
  );

  const [, , inBytes, ...rest] = estimatedAlternatives(config, ADAPTER, 90e9, workloadOf, true);
  assert.deepEqual(rest, []);
  assert.ok(inBytes.rounds && inBytes.bytes < 70e9, `${inBytes.bytes}`);
  assert.match(
    inBytes.keys,
    /optim: adamw_8bit, optim_args: bf16_stochastic_round=True, activation_dtype: bfloat16$/,
  );

  // Lion remains Lion.
  const [, , least] = estimatedAlternatives(
    { ...config, optim: "lion_32bit" },
    ADAPTER,
    65e9,
    workloadOf,
    true,
  );
  assert.match(
    least.keys,
    /optim: lion_8bit, optim_args: bf16_stochastic_round=True, activation_dtype: bfloat16$/,
  );

  const shorter = estimatedAlternatives(config, ADAPTER, 66e9, workloadOf, true);
  assert.match(shorter.at(-2)!.keys, /max_length: \d+, max_prompt_length: \d+$/);
  assert.ok(shorter.at(-2)!.bytes <= 66e9 && shorter.at(-3)!.bytes > 66e9);

  // A loss of the whole micro-batch is another one in smaller ones.
  const ofBatch = { ...config, lossType: "aot" as const };
  const kept = estimatedAlternatives(ofBatch, ADAPTER, 24e9, workloadOf, true);
  assert.ok(kept.length > 0 && kept.every(({ change }) => !("perDeviceTrainBatchSize" in change)));

  // Where no way of training the weights fits, adapters over four bits do.
  const small = estimatedAlternatives(config, ADAPTER, 24e9, workloadOf, true);
  assert.deepEqual(small.map(({ bytes }) => bytes <= 24e9), [false, true]);
  assert.match(small[1].keys, /use_peft: true, lora_target_modules: all-linear, load_in_4bit: true$/);
  assert.match(
    adviceFor(small, config, 24e9, bytesOfParameters(planned)),
    new RegExp(
      "load_in_4bit: true: .* GB, fits, rounds what is stored, trains adapters in place of the weights\\n" +
        "  or other training of all weights, which takes less: optim: lion_8bit, or max_grad_norm: 0 with .*$",
    ),
  );
  assert.match(adviceFor(small, config, 4e9, bytesOfParameters(planned)), /only a smaller model fits/);
});

Deno.test("adapters over 16 bits that do not fit come with four bits, of data that were read too", async () => {
  const { config: simper, workloadOf } = await setup(
    "llama-3-8b-base",
    "Llama-3-Base-8B-SFT",
    ...["--use_peft", "--per_device_train_batch_size=1", "--gradient_checkpointing"],
    ...["--gradient_accumulation_steps=32", "--per_device_eval_batch_size=1", "--activation_dtype=bfloat16"],
  );
  const config = { ...simper, lossType: "sigmoid" as const };
  const planned = planRun(workloadOf(config), config, ADAPTER);
  const read = withBatchesOf(workloadOf(config), config);
  const [found] = lastAlternative(config, ADAPTER, read);
  assert.deepEqual([found.keys, found.adapts], ["load_in_4bit: true", false]);
  assert.ok(found.bytes < bytesOfRun(planned) - 8e9, `${found.bytes} of ${bytesOfRun(planned)}`);
  const changed = { ...config, loadIn4bit: true };
  assert.equal(found.bytes, bytesOfRun(planRun(workloadOf(changed), changed, ADAPTER)));
  assert.deepEqual(lastAlternative(changed, ADAPTER, read), []);
});

Deno.test("a workload without data bounds every pair: nothing shared, and evaluation too", async () => {
  const { config, workloadOf } = await setup("mistral-7b-base", "zephyr-7b-sft-full");
  const capacity = capacityOf(workloadOf(config), config, LARGEST);
  const tokens = 4 * 2 * 1023;
  assert.deepEqual([capacity.tokens, capacity.labels, capacity.pairs, capacity.positions], [
    tokens,
    tokens,
    4,
    1024,
  ]);
});

Deno.test("prompts have room for their answers, in tokens and in positions", async () => {
  const { config, workloadOf } = await setup("mistral-7b-base", "zephyr-7b-sft-full");
  const room = (length: number) => {
    const { tokens, positions } = capacityOf(
      { ...workloadOf(config), prompts: [{ ids: { length } }] },
      config,
      LARGEST,
    );
    return [tokens, positions];
  };
  // Of the data: 8,184 tokens, 1,024 positions.
  assert.deepEqual([10, 1000, 9000].map(room), [[8184, 1024], [8184, 1064], [9064, 9064]]);
});

const SHORT = ["--max_length=1024", "--max_prompt_length=900"];
for (
  const [optim, moments, length, most] of [
    ["adamw_8bit", 2, SHORT, 32 * 2 ** 30],
    ["lion_8bit", 1, [], 27e9],
  ] as const
) {
  Deno.test(`8 billion parameters are trained with weights in bfloat16 and ${optim} in ${most} bytes`, async () => {
    const { config, planned } = await setup(
      ...["llama-3-8b-base", "Llama-3-Base-8B-SFT"] as const,
      ...[`--optim=${optim}`, "--optim_args=bf16_stochastic_round=True", "--max_grad_norm=0"],
      ...["--per_device_train_batch_size=1", "--per_device_eval_batch_size=1"],
      ...["--gradient_accumulation_steps=1", "--num_gpus=1", "--activation_dtype=bfloat16", ...length],
    );
    const { plan, parameters } = planned.decoder;
    // A byte and 4/256 for each moment of a weight; norms and their moments are float32.
    const perWeight = { weights: 2, moments: moments * (1 + 4 / 256) };
    for (const [purpose, bytes] of Object.entries(perWeight)) {
      const found = plan.bytesOf(purpose as "weights" | "moments") / parameters.count;
      assert.ok(Math.abs(found / bytes - 1) < 1e-3, `${purpose}: ${found} bytes each`);
    }
    assert.equal(config.gradientCheckpointing, true);
    assert.ok(plan.bytes < most, `${plan.bytes}`);
  });
}

Deno.test("a piece of logits is a fortieth of the parameters' bytes, 16 each, 12 without gradients or with moments in bfloat16", () => {
  const model = smolLM2(30);
  const logitsBytes = (...overrides: string[]) => {
    const { config } = parsed("", ...overrides);
    return Math.round(capacityOf(worstCase(model, config), config, LARGEST).logitsBytes);
  };
  const bf16 = ["--optim=adamw_anyprecision", "--optim_args=momentum_dtype=bfloat16,variance_dtype=bfloat16"];
  const count = 134_515_008;
  assert.equal(logitsBytes(), Math.round(count * 16 / 40));
  assert.equal(logitsBytes("--max_grad_norm=0"), Math.round(count * 12 / 40));
  assert.equal(
    logitsBytes("--max_grad_norm=0", "--gradient_accumulation_steps=2"),
    Math.round(count * 16 / 40),
  );
  assert.equal(logitsBytes(...bf16), Math.round(count * 12 / 40));
  assert.equal(logitsBytes("--optim=adamw_8bit"), Math.round(count * 10 / 40));
  assert.equal(logitsBytes("--optim=lion_32bit"), Math.round(count * 12 / 40));
  // Within 32 and 128 MiB.
  assert.equal(logitsBytes("--max_grad_norm=0", ...bf16), 32 * 2 ** 20);
});

Deno.test("the command prints the table and whether the run fits, from config.json alone", async () => {
  const plan = (...args: string[]) =>
    task(
      "plan",
      "llama-3-8b-instruct-simper.yaml",
      "--model_name_or_path=tests/golden/configs/Meta-Llama-3-8B-Instruct",
      "--log_level=error",
      ...args,
    );
  const { status, stdout, stderr } = await plan("--device_memory=141GB", "--num_pairs=59876");
  assert.deepEqual([status, stderr], [1, ""]);
  assert.match(stdout, /8,030,261,248 parameters/);
  assert.match(stdout, /^effective batch 128 pairs = 2 .* x 16 .* x 4 \(num_gpus\)$/m);
  assert.match(stdout, /^steps +468$/m);
  assert.match(stdout, /^does not fit: 141\.4 GB of 141\.0 GB/m);
  assert.match(stdout, /per_device_train_batch_size: 1, .*131\.\d GB, fits/);

  const small = await plan("--device_memory=5GB");
  assert.match(
    small.stdout,
    /weights, gradients and moments alone take 5\.6 GB or more: only a smaller model fits/,
  );
  const tight = await plan("--device_memory=100GB");
  assert.match(tight.stdout, /activation_dtype: bfloat16: 9\d\.\d GB, fits, rounds what is stored/);
  assert.match(small.stdout, /^steps +not known/m);

  const software = await plan("--largest_buffer=128MiB");
  assert.match(
    software.stdout,
    /buffers of 134\.2 MB at most.*\n {2}model\.layers\.0\.mlp\.\{gate,up\}_proj: 1\.9 GB/,
  );
  assert.match(software.stdout, /does not tell how much memory it has/);
  assert.equal(software.status, 1);

  const roomy = await plan("--device_memory=1TB", "--max_steps=3");
  assert.match(roomy.stdout, /^steps +3$/m);
  assert.match(
    roomy.stdout,
    /^fits: .*\nbeside the device's bytes the process takes about \d+\.\d MB of the machine's memory$/m,
  );
  assert.equal(roomy.status, 0);
});

Deno.test("a reference takes its memory before that of training, and a forward pass of each pair", () => {
  const plan = (...overrides: string[]) => {
    const { config } = parsed("", ...overrides);
    const workloadOf = (changed: TrainConfig) => worstCase(smolLM2(2), changed, 100);
    const sample = [longestPair(config)];
    const found = planAnyway(workloadOf(config), config, ADAPTER);
    const report = planReport({
      ...{ config, workloadOf, sample, plan: found, measured: false, countKnown: true, adapter: ADAPTER },
      ...{ beside: 0, device: "a GPU", memory: 1e12 },
    });
    return { ...found.planned, text: report.text, cost: stepCost(workloadOf(config), config, sample) };
  };
  const [simper, dpo] = ["simper", "sigmoid"].map((loss) => plan(`--loss_type=${loss}`));
  assert.equal(simper.reference, undefined);
  assert.match(simper.text, /^loss +simper: SimPER, without a reference$/m);
  assert.match(dpo.text, /^loss +sigmoid: DPO, against the model that the run begins with$/m);
  assert.equal(bytesOfRun(dpo), bytesOfRun(simper));
  assert.match(
    dpo.text,
    /^reference +100 pairs once before the first step, at most [\d.]+e\+\d+ operations, 33 % of the steps'; [\d.]+ .B, given back before it$/m,
  );
  const { pairs, flops } = dpo.cost.reference!;
  assert.equal(pairs, 100);
  // Forward is a third of forward and backward.
  assert.ok(Math.abs(3 * flops / (dpo.cost.flops / dpo.cost.pairs) - 1) < 0.02);
  const large = plan("--loss_type=sigmoid", "--precompute_ref_batch_size=64");
  assert.equal(bytesOfRun(large), large.reference!.plan.bytes);
  assert.ok(bytesOfRun(large) > bytesOfRun(dpo));
});

Deno.test("a plan's own options are checked as keys are", async () => {
  for (
    const [argument, message] of [
      ["--num_pairs=none", /--num_pairs: expected an integer from 1 to 100000000, found "none"/],
      ["--largest_buffer", /--largest_buffer: expected BYTES/],
      ["--max_lenght=3", /unknown key: did you mean max_length\?/],
    ] as const
  ) {
    const { status, stdout, stderr } = await task("plan", `${GOLDEN}/run.yaml`, argument);
    assert.deepEqual([status, stdout], [2, ""]);
    assert.match(stderr, message);
  }
});
