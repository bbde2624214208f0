/** The four setups of the paper: the run files in configs/, and what the newer forms of their keys give. */
import assert from "node:assert/strict";
import { basename } from "node:path";
import { parse } from "npm:yaml@^2.9.1";
import { parseConfig, readConfig } from "../../lib/config/parse.ts";
import { REFUSED } from "../../lib/config/other_keys.ts";
import { fieldOf, keyOf } from "../../lib/config/schema.ts";
import { UserError } from "../../lib/errors.ts";
import { mistakes, parsed } from "../run_file.ts";

/** The keys that the published files share. */
const PUBLISHED = [
  ..."model_name_or_path torch_dtype attn_implementation dataset_mixer dataset_splits".split(" "),
  ..."preprocessing_num_workers bf16 beta gamma_beta_ratio do_eval evaluation_strategy eval_steps".split(" "),
  ..."gradient_accumulation_steps gradient_checkpointing gradient_checkpointing_kwargs hub_model_id".split(
    " ",
  ),
  ..."learning_rate log_level logging_steps lr_scheduler_type max_length max_prompt_length".split(" "),
  ..."num_train_epochs optim output_dir run_name per_device_train_batch_size".split(" "),
  ..."per_device_eval_batch_size push_to_hub save_strategy save_steps report_to save_total_limit".split(" "),
  ..."seed warmup_ratio".split(" "),
];

const ULTRAFEEDBACK = "HuggingFaceH4/ultrafeedback_binarized";
/** What differs between the setups: the paper's table. */
const SETUPS = {
  "mistral-7b-base": {
    modelNameOrPath: "alignment-handbook/zephyr-7b-sft-full",
    datasetMixer: [{ path: ULTRAFEEDBACK, share: 1 }],
    datasetSplits: ["train_prefs", "test_prefs"],
    learningRate: 3e-7,
    maxLength: 1024,
    maxPromptLength: 512,
  },
  "mistral-7b-instruct": {
    modelNameOrPath: "mistralai/Mistral-7B-Instruct-v0.2",
    datasetMixer: [{ path: "princeton-nlp/mistral-instruct-ultrafeedback", share: 1 }],
    datasetSplits: ["train", "test"],
    learningRate: 5e-7,
    maxLength: 2048,
    maxPromptLength: 1800,
  },
  "llama-3-8b-base": {
    modelNameOrPath: "princeton-nlp/Llama-3-Base-8B-SFT",
    datasetMixer: [{ path: ULTRAFEEDBACK, share: 1 }],
    datasetSplits: ["train_prefs", "test_prefs"],
    learningRate: 6e-7,
    maxLength: 2048,
    maxPromptLength: 1800,
  },
  "llama-3-8b-instruct": {
    modelNameOrPath: "meta-llama/Meta-Llama-3-8B-Instruct",
    datasetMixer: [{ path: "princeton-nlp/llama3-ultrafeedback", share: 1 }],
    datasetSplits: ["train", "test"],
    learningRate: 1e-6,
    maxLength: 2048,
    maxPromptLength: 1800,
  },
};

for (const [name, setup] of Object.entries(SETUPS)) {
  const file = `${name}-simper.yaml`;
  Deno.test(`${file} has the published keys and values, each followed or named with a reason`, async () => {
    const text = await Deno.readTextFile(`configs/${file}`);
    assert.ok(text.split("\n").length <= 60, "one screen");
    const written: Record<string, unknown> = parse(text);
    assert.equal(PUBLISHED.length, 35);
    assert.deepEqual(Object.keys(written).sort(), [...PUBLISHED, "num_gpus"].sort());

    const { config, ignored } = parseConfig(text, file);
    for (const [field, value] of Object.entries(setup)) {
      assert.deepEqual(config[field as keyof typeof setup], value, field);
    }
    const { perDeviceTrainBatchSize, gradientAccumulationSteps, numGpus } = config;
    assert.equal(perDeviceTrainBatchSize * gradientAccumulationSteps * numGpus, 128);
    assert.deepEqual(
      [config.lrSchedulerType, config.warmupRatio, config.numTrainEpochs, config.seed, config.maxGradNorm],
      ["cosine", 0.1, 1, 42, 1],
    );
    assert.deepEqual(
      [config.adamBeta1, config.adamBeta2, config.adamEpsilon, config.weightDecay, config.lossType],
      [0.9, 0.999, 1e-8, 0, "simper"],
    );
    assert.deepEqual([config.evalStrategy, config.evalSteps, config.gradientCheckpointing], [
      "steps",
      400,
      true,
    ]);

    const named = ignored.map((line) => line.split(":")[0]);
    for (const key of PUBLISHED) {
      const refused = !fieldOf(key) && Object.hasOwn(REFUSED, key);
      const asksForNothing = refused && REFUSED[key].allowed.includes(written[key]);
      const ways = [fieldOf(key) !== undefined, named.includes(key), asksForNothing].filter(Boolean);
      assert.ok(ways.length > 0, `${key} is neither followed nor named`);
    }
    for (const line of ignored) assert.match(line, /^\w+: ignored: .{10}/);
    for (const key of ["attn_implementation", "preprocessing_num_workers", "beta", "gamma_beta_ratio"]) {
      assert.ok(named.includes(key), key);
    }
  });
}

