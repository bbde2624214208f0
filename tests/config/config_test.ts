import assert from "node:assert/strict";
import { parseConfig } from "../../lib/config/parse.ts";
import { ignoredBecause, OTHER_NAMES, REFUSED } from "../../lib/config/other_keys.ts";
import { configReference } from "../../lib/config/reference.ts";
import { fieldOf, FIELDS, keyOf, KEYS } from "../../lib/config/schema.ts";
import { BASE, mistakes, parsed } from "../run_file.ts";

Deno.test("a run file with the required keys alone gets every default", () => {
  const { config, ignored } = parsed("");
  assert.deepEqual(ignored, []);
  assert.deepEqual(config, {
    modelNameOrPath: "model",
    fromScratch: false,
    chatTemplate: undefined,
    chatTemplateDate: undefined,
    datasetMixer: [{ path: "data/a.jsonl", share: 1 }],
    datasetSplits: ["train", "test"],
    datasetConfigs: undefined,
    columnMapping: undefined,
    autoInsertEmptySystemMsg: true,
    labelGenerationPrompt: true,
    maxLength: 512,
    maxPromptLength: 128,
    truncationMode: "keep_end",
    unfrozenParameters: undefined,
    usePeft: false,
    loraR: 16,
    loraAlpha: 32,
    loraDropout: 0.05,
    loraTargetModules: undefined,
    loraModulesToSave: undefined,
    useRslora: false,
    useDora: false,
    loraTaskType: "CAUSAL_LM",
    adapterNameOrPath: undefined,
    dtype: undefined,
    loadIn4bit: false,
    bnb4bitQuantType: "nf4",
    useBnbNestedQuant: false,
    loadIn8bit: false,
    lossType: "simper",
    lossWeights: undefined,
    beta: 0.1,
    simpoGamma: 0.5,
    gammaBetaRatio: undefined,
    cpoAlpha: undefined,
    alpha: 0,
    labelSmoothing: 0,
    discopopTau: 0.05,
    fDivergenceType: "reverse_kl",
    fAlphaDivergenceCoef: 0.5,
    ldAlpha: undefined,
    useWeighting: false,
    referenceFree: false,
    desirableWeight: 1,
    undesirableWeight: 1,
    chosenAnchor: 0,
    refaLambda: 0,
    optim: "adamw_torch",
    optimArgs: undefined,
    learningRate: 1e-6,
    lrSchedulerType: "cosine",
    warmupRatio: 0.1,
    warmupSteps: 0,
    weightDecay: 0,
    maxGradNorm: 1,
    adamBeta1: 0.9,
    adamBeta2: 0.999,
    adamEpsilon: 1e-8,
    numTrainEpochs: 1,
    maxSteps: -1,
    perDeviceTrainBatchSize: 2,
    perDeviceEvalBatchSize: 4,
    gradientAccumulationSteps: 1,
    numGpus: 1,
    gradientCheckpointing: false,
    activationDtype: "float32",
    trainSamplingStrategy: "random",
    seed: 42,
    doEval: false,
    evalStrategy: "no",
    evalSteps: 10,
    evalOnStart: false,
    precomputeRefBatchSize: undefined,
    prompts: [],
    outputDir: "trainer_output",
    overwriteOutputDir: false,
    resumeFromCheckpoint: undefined,
    saveStrategy: "steps",
    saveSteps: 500,
    saveTotalLimit: undefined,
    loadBestModelAtEnd: false,
    metricForBestModel: undefined,
    greaterIsBetter: undefined,
    overwriteCache: false,
    runName: undefined,
    loggingSteps: 10,
    loggingFirstStep: false,
    logLevel: "info",
    webgpuEngine: undefined,
    float32MatmulPrecision: "highest",
    gpuId: undefined,
    shareGpu: false,
    pipelineParallelSize: 1,
    zeroStage: 0,
    deviceMemory: undefined,
    modelRevision: undefined,
    refModel: undefined,
    reportTo: [],
    loggingDir: undefined,
    pushToHub: false,
    hubModelId: undefined,
    hubPrivateRepo: undefined,
    hubToken: undefined,
  });
});

