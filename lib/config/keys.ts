import {
  adapterId,
  boolean,
  bytes,
  calendarDate,
  columns,
  evaluationMetric,
  float32,
  folderOrBoolean,
  integer,
  lossType,
  mixer,
  modulePatterns,
  number,
  numbers,
  oneOf,
  optimArgs,
  reporters,
  stepsOrFraction,
  text,
  texts,
} from "./values.ts";
import { F_DIVERGENCES, LOSS_DEFAULTS } from "../losses/definition.ts";
import type { Table } from "./key.ts";
import { MOST_EPOCHS, MOST_STEPS, MOST_TOKENS, pairs, positive, tokens } from "./counts.ts";

/**
 * Every key that a run follows, in the order of the reference; `TrainConfig` and all that is known of a key come from
 * here.
 */
export const TABLE: Table = {
  modelNameOrPath: {
    type: text,
    required: true,
    mayChange: true,
    doc: "Folder of the model to train, or its name on the Hub, `owner/name` or `owner/name@revision`.",
  },
  modelRevision: {
    type: text,
    mayChange: true,
    doc: "Branch, tag or commit of a model on the Hub; by default `main`.",
  },
  fromScratch: {
    type: boolean,
    default: false,
    doc: "Start from random weights (config.json's `initializer_range`) instead of the model's.",
  },
  chatTemplate: { type: text, mayChange: true, doc: "Jinja text in place of the tokenizer's chat template." },
  chatTemplateDate: {
    type: calendarDate,
    mayChange: true,
    doc: "The date that a chat template is told which asks for it (`strftime_now`); by default that of the " +
      "run's first start.",
  },
  datasetMixer: {
    type: mixer,
    required: true,
    mayChange: true,
    doc:
      "Data paths or names on the Hub with the share of each one's first rows to train on; test splits are used whole.",
  },
  datasetSplits: {
    type: texts("[train, test]"),
    default: ["train", "test"],
    mayChange: true,
    doc: "Splits to read: those with `train` in the name to train on, those with `test` to evaluate on.",
  },
  datasetConfigs: {
    type: texts("[default, en]"),
    mayChange: true,
    doc:
      "Configurations of the data sets' README.md, one for each in `dataset_mixer`; by default the default ones.",
  },
  columnMapping: {
    type: columns,
    doc:
      "Columns of the data under other names, in every set that has them, as `datasets`' `rename_columns`: " +
      "each has to be in some row.",
  },
  autoInsertEmptySystemMsg: {
    type: boolean,
    default: true,
    doc: "Begin with an empty system message where the template knows one and the pair has none.",
  },
  labelGenerationPrompt: {
    type: boolean,
    default: true,
    doc:
      "Train on the header that a template writes before a response (its generation prompt) too; `false`, as " +
      "in TRL: not.",
  },
  maxLength: { type: tokens(2), default: 512, doc: "Most tokens of prompt and response together." },
  maxPromptLength: {
    type: tokens(1),
    default: 128,
    doc: "Tokens that the prompt keeps where a pair is longer than `max_length`.",
  },
  truncationMode: {
    type: oneOf(["keep_end", "keep_start"]),
    default: "keep_end",
    doc: "Which end of a long prompt is kept.",
  },
  unfrozenParameters: {
    type: texts('["^lm_head.weight$", "model.layers.3[01]"]'),
    doc:
      "Regular expressions of the names of parameters to train, from a name's beginning on, with `.` for " +
      "itself, as in axolotl; all others stay as they are, and take neither gradients nor moments. By " +
      "default all are trained.",
  },
  dtype: {
    type: oneOf(["auto", "bfloat16", "float16", "float32"]),
    aliases: ["torch_dtype"],
    doc:
      "Type in which frozen matrices are stored: `auto` is the one that config.json names, or else the metadata " +
      "of the safetensors index, or else that of the files' first tensor; by default `auto` where they are " +
      "quantized or have adapters, otherwise " +
      "`float32`. Arithmetic is float32, and the result has the source's types.",
  },
  loadIn4bit: {
    type: boolean,
    default: false,
    doc:
      "Store the frozen matrices of linear layers but the head in 4 bits, quantized as bitsandbytes does it " +
      "in blocks of 64; the result has them as they were.",
  },
  bnb4bitQuantType: {
    type: oneOf(["nf4", "fp4"]),
    default: "nf4",
    doc: "What the 4 bits stand for; the default is TRL's, where bitsandbytes' own is `fp4`.",
  },
  useBnbNestedQuant: {
    type: boolean,
    default: false,
    aliases: ["bnb_4bit_use_double_quant"],
    doc: "Quantize the blocks' scales too, to 8 bits.",
  },
  loadIn8bit: {
    type: boolean,
    default: false,
    doc:
      "As `load_in_4bit`, in 8 bits with a scale for each row: LLM.int8()'s weights, without its rounding of " +
      "activations.",
  },
  lossType: {
    type: lossType,
    default: "simper",
    doc:
      "The loss, or a list of losses that are added up: see [the losses](#the-losses). Of the keys below, each " +
      "is an error under a loss that does not read it.",
  },
  lossWeights: {
    type: numbers("[0.8, 0.2]"),
    doc: "What each loss of a list is multiplied by; by default 1.",
  },
  beta: {
    type: float32({ orZero: false }),
    default: LOSS_DEFAULTS.beta,
    doc: "How strongly a loss holds to the reference or counts a difference; of `ipo` tau, of `orpo` lambda.",
  },
  simpoGamma: {
    type: float32({ orZero: true }),
    default: LOSS_DEFAULTS.simpoGamma,
    aliases: ["gamma"],
    doc: "SimPO's margin.",
  },
  gammaBetaRatio: {
    type: float32({ orZero: true }),
    doc: "The same over `beta`, as SimPO's own configurations have it.",
  },
  cpoAlpha: {
    type: float32({ orZero: true }),
    doc: "Weight of chosen's mean negative log-probability; by default 1 with `cpo` and `slic`, and 0 with " +
      "`simpo`, as in its paper (TRL has 1).",
  },
  alpha: {
    type: float32({ orZero: true, signed: true }),
    default: LOSS_DEFAULTS.alpha,
    doc: "AlphaPO's shape of the reward; 0: the log-probability itself.",
  },
  labelSmoothing: {
    type: number({ min: 0, below: 1 }),
    default: LOSS_DEFAULTS.labelSmoothing,
    doc: "The probability that chosen and rejected are the wrong way round; with `exo_pair` above 0.",
  },
  discopopTau: {
    type: float32({ orZero: false }),
    default: LOSS_DEFAULTS.discopopTau,
    doc: "DiscoPOP's temperature.",
  },
  fDivergenceType: {
    type: oneOf(F_DIVERGENCES),
    default: LOSS_DEFAULTS.fDivergenceType,
    doc: "By which divergence a loss holds to the reference (f-DPO).",
  },
  fAlphaDivergenceCoef: {
    type: float32({ orZero: true, signed: true }),
    default: LOSS_DEFAULTS.fAlphaDivergenceCoef,
    doc: "The alpha of `alpha_divergence`.",
  },
  ldAlpha: {
    type: number({ min: 0, max: 1 }),
    doc: "LD-DPO: by what log-probabilities count past the length of the shorter response; by default fully.",
  },
  useWeighting: {
    type: boolean,
    default: LOSS_DEFAULTS.useWeighting,
    doc: "WPO: a pair counts by how probable its responses are for the model itself.",
  },
  referenceFree: {
    type: boolean,
    default: LOSS_DEFAULTS.referenceFree,
    doc: "Take every response to be equally probable for the reference, and need none.",
  },
  desirableWeight: {
    type: float32({ orZero: true }),
    default: LOSS_DEFAULTS.desirableWeight,
    doc: "What KTO's loss of desirable responses is multiplied by.",
  },
  undesirableWeight: {
    type: float32({ orZero: true }),
    default: LOSS_DEFAULTS.undesirableWeight,
    doc: "Likewise of undesirable ones.",
  },
  chosenAnchor: {
    type: float32({ orZero: true }),
    default: LOSS_DEFAULTS.chosenAnchor,
    aliases: ["sft_weight"],
    doc: "With `simper`, weight of chosen's mean negative log-probability beside it, as RPO adds it to DPO " +
      "(arXiv 2404.19733).",
  },
  refaLambda: {
    type: float32({ orZero: true }),
    default: LOSS_DEFAULTS.refaLambda,
    doc:
      "With `simper`, weight of the probability of chosen's end token, so that it does not end sooner than " +
      "it should, after the abstract of REFA (arXiv 2412.16378): not compared with code of its authors.",
  },
  refModel: {
    type: text,
    aliases: ["ref_model_name_or_path"],
    mayChange: true,
    doc:
      "Folder of the model that the loss compares with, or its name on the Hub, where it is not the one to " +
      "train as the run begins; only for losses with a reference.",
  },
  precomputeRefBatchSize: {
    type: pairs,
    doc:
      "Pairs of one forward pass of the reference, whose log-probabilities are computed before the first " +
      "step, neighbours in the data; by default `per_device_train_batch_size`, in a run that ends within an " +
      "epoch only pairs that it draws, and of the test split `per_device_eval_batch_size`.",
  },
  optim: {
    type: oneOf(
      ["adamw_torch", "adamw_anyprecision", "adamw_bf16", "adamw_8bit", "lion_32bit", "lion_8bit"],
      {
        adamw_torch_fused: "adamw_torch",
        adamw_bnb_8bit: "adamw_8bit",
        paged_adamw_8bit: "adamw_8bit",
        adamw_torch_8bit: "adamw_8bit",
        paged_lion_32bit: "lion_32bit",
        paged_lion_8bit: "lion_8bit",
      },
      "transformers' other optimizers are not here",
    ),
    default: "adamw_torch",
    doc:
      "AdamW as in PyTorch; `adamw_anyprecision`: with moments stored as `optim_args` says; `adamw_8bit`: " +
      "with moments of matrices in bytes, as bitsandbytes; `adamw_bf16`: with weights of matrices and " +
      "moments in bfloat16, weights rounded by chance, as torchao. `lion_32bit`, `lion_8bit`: Lion, which has one " +
      "moment, as bitsandbytes; its authors advise a third to a tenth of AdamW's learning rate.",
  },
  optimArgs: {
    type: optimArgs,
    doc:
      "With `adamw_anyprecision`, `momentum_dtype` and `variance_dtype`: `float32` (default) or `bfloat16`, " +
      "which halves the bytes of that moment. With `adamw_8bit`, `lion_8bit` and `lion_32bit`, " +
      "`bf16_stochastic_round=True`: weights of matrices in bfloat16 too, rounded by chance.",
  },
  learningRate: { type: float32({ orZero: true }), default: 1e-6, doc: "Highest learning rate." },
  lrSchedulerType: {
    type: oneOf(["cosine", "linear", "constant", "constant_with_warmup"]),
    default: "cosine",
    doc: "Course of the learning rate after the warm-up.",
  },
  warmupRatio: {
    type: number({ min: 0, max: 1 }),
    default: 0.1,
    doc: "Share of all steps to warm up for, where `warmup_steps` is 0.",
  },
  warmupSteps: {
    type: stepsOrFraction,
    default: 0,
    doc: "Steps to warm up for (below 1: share of all steps); above 0 it wins over `warmup_ratio`.",
  },
  weightDecay: {
    type: float32({ orZero: true }),
    default: 0,
    doc: "Decay of matrices (not norms, biases), taken from the weights and not from their gradients.",
  },
  maxGradNorm: {
    type: float32({ orZero: true }),
    default: 1,
    doc: "Global norm to which gradients are clipped; 0: never.",
  },
  adamBeta1: { type: number({ min: 0, below: 1 }), default: 0.9, doc: "AdamW's or Lion's beta1." },
  adamBeta2: {
    type: number({ min: 0, below: 1 }),
    default: 0.999,
    doc: "AdamW's or Lion's beta2 (Lion's authors have 0.99).",
  },
  adamEpsilon: {
    type: float32({ orZero: false }),
    default: 1e-8,
    doc: "AdamW's epsilon (Lion has none); with 0, weights whose gradients are 0 would become 0/0.",
  },
  usePeft: {
    type: boolean,
    default: false,
    doc:
      "Train low-rank adapters (LoRA) of linear layers in place of the model's weights, and save them as PEFT does.",
  },
  loraR: { type: integer({ min: 1, max: MOST_TOKENS }), default: 16, doc: "Rank of the adapters." },
  loraAlpha: {
    type: float32({ orZero: false }),
    default: 32,
    doc: "What adapters add is multiplied by this over `lora_r`.",
  },
  loraDropout: {
    type: number({ min: 0, below: 1 }),
    default: 0.05,
    doc: "Share of an adapter's input that is left out at random in training.",
  },
  loraTargetModules: {
    type: modulePatterns,
    doc: "Linear layers to adapt: `all-linear` (all but the head), a list of the ends of their names, or a " +
      "regular expression of whole names. By default those of PEFT for the architecture.",
  },
  loraModulesToSave: {
    type: texts("[lm_head]"),
    doc: "Ends of the names of modules that are trained whole, and saved with the adapters.",
  },
  useRslora: {
    type: boolean,
    default: false,
    doc: "Divide `lora_alpha` by the square root of `lora_r` (rsLoRA), so that higher ranks learn as fast.",
  },
  useDora: {
    type: boolean,
    default: false,
    doc: "Train the length of each row of an adapted matrix apart from its direction (DoRA).",
  },
  loraTaskType: {
    type: oneOf(["CAUSAL_LM"]),
    default: "CAUSAL_LM",
    mayChange: true,
    doc: "What adapter_config.json says that the adapters are for.",
  },
  adapterNameOrPath: {
    type: text,
    mayChange: true,
    doc: "Folder of adapters to go on with, as PEFT saves them (or this program): they have their rank and " +
      "modules, whatever the keys above say.",
  },
  numTrainEpochs: {
    type: number({ max: MOST_EPOCHS }),
    default: 1,
    mayChange: true,
    doc: "Passes over the training pairs.",
  },
  maxSteps: {
    type: integer({ max: MOST_STEPS }),
    default: -1,
    mayChange: true,
    doc: "Optimizer steps; above 0 it wins over `num_train_epochs`.",
  },
  perDeviceTrainBatchSize: { type: pairs, default: 2, doc: "Pairs of one forward and backward pass." },
  perDeviceEvalBatchSize: {
    type: pairs,
    default: 4,
    mayChange: true,
    doc: "Pairs of one forward pass of evaluation.",
  },
  gradientAccumulationSteps: { type: pairs, default: 1, doc: "Passes that make one optimizer step." },
  numGpus: {
    type: pairs,
    default: 1,
    aliases: ["world_size"],
    doc:
      "GPUs of the run to repeat, whose passes the ranks that there are divide among them; one alone makes them all.",
  },
  gradientCheckpointing: {
    type: boolean,
    default: false,
    mayChange: true,
    doc: "Compute activations again in the backward pass instead of storing them.",
  },
  activationDtype: {
    type: oneOf(["float32", "bfloat16"]),
    default: "float32",
    doc:
      "Type in which activations (with `gradient_checkpointing`, each layer's input) wait for the backward " +
      "pass; kernels compute in float32.",
  },
  trainSamplingStrategy: {
    type: oneOf(["random", "sequential"], {}, "group_by_length is not supported"),
    follows: true,
    doc:
      "Order of the pairs: shuffled by `seed`, or as in the files; by default `random`, and `sequential` " +
      "with `kto`, which takes nothing else.",
  },
  seed: { type: integer({ min: 0, max: 2 ** 32 - 1 }), default: 42, doc: "Seed of every random choice." },
  doEval: {
    type: boolean,
    default: false,
    mayChange: true,
    doc: "Evaluate on the test split at the end; also on where `eval_strategy` or `eval_on_start` evaluates.",
  },
  evalStrategy: {
    type: oneOf(["no", "steps", "epoch"]),
    aliases: ["evaluation_strategy"],
    follows: true,
    mayChange: true,
    doc:
      "When to evaluate while training; by default `steps` with `do_eval` and `eval_steps`, otherwise `no`.",
  },
  evalSteps: {
    type: positive,
    follows: true,
    mayChange: true,
    doc: "Optimizer steps between evaluations; by default `logging_steps`.",
  },
  evalOnStart: { type: boolean, default: false, mayChange: true, doc: "Evaluate before the first step too." },
  prompts: {
    type: texts('["What is the capital of Italy?"], or [] for none'),
    default: [],
    doc: "Prompts whose greedy answers are shown before and after training.",
  },
  outputDir: {
    type: text,
    default: "trainer_output",
    mayChange: true,
    doc: "Folder for the trained model and its reports.",
  },
  overwriteOutputDir: {
    type: boolean,
    default: false,
    mayChange: true,
    doc: "Start anew and replace what `output_dir` holds, its checkpoints too.",
  },
  resumeFromCheckpoint: {
    type: folderOrBoolean,
    mayChange: true,
    doc: "Folder of a checkpoint to go on from, or `true`: the last one in `output_dir`. By default an " +
      "unfinished run that `output_dir` holds is gone on with; `false` refuses it.",
  },
  saveStrategy: {
    type: oneOf(["no", "steps", "epoch", "best"]),
    default: "steps",
    mayChange: true,
    doc: "When to write a checkpoint: every `save_steps` and at the end, after every epoch, after every " +
      "evaluation that is better than all before, or only when a signal stops the run (`no`).",
  },
  saveSteps: {
    type: stepsOrFraction,
    default: 500,
    mayChange: true,
    doc: "Optimizer steps between checkpoints (below 1: share of all steps).",
  },
  saveTotalLimit: {
    type: integer(),
    mayChange: true,
    doc: "Most checkpoints to keep, the newest; the best by `metric_for_best_model` stays too. Below 1: all.",
  },
  loadBestModelAtEnd: {
    type: boolean,
    default: false,
    mayChange: true,
    doc: "Leave the weights of the best checkpoint as the result, not the last ones.",
  },
  metricForBestModel: {
    type: evaluationMetric,
    mayChange: true,
    doc:
      "Figure of the evaluations that says which checkpoint is best; with `load_best_model_at_end` `loss`.",
  },
  greaterIsBetter: {
    type: boolean,
    mayChange: true,
    doc: "Whether more of it is better; by default for all but `loss`.",
  },
  overwriteCache: {
    type: boolean,
    default: false,
    mayChange: true,
    doc: "Tokenize the data again where the cache has them.",
  },
  runName: { type: text, mayChange: true, doc: "Name in the reports; by default the name of `output_dir`." },
  loggingSteps: { type: positive, default: 10, mayChange: true, doc: "Optimizer steps between log entries." },
  loggingFirstStep: { type: boolean, default: false, mayChange: true, doc: "Log the first step too." },
  reportTo: {
    type: reporters,
    default: [],
    mayChange: true,
    doc:
      "`tensorboard` writes event files for it too; without it (`none`), files in `output_dir` tell all, and " +
      "`simper watch` shows them.",
  },
  loggingDir: {
    type: text,
    mayChange: true,
    doc: "Folder of TensorBoard's files; by default `runs/` and a name of date and machine, in `output_dir`.",
  },
  logLevel: {
    type: oneOf(["debug", "info", "warning", "error"]),
    default: "info",
    mayChange: true,
    doc:
      "Least level of messages; progress and log entries are shown at `info`, and `error` is silent but for errors.",
  },
  webgpuEngine: {
    type: oneOf(["deno", "dawn"]),
    mayChange: true,
    doc: "What computes: `deno`, the runtime's own WebGPU, or `dawn`, Chrome's, which is fetched from npm " +
      "(`webgpu`) and wants `--allow-ffi`; by default what the environment's `SIMPER_WEBGPU_ENGINE` says, or " +
      "`deno`.",
  },
  float32MatmulPrecision: {
    type: oneOf(["highest", "high", "medium", "auto"]),
    default: "highest",
    doc:
      "Of training's matrix products, as PyTorch's `torch.set_float32_matmul_precision` names it: `highest`, float32; " +
      "`high`, three products of float16 parts that have 22 bits of a number together; `medium`, one of float16, 11 bits. " +
      "Sums stay float32, and every row and column has a scale of its own, so that magnitudes do not matter. " +
      "They want a device with subgroup matrices, as `webgpu_engine: dawn` offers those of many GPUs; " +
      "`auto` is `high` where there are some, and `highest` elsewhere.",
  },
  gpuId: {
    type: adapterId,
    mayChange: true,
    doc:
      "Adapter to compute on: its number, from 0, or a part of its name; by default the one that the engine " +
      "holds to be the fastest.",
  },
  shareGpu: {
    type: boolean,
    default: false,
    mayChange: true,
    doc: "Let several ranks of a machine compute on one adapter, which is refused otherwise.",
  },
  pipelineParallelSize: {
    type: integer({ min: 1, max: 1024 }),
    default: 1,
    mayChange: true,
    doc:
      "Stages of the model, each a range of its layers on a rank of its own, which has the weights, gradients and moments " +
      "of these alone. With the same micro-batches the bits are those of one process, but for a table that is " +
      "embedding and head (1e-6: its gradient is summed once a step) and weights that are rounded by chance.",
  },
  zeroStage: {
    type: integer({ min: 0, max: 2 }),
    default: 0,
    mayChange: true,
    doc:
      "What several ranks share out among them (ZeRO): at 1 each has the optimizer's moments of its part of the " +
      "weights, updates that, and is sent the rest; at 2 it keeps the summed gradients of that part alone too, and " +
      "where it makes several passes a step their sums wait in the machine's memory, 4 bytes a weight.",
  },
  deviceMemory: {
    type: bytes,
    mayChange: true,
    doc:
      "Most GPU memory that the plan may take, such as `80GB` or `75GiB`; by default what the device gives.",
  },
  pushToHub: {
    type: boolean,
    default: false,
    mayChange: true,
    doc: "Upload `output_dir` to the Hub when the run has ended.",
  },
  hubModelId: {
    type: text,
    mayChange: true,
    doc: "Repository to upload to, `owner/name` or a name of one's own; by default the name of `output_dir`.",
  },
  hubPrivateRepo: { type: boolean, mayChange: true, doc: "Make that repository private where it is new." },
  hubToken: {
    type: text,
    secret: true,
    mayChange: true,
    doc: "Token to upload with; by default `HF_TOKEN` or that of `hf auth login`, which no run file shows.",
  },
};

/** The heading of the keys from this one on. */
export const GROUPS: { readonly [F in keyof Table]?: string } = {
  modelNameOrPath: "Model",
  datasetMixer: "Data",
  unfrozenParameters: "Loss and optimizer",
  usePeft: "Adapters",
  numTrainEpochs: "Length of the run, batches and memory",
  doEval: "Evaluation",
  outputDir: "Output, checkpoints and resuming",
  loggingSteps: "Reports",
  webgpuEngine: "Device",
  pushToHub: "Upload to the Hub",
};