Deno.test("a run file's name is looked for in configs/ too, and a name that is nowhere gets the nearest", async () => {
  const { config } = await readConfig("llama-3-8b-base-simper.yaml", ["--learning_rate=2e-6"]);
  assert.equal(config.learningRate, 2e-6);
  assert.equal(basename(config.outputDir), "llama-3-8b-base-simper");
  await assert.rejects(readConfig("lama-3-8b-base-simper.yaml"), (error) => {
    assert.ok(error instanceof UserError && error.status === 2);
    assert.match(error.message, /neither here nor in configs\/; did you mean llama-3-8b-base-simper.yaml\?/);
    return true;
  });
  await assert.rejects(readConfig("nothing/of/this/kind"), /configs\/ has .*tiny.yaml/);
});

Deno.test("the command line overrides a share of the published mixer", async () => {
  const { config } = await readConfig("mistral-7b-base-simper.yaml", [
    `--dataset_mixer.${ULTRAFEEDBACK}=0.5`,
  ]);
  assert.deepEqual(config.datasetMixer, [{ path: ULTRAFEEDBACK, share: 0.5 }]);
});

Deno.test("world_size is num_gpus by another name", () => {
  assert.equal(parsed("world_size: 4").config.numGpus, 4);
  assert.equal(fieldOf("world_size"), fieldOf(keyOf("numGpus")));
  assert.match(
    mistakes("model_name_or_path: m\ndataset_mixer: {a: 1}\nnum_gpus: 0")[0],
    /num_gpus: expected an int/,
  );
});

const MIXTURE = `model_name_or_path: m
dataset_splits: [train, test_prefs]
dataset_mixture:
  datasets:
    - {id: data/a, split: train_prefs, weight: 0.5, columns: [prompt, chosen, rejected]}
    - {id: data/b, config: null, split: train_prefs}
  seed: 7
`;

Deno.test("the newer dataset_mixture is read as dataset_mixer and dataset_splits", () => {
  const { config, ignored } = parseConfig(MIXTURE, "run.yaml", ["--dataset_mixer.data/b=0.25"]);
  assert.deepEqual(config.datasetMixer, [{ path: "data/a", share: 0.5 }, { path: "data/b", share: 0.25 }]);
  assert.deepEqual(config.datasetSplits, ["train_prefs", "test_prefs"]);
  assert.deepEqual(ignored, ["dataset_mixture.seed: ignored: seed shuffles the pairs"]);
});

Deno.test("what a dataset_mixture asks for and cannot get is refused, all of it at once", () => {
  assert.deepEqual(
    mistakes(`model_name_or_path: m
dataset_mixer: {a: 1}
dataset_configs: [en]
dataset_mixture:
  datasets:
    - {id: a, config: [en], weight: 2, split: train}
    - {id: a, columns: {chosen: good}, wieght: 1, split: train_sft}
    - 7
  test_split_size: 100
`),
    [
      "run.yaml:5:3: dataset_mixture: the same as dataset_mixer: keep one",
      "run.yaml:5:3: dataset_mixture.test_split_size: parting off a test split is not available: " +
      "give one in dataset_splits",
      'run.yaml:5:3: dataset_mixture.datasets[0].config: expected text, found ["en"]',
      "run.yaml:5:3: dataset_mixture.datasets[0].weight: expected a number from 0 to 1, found 2",
      'run.yaml:5:3: dataset_mixture.datasets[1]: unknown key "wieght": did you mean weight?',
      'run.yaml:5:3: dataset_mixture.datasets[1].id: "a" is given twice; several splits of one set are not available',
      "run.yaml:5:3: dataset_mixture.datasets[1].columns: expected a list with chosen and rejected in it " +
      '(column_mapping renames), found the mapping {chosen: "good"}',
      "run.yaml:5:3: dataset_mixture.datasets[2]: expected a mapping with an id, found 7",
      'run.yaml:5:3: dataset_mixture: expected one split of all sets, found "train", "train_sft"',
      "run.yaml:5:3: dataset_mixture: names configurations itself: remove dataset_configs",
    ],
  );
  for (const value of ["7", "{}", "{datasets: []}", "[a]"]) {
    const [first] = mistakes(`model_name_or_path: m\ndataset_mixture: ${value}\n`);
    assert.match(first, /^run.yaml:2:18: dataset_mixture: expected a mapping such as/, value);
  }
});