Deno.test("the published Llama3-Base file runs unchanged, and says what it ignores", () => {
  const text = `
model_name_or_path: princeton-nlp/Llama-3-Base-8B-SFT
torch_dtype: null
attn_implementation: flash_attention_2
dataset_mixer:
  HuggingFaceH4/ultrafeedback_binarized: 1.0
dataset_splits:
- train_prefs
- test_prefs
preprocessing_num_workers: 12
bf16: true
beta: 2.0
gamma_beta_ratio: 0.5
do_eval: true
evaluation_strategy: steps
eval_steps: 400
gradient_accumulation_steps: 16
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: False
hub_model_id: simper-exps
learning_rate: 6.0e-7
log_level: info
logging_steps: 5
lr_scheduler_type: cosine
max_length: 2048
max_prompt_length: 1800
num_train_epochs: 1
optim: adamw_torch
output_dir: outputs/llama-3-8b-base-simper
run_name: llama-3-8b-base-simper
per_device_train_batch_size: 2
per_device_eval_batch_size: 4
push_to_hub: false
save_strategy: "steps"
save_steps: 1000000
report_to:
- wandb
save_total_limit: 20
seed: 42
warmup_ratio: 0.1
`;
  const { config, ignored } = parseConfig(text, "run.yaml");
  assert.deepEqual(config.datasetMixer, [{ path: "HuggingFaceH4/ultrafeedback_binarized", share: 1 }]);
  assert.deepEqual(config.datasetSplits, ["train_prefs", "test_prefs"]);
  assert.deepEqual([config.doEval, config.evalStrategy, config.evalSteps], [true, "steps", 400]);
  assert.deepEqual([config.saveStrategy, config.saveSteps, config.saveTotalLimit], ["steps", 1_000_000, 20]);
  assert.deepEqual([config.learningRate, config.maxLength, config.maxPromptLength], [6e-7, 2048, 1800]);
  assert.equal(config.gradientCheckpointing, true);
  assert.deepEqual(ignored.map((line) => line.split(":")[0]), [
    "attn_implementation",
    "preprocessing_num_workers",
    "bf16",
    "gradient_checkpointing_kwargs",
    "beta",
    "gamma_beta_ratio",
    "report_to",
    "hub_model_id",
  ]);
  assert.ok(ignored.some((line) => line.startsWith("beta: ignored: simper has no such parameter, which")));
  assert.equal(ignored.at(-1), "hub_model_id: ignored: push_to_hub is off");
  const pushing = parseConfig(text.replace("push_to_hub: false", "push_to_hub: true"), "run.yaml");
  assert.deepEqual([pushing.config.pushToHub, pushing.config.hubModelId], [true, "simper-exps"]);
  assert.ok(!pushing.ignored.some((line) => line.startsWith("hub_")));
});

Deno.test("all mistakes are reported at once, each with its line and column or its option", () => {
  const text = `model_name_or_path: 7
learning_rat: 1e-6
max_length: 64
warmup_ratio: 2
dataset_splits: train
loss_type: dpo
`;
  assert.deepEqual(mistakes(text, "--seed=1.5", "--max_stepz=3", "--do_eval=maybe", "stray"), [
    "stray: expected --key=value",
    "run.yaml:2:1: learning_rat: unknown key: did you mean learning_rate?",
    "--max_stepz: unknown key: did you mean max_steps?",
    "run.yaml:1:21: model_name_or_path: expected text, found 7",
    "run.yaml: dataset_mixer: missing: expected a mapping of data paths to shares from 0 to 1, " +
    "such as {data/pairs.jsonl: 1.0}",
    'run.yaml:5:17: dataset_splits: expected a list of texts such as [train, test], found "train"',
    `run.yaml:6:12: loss_type: expected ${KEYS.lossType.type.expected}, found "dpo": did you mean sigmoid?`,
    "run.yaml:4:15: warmup_ratio: expected a number from 0 to 1, found 2",
    "--seed: expected an integer from 0 to 4294967295, found 1.5",
    '--do_eval: expected true or false, found "maybe"',
    "run.yaml:3:13: max_length: expected max_prompt_length (128) to be below max_length (64): " +
    "a truncated pair would have no response left",
  ]);
});

Deno.test("a key's name in other trainers is answered with its name here, in a file and on the command line", () => {
  for (
    const [name, key] of [
      ["lr", "learning_rate"],
      ["batch_size", "per_device_train_batch_size"],
      ["micro-batch-size", "per_device_train_batch_size"],
      ["epochs", "num_train_epochs"],
      ["num_epochs", "num_train_epochs"],
      ["iters", "max_steps"],
      ["sequence_len", "max_length"],
      ["base_model", "model_name_or_path"],
      ["optimizer.lr", "learning_rate"],
      ["resume", "resume_from_checkpoint"],
    ]
  ) {
    const says = `unknown key: did you mean ${key}?`;
    assert.deepEqual(mistakes(`${BASE}${name}: 1\n`), [`run.yaml:3:1: ${name}: ${says}`]);
    assert.deepEqual(mistakes(BASE, `--${name}=1`), [`--${name}: ${says}`]);
  }
  for (const [key, names] of Object.entries(OTHER_NAMES)) {
    assert.ok(fieldOf(key), key);
    for (const name of names) {
      assert.ok(!fieldOf(name) && ignoredBecause(name) === undefined && !Object.hasOwn(REFUSED, name), name);
    }
  }
});

Deno.test("a number may be written as YAML 1.1 reads it, as text", () => {
  const { config } = parsed('learning_rate: "1e-6"\nadam_epsilon: 1e-8\nmax_steps: "12"\n');
  assert.deepEqual([config.learningRate, config.adamEpsilon, config.maxSteps], [1e-6, 1e-8, 12]);
  assert.match(
    mistakes(BASE + "learning_rate: fast")[0],
    /^run.yaml:3:16: .* a number, 0 or from 1.2e-38 to 3.4e38 .*, found "fast"$/,
  );
  assert.match(mistakes(BASE + "learning_rate: .nan")[0], /expected a number/);
  assert.match(mistakes(BASE + "learning_rate:")[0], /^run.yaml:3:\d+: learning_rate: .*, found nothing$/);
});

Deno.test("a true or false key takes YAML 1.1's words, in the file and on the command line", () => {
  for (const word of ["true", "True", "yes", "ON"]) {
    assert.equal(parsed(`do_eval: ${word}\n`).config.doEval, true, word);
    assert.equal(parsed("", `--do_eval=${word}`).config.doEval, true, word);
  }
  assert.equal(parsed("auto_insert_empty_system_msg: no\n").config.autoInsertEmptySystemMsg, false);
  assert.equal(parsed("", "--auto_insert_empty_system_msg", "False").config.autoInsertEmptySystemMsg, false);
  assert.equal(mistakes(BASE + "do_eval: 2").length, 1);
});

Deno.test("the mixer keeps the order of the file and refuses shares outside 0 to 1", () => {
  const file = (mixer: string) => `model_name_or_path: m\ndataset_mixer: ${mixer}\n`;
  const { config } = parseConfig(file('{b: 1, "2": 0.5, "1": 1, __proto__: 0.1}'), "run.yaml");
  assert.deepEqual(config.datasetMixer.map(({ path }) => path), ["b", "2", "1", "__proto__"]);
  for (const mixer of ["{a: 1.5}", "{a: -0.1}", "{a: all}", "{}", "[a]", "a", "{a: {b: 1}}"]) {
    assert.match(
      mistakes(file(mixer))[0],
      /^run.yaml:2:16: dataset_mixer: expected a mapping of data paths/,
      mixer,
    );
  }
  assert.match(mistakes(file("{a: 1.5}"))[0], /found the mapping \{a: 1.5\}$/);
  assert.match(mistakes(file("{a: 0}"))[0], /expected a share above 0/);
});

Deno.test("keys that contradict each other are refused", () => {
  const one = (lines: string) => {
    const [line, ...others] = mistakes(BASE + lines);
    assert.deepEqual(others, []);
    return line;
  };
  assert.match(one("max_length: 256\nmax_prompt_length: 256"), /^run.yaml:4:20: .* below max_length \(256\)/);
  assert.match(one("num_train_epochs: 0"), /expected max_steps or num_train_epochs above 0, found -1 and 0/);
  assert.match(one("do_eval: true\ndataset_splits: [train]"), /:4:17: .*"test" in its name, as do_eval asks/);
  assert.match(one("eval_on_start: true\ndataset_splits: [train]"), /as eval_on_start asks/);
  assert.match(one("eval_strategy: epoch\ndataset_splits: [train]"), /as eval_strategy asks/);
  assert.match(one("dataset_splits: [test]"), /a split with "train"/);
  assert.match(one("dataset_splits: [train, dev]"), /contain "train" or "test", found "dev"/);
  assert.match(
    one("eval_strategy: no\nevaluation_strategy: steps"),
    /the same as eval_strategy, given above/,
  );
  assert.match(
    one("loss_type: kto\ntrain_sampling_strategy: random"),
    /expected sequential with loss_type: kto/,
  );
  assert.equal(parsed("loss_type: kto\n").config.trainSamplingStrategy, "sequential");
  assert.match(one("loss_type: SimPO"), /did you mean simpo\?/);
  assert.match(one("loss_type: kto_pair"), /did you mean kto\?/);
  assert.match(one("loss_type: [sft, sft]"), /"sft" is there twice/);
  assert.match(one("rpo_alpha: 1"), /loss_type: \[sigmoid, sft\]/);
  assert.match(one("train_sampling_strategy: group_by_length"), /group_by_length is not supported/);
  assert.match(one("group_by_length: true"), /not supported/);
  assert.match(
    one("optim: sgd"),
    /expected adamw_torch or adamw_anyprecision or adamw_bf16 or adamw_8bit or .* \(transformers' other optimizers are not here\), found "sgd"/,
  );
});

Deno.test("the names of 8-bit AdamW, and of paged optimizers, are one optimizer here", () => {
  for (const name of ["adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "adamw_torch_8bit"]) {
    assert.equal(parsed(`optim: ${name}`).config.optim, "adamw_8bit");
  }
  for (const name of ["lion_8bit", "lion_32bit"]) {
    assert.equal(parsed(`optim: paged_${name}`).config.optim, name);
    assert.deepEqual(parsed(`optim: ${name}\nadam_epsilon: 1e-6`).ignored, [
      `adam_epsilon: ignored: ${name} has none`,
    ]);
  }
});

Deno.test("optim_args are those of the optimizer, by its names in transformers, and nothing else", () => {
  const any = "optim: adamw_anyprecision\n";
  const args = "momentum_dtype=bfloat16, variance_dtype=float32";
  assert.equal(parsed(`${any}optim_args: ${args}`).config.optimArgs, args);
  assert.deepEqual(parsed(`optim_args: ${args}`).ignored, ["optim_args: ignored: optim is adamw_torch"]);
  for (const wrong of ["momentum_dtype=float16", "momentum_dtype", "beta1=0.9", "use_kahan_summation=True"]) {
    const [message] = mistakes(`${BASE}${any}optim_args: ${wrong}`);
    assert.match(message, /expected momentum_dtype=TYPE,variance_dtype=TYPE with float32 or bfloat16/, wrong);
  }
  const round = "optim_args: bf16_stochastic_round=True";
  assert.equal(parsed(`optim: adamw_8bit\n${round}`).config.optimArgs, "bf16_stochastic_round=True");
  assert.equal(parsed(`optim: lion_32bit\n${round}`).config.optimArgs, "bf16_stochastic_round=True");
  assert.deepEqual(parsed(`optim: adamw_bf16\n${round}`).ignored, [
    "optim_args: ignored: optim is adamw_bf16",
  ]);
  const [other] = mistakes(`${BASE}optim: adamw_8bit\noptim_args: ${args}`);
  assert.match(
    other,
    /:\d+:\d+: optim_args: expected bf16_stochastic_round=True or False with adamw_8bit, found "momentum/,
  );
  assert.match(
    mistakes(`${BASE}${any}${round}`)[0],
    /expected momentum_dtype=TYPE.* with adamw_anyprecision, found/,
  );
});

Deno.test("evaluation and warm-up follow transformers where keys overlap", () => {
  const evaluation = (lines: string) => {
    const { doEval, evalStrategy, evalSteps } = parsed(lines).config;
    return [doEval, evalStrategy, evalSteps];
  };
  assert.deepEqual(evaluation("eval_strategy: steps\nlogging_steps: 7"), [true, "steps", 7]);
  assert.deepEqual(evaluation("do_eval: true\neval_steps: 4"), [true, "steps", 4]);
  assert.deepEqual(evaluation("do_eval: true"), [true, "no", 10]);
  assert.deepEqual(evaluation("eval_on_start: true"), [true, "no", 10]);
  assert.deepEqual(parsed("eval_steps: 4").ignored, ["eval_steps: ignored: eval_strategy is no"]);
  assert.deepEqual(parsed("eval_steps: null").ignored, []);
  assert.deepEqual(parsed("warmup_ratio: 0.2\nwarmup_steps: 5").ignored, [
    "warmup_ratio: ignored: warmup_steps is above 0 and wins",
  ]);
  assert.equal(parsed("warmup_steps: 0.25").config.warmupSteps, 0.25);
  assert.equal(mistakes(BASE + "warmup_steps: 1.5").length, 1);
});

Deno.test("device memory is read in bytes, powers of 1000 and of 1024", () => {
  const bytes = (text: string) => parsed(`device_memory: ${text}`).config.deviceMemory;
  assert.deepEqual(["141GB", "80 GiB", "1.5kb", 4096, "123456"].map((text) => bytes(`${text}`)), [
    141e9,
    80 * 2 ** 30,
    1500,
    4096,
    123456,
  ]);
  for (const text of ["0", "-1", "lots", "5 parsecs"]) {
    assert.equal(mistakes(BASE + `device_memory: ${text}`).length, 1);
  }
});

Deno.test("reporting to nobody is not mentioned, other ignored keys are, with families by their beginning", () => {
  assert.deepEqual(parsed("report_to: none\n").ignored, []);
  assert.deepEqual(parsed("report_to: [none]\n").ignored, []);
  assert.equal(parsed("dataloader_num_workers: 4\nddp_timeout: 3\n").ignored.length, 2);
  assert.equal(parsed("push_to_hub: False\nuse_peft: no\n").ignored.length, 0);
  assert.equal(mistakes(BASE, "--auto_find_batch_size").length, 1);
});

Deno.test("every default is a value that its own key accepts", () => {
  for (const field of FIELDS) {
    const { default: value, type } = KEYS[field];
    if (value === undefined || field === "datasetMixer") continue;
    assert.deepEqual(type.read(value), value, keyOf(field));
  }
});

Deno.test("the reference lists every key with its default", () => {
  const reference = configReference();
  for (const field of FIELDS) assert.match(reference, new RegExp(`^- \`${keyOf(field)}\`:`, "m"));
  assert.match(
    reference,
    /^- `eval_strategy`: [^(]* \(no or steps or epoch; also `evaluation_strategy`; may\s+change\)$/m,
  );
  assert.match(reference, /^- `max_length`: .* \(an integer from 2 to 1048576; default `512`\)$/m);
  assert.match(reference, /^- `orpo`, \[ORPO\]\(https:.*\): reads `beta`$/m);
});

Deno.test("numbers that float32 does not hold are refused, all at once", () => {
  const said = mistakes(
    `${BASE}learning_rate: 1e-60\nweight_decay: 1e39\nmax_grad_norm: 1e39\nadam_epsilon: 1e-50\nadam_beta1: 1\n`,
  );
  assert.deepEqual(said, [
    "run.yaml:3:16: learning_rate: expected a number, 0 or from 1.2e-38 to 3.4e38 (arithmetic is float32), found 1e-60",
    "run.yaml:4:15: weight_decay: expected a number, 0 or from 1.2e-38 to 3.4e38 (arithmetic is float32), found 1e+39",
    "run.yaml:5:16: max_grad_norm: expected a number, 0 or from 1.2e-38 to 3.4e38 (arithmetic is float32), found 1e+39",
    "run.yaml:7:13: adam_beta1: expected a number from 0 to below 1, found 1",
    "run.yaml:6:15: adam_epsilon: expected a number from 1.2e-38 to 3.4e38 (arithmetic is float32), found 1e-50",
  ]);
  // A weight whose gradient is 0 would become 0/0, in PyTorch too.
  assert.match(mistakes(`${BASE}adam_epsilon: 0`)[0], /adam_epsilon: expected a number from 1\.2e-38/);
  const { config } = parsed("learning_rate: 0\nmax_grad_norm: 0\nadam_epsilon: 1.2e-38\n");
  assert.deepEqual([config.learningRate, config.maxGradNorm], [0, 0]);
  for (const value of [config.adamEpsilon, 3.4e38]) {
    assert.ok(Number.isFinite(Math.fround(value)) && Math.fround(value) > 0);
  }
});

Deno.test("a weight decay that float32 loses is named", () => {
  const lost =
    "weight_decay: ignored: learning_rate x weight_decay is 1e-8, which float32 cannot take from 1";
  assert.deepEqual(parsed("learning_rate: 1e-6\nweight_decay: 0.01\n").ignored, [lost]);
  assert.deepEqual(parsed("learning_rate: 1e-5\nweight_decay: 0.01\n").ignored, []);
});

Deno.test("a token is not shown, whatever is wrong with it or wherever it stands", () => {
  const token = "hf_secretSecretSecret";
  const texts: [lines: string, ...overrides: string[]][] = [
    [`hub_token: [${token}]`],
    [`hub_token: {token: ${token}}`],
    ["hub_token: 123456789"],
    [`hub_tokens: ${token}`],
    [`push_to_hub: ${token}`],
    [`hub_revision: ${token}`],
    [`dataset_mixture: {datasets: [{path: a, token: ${token}}]}`],
    [`dataset_mixture: {datasets: [{id: a, token: ${token}, weight: ${token}}]}`],
    [`dataset_mixture: {token: ${token}}`],
    [`? {token: ${token}}\n: 1`],
    [`hub_token: *${token}`],
    [`hub_token: !${token} x\nseed: [`],
    ["", `--hub_private_repo=${token}`],
    ["", `--seed=${token}`],
    ["", `--dataset_mixer.a=${token}`],
    ["", token],
  ];
  for (const [lines, ...overrides] of texts) {
    const said = mistakes(
      BASE.replace(/dataset_mixer.*\n/, lines.includes("mixture") ? "" : "$&") + lines,
      ...overrides,
    );
    assert.doesNotMatch(said.join("\n"), /secretSecret|123456789/, lines);
  }
  assert.match(
    mistakes(`${BASE}hub_token: [1]`)[0],
    /hub_token: expected text, found another value, which is not shown$/,
  );
});

Deno.test("the best model is the one of least loss, and of most of all else", () => {
  assert.equal(parsed("").config.greaterIsBetter, undefined);
  const best = (lines: string) => {
    const { metricForBestModel, greaterIsBetter } =
      parsed(`eval_strategy: steps\nsave_strategy: steps\n${lines}`).config;
    return [metricForBestModel, greaterIsBetter];
  };
  assert.deepEqual(best("load_best_model_at_end: true\neval_steps: 500\n"), ["loss", false]);
  assert.deepEqual(best("metric_for_best_model: eval_loss\n"), ["loss", false]);
  assert.deepEqual(best("metric_for_best_model: rewards/margins\n"), ["rewards/margins", true]);
  assert.deepEqual(best("metric_for_best_model: loss\ngreater_is_better: true\n"), ["loss", true]);
});

Deno.test("prompts want all of the model on one rank, and gradients in parts a whole model", () => {
  assert.match(
    mistakes(`${BASE}prompts: [Hi?]\npipeline_parallel_size: 2`)[0],
    /prompts: .*expected none with pipeline_parallel_size: 2, found 1: no rank has all of the model .*: --prompts=\[\], and/s,
  );
  assert.match(
    mistakes(BASE, "--prompts=")[0],
    /^--prompts: expected a list .*, or \[\] for none, found nothing$/,
  );
  assert.match(
    mistakes(`${BASE}zero_stage: 2\npipeline_parallel_size: 2`)[0],
    /zero_stage: .*expected at most 1 with pipeline_parallel_size: 2, found 2: .*; zero_stage: 1 leaves/s,
  );
});
