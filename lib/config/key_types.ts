// Written by `deno task keys` from the table in keys.ts.
import type { LossType } from "../losses/losses.ts";

/** The keys of a run file with their values, as a script writes them. */
export interface RunKeys {
  /**
   * Folder of the model to train, or its name on the Hub, `owner/name` or `owner/name@revision`. Required.
   */
  model_name_or_path: string;
  /** Branch, tag or commit of a model on the Hub; by default `main`. */
  model_revision?: string;
  /**
   * Start from random weights (config.json's `initializer_range`) instead of the model's. By default `false`.
   */
  from_scratch?: boolean;
  /** Jinja text in place of the tokenizer's chat template. */
  chat_template?: string;
  /**
   * The date that a chat template is told which asks for it (`strftime_now`); by default that of the run's
   * first start.
   */
  chat_template_date?: string;
  /**
   * Data paths or names on the Hub with the share of each one's first rows to train on; test splits are used
   * whole. Required, unless `train` is given rows.
   */
  dataset_mixer?: Record<string, number>;
  /**
   * Splits to read: those with `train` in the name to train on, those with `test` to evaluate on. By default
   * `["train", "test"]`.
   */
  dataset_splits?: readonly string[];
  /**
   * Configurations of the data sets' README.md, one for each in `dataset_mixer`; by default the default ones.
   */
  dataset_configs?: readonly string[];
  /**
   * Columns of the data under other names, in every set that has them, as `datasets`' `rename_columns`: each
   * has to be in some row.
   */
  column_mapping?: Record<string, string>;
  /**
   * Begin with an empty system message where the template knows one and the pair has none. By default `true`.
   */
  auto_insert_empty_system_msg?: boolean;
  /**
   * Train on the header that a template writes before a response (its generation prompt) too; `false`, as in
   * TRL: not. By default `true`.
   */
  label_generation_prompt?: boolean;
  /** Most tokens of prompt and response together. By default `512`. */
  max_length?: number;
  /** Tokens that the prompt keeps where a pair is longer than `max_length`. By default `128`. */
  max_prompt_length?: number;
  /** Which end of a long prompt is kept. By default `"keep_end"`. */
  truncation_mode?: "keep_end" | "keep_start";
  /**
   * Regular expressions of the names of parameters to train, from a name's beginning on, with `.` for itself,
   * as in axolotl; all others stay as they are, and take neither gradients nor moments. By default all are
   * trained.
   */
  unfrozen_parameters?: readonly string[];
  /**
   * Type in which frozen matrices are stored: `auto` is the one that config.json names, or else the metadata
   * of the safetensors index, or else that of the files' first tensor; by default `auto` where they are
   * quantized or have adapters, otherwise `float32`. Arithmetic is float32, and the result has the source's
   * types.
   */
  dtype?: "auto" | "bfloat16" | "float16" | "float32";
  /**
   * Store the frozen matrices of linear layers but the head in 4 bits, quantized as bitsandbytes does it in
   * blocks of 64; the result has them as they were. By default `false`.
   */
  load_in_4bit?: boolean;
  /**
   * What the 4 bits stand for; the default is TRL's, where bitsandbytes' own is `fp4`. By default `"nf4"`.
   */
  bnb_4bit_quant_type?: "nf4" | "fp4";
  /** Quantize the blocks' scales too, to 8 bits. By default `false`. */
  use_bnb_nested_quant?: boolean;
  /**
   * As `load_in_4bit`, in 8 bits with a scale for each row: LLM.int8()'s weights, without its rounding of
   * activations. By default `false`.
   */
  load_in_8bit?: boolean;
  /**
   * The loss, or a list of losses that are added up: see [the losses](#the-losses). Of the keys below, each
   * is an error under a loss that does not read it. By default `"simper"`.
   */
  loss_type?: LossType;
  /** What each loss of a list is multiplied by; by default 1. */
  loss_weights?: readonly number[];
  /**
   * How strongly a loss holds to the reference or counts a difference; of `ipo` tau, of `orpo` lambda. By
   * default `0.1`.
   */
  beta?: number;
  /** SimPO's margin. By default `0.5`. */
  simpo_gamma?: number;
  /** The same over `beta`, as SimPO's own configurations have it. */
  gamma_beta_ratio?: number;
  /**
   * Weight of chosen's mean negative log-probability; by default 1 with `cpo` and `slic`, and 0 with `simpo`,
   * as in its paper (TRL has 1).
   */
  cpo_alpha?: number;
  /** AlphaPO's shape of the reward; 0: the log-probability itself. By default `0`. */
  alpha?: number;
  /**
   * The probability that chosen and rejected are the wrong way round; with `exo_pair` above 0. By default
   * `0`.
   */
  label_smoothing?: number;
  /** DiscoPOP's temperature. By default `0.05`. */
  discopop_tau?: number;
  /** By which divergence a loss holds to the reference (f-DPO). By default `"reverse_kl"`. */
  f_divergence_type?: "reverse_kl" | "forward_kl" | "js_divergence" | "alpha_divergence";
  /** The alpha of `alpha_divergence`. By default `0.5`. */
  f_alpha_divergence_coef?: number;
  /** LD-DPO: by what log-probabilities count past the length of the shorter response; by default fully. */
  ld_alpha?: number;
  /** WPO: a pair counts by how probable its responses are for the model itself. By default `false`. */
  use_weighting?: boolean;
  /** Take every response to be equally probable for the reference, and need none. By default `false`. */
  reference_free?: boolean;
  /** What KTO's loss of desirable responses is multiplied by. By default `1`. */
  desirable_weight?: number;
  /** Likewise of undesirable ones. By default `1`. */
  undesirable_weight?: number;
  /**
   * With `simper`, weight of chosen's mean negative log-probability beside it, as RPO adds it to DPO (arXiv
   * 2404.19733). By default `0`.
   */
  chosen_anchor?: number;
  /**
   * With `simper`, weight of the probability of chosen's end token, so that it does not end sooner than it
   * should, after the abstract of REFA (arXiv 2412.16378): not compared with code of its authors. By default
   * `0`.
   */
  refa_lambda?: number;
  /**
   * Folder of the model that the loss compares with, or its name on the Hub, where it is not the one to train
   * as the run begins; only for losses with a reference.
   */
  ref_model?: string;
  /**
   * Pairs of one forward pass of the reference, whose log-probabilities are computed before the first step,
   * neighbours in the data; by default `per_device_train_batch_size`, in a run that ends within an epoch only
   * pairs that it draws, and of the test split `per_device_eval_batch_size`.
   */
  precompute_ref_batch_size?: number;
  /**
   * AdamW as in PyTorch; `adamw_anyprecision`: with moments stored as `optim_args` says; `adamw_8bit`: with
   * moments of matrices in bytes, as bitsandbytes; `adamw_bf16`: with weights of matrices and moments in
   * bfloat16, weights rounded by chance, as torchao. `lion_32bit`, `lion_8bit`: Lion, which has one moment,
   * as bitsandbytes; its authors advise a third to a tenth of AdamW's learning rate. By default
   * `"adamw_torch"`.
   */
  optim?: "adamw_torch" | "adamw_anyprecision" | "adamw_bf16" | "adamw_8bit" | "lion_32bit" | "lion_8bit";
  /**
   * With `adamw_anyprecision`, `momentum_dtype` and `variance_dtype`: `float32` (default) or `bfloat16`,
   * which halves the bytes of that moment. With `adamw_8bit`, `lion_8bit` and `lion_32bit`,
   * `bf16_stochastic_round=True`: weights of matrices in bfloat16 too, rounded by chance.
   */
  optim_args?: string;
  /** Highest learning rate. By default `0.000001`. */
  learning_rate?: number;
  /** Course of the learning rate after the warm-up. By default `"cosine"`. */
  lr_scheduler_type?: "cosine" | "linear" | "constant" | "constant_with_warmup";
  /** Share of all steps to warm up for, where `warmup_steps` is 0. By default `0.1`. */
  warmup_ratio?: number;
  /**
   * Steps to warm up for (below 1: share of all steps); above 0 it wins over `warmup_ratio`. By default `0`.
   */
  warmup_steps?: number;
  /**
   * Decay of matrices (not norms, biases), taken from the weights and not from their gradients. By default
   * `0`.
   */
  weight_decay?: number;
  /** Global norm to which gradients are clipped; 0: never. By default `1`. */
  max_grad_norm?: number;
  /** AdamW's or Lion's beta1. By default `0.9`. */
  adam_beta1?: number;
  /** AdamW's or Lion's beta2 (Lion's authors have 0.99). By default `0.999`. */
  adam_beta2?: number;
  /**
   * AdamW's epsilon (Lion has none); with 0, weights whose gradients are 0 would become 0/0. By default
   * `1e-8`.
   */
  adam_epsilon?: number;
  /**
   * Train low-rank adapters (LoRA) of linear layers in place of the model's weights, and save them as PEFT
   * does. By default `false`.
   */
  use_peft?: boolean;
  /** Rank of the adapters. By default `16`. */
  lora_r?: number;
  /** What adapters add is multiplied by this over `lora_r`. By default `32`. */
  lora_alpha?: number;
  /** Share of an adapter's input that is left out at random in training. By default `0.05`. */
  lora_dropout?: number;
  /**
   * Linear layers to adapt: `all-linear` (all but the head), a list of the ends of their names, or a regular
   * expression of whole names. By default those of PEFT for the architecture.
   */
  lora_target_modules?: readonly string[] | string;
  /** Ends of the names of modules that are trained whole, and saved with the adapters. */
  lora_modules_to_save?: readonly string[];
  /**
   * Divide `lora_alpha` by the square root of `lora_r` (rsLoRA), so that higher ranks learn as fast. By
   * default `false`.
   */
  use_rslora?: boolean;
  /**
   * Train the length of each row of an adapted matrix apart from its direction (DoRA). By default `false`.
   */
  use_dora?: boolean;
  /** What adapter_config.json says that the adapters are for. By default `"CAUSAL_LM"`. */
  lora_task_type?: "CAUSAL_LM";
  /**
   * Folder of adapters to go on with, as PEFT saves them (or this program): they have their rank and modules,
   * whatever the keys above say.
   */
  adapter_name_or_path?: string;
  /** Passes over the training pairs. By default `1`. */
  num_train_epochs?: number;
  /** Optimizer steps; above 0 it wins over `num_train_epochs`. By default `-1`. */
  max_steps?: number;
  /** Pairs of one forward and backward pass. By default `2`. */
  per_device_train_batch_size?: number;
  /** Pairs of one forward pass of evaluation. By default `4`. */
  per_device_eval_batch_size?: number;
  /** Passes that make one optimizer step. By default `1`. */
  gradient_accumulation_steps?: number;
  /**
   * GPUs of the run to repeat, whose passes the ranks that there are divide among them; one alone makes them
   * all. By default `1`.
   */
  num_gpus?: number;
  /** Compute activations again in the backward pass instead of storing them. By default `false`. */
  gradient_checkpointing?: boolean;
  /**
   * Type in which activations (with `gradient_checkpointing`, each layer's input) wait for the backward pass;
   * kernels compute in float32. By default `"float32"`.
   */
  activation_dtype?: "float32" | "bfloat16";
  /**
   * Order of the pairs: shuffled by `seed`, or as in the files; by default `random`, and `sequential` with
   * `kto`, which takes nothing else.
   */
  train_sampling_strategy?: "random" | "sequential";
  /** Seed of every random choice. By default `42`. */
  seed?: number;
  /**
   * Evaluate on the test split at the end; also on where `eval_strategy` or `eval_on_start` evaluates. By
   * default `false`.
   */
  do_eval?: boolean;
  /** When to evaluate while training; by default `steps` with `do_eval` and `eval_steps`, otherwise `no`. */
  eval_strategy?: "no" | "steps" | "epoch";
  /** Optimizer steps between evaluations; by default `logging_steps`. */
  eval_steps?: number;
  /** Evaluate before the first step too. By default `false`. */
  eval_on_start?: boolean;
  /** Prompts whose greedy answers are shown before and after training. By default `[]`. */
  prompts?: readonly string[];
  /** Folder for the trained model and its reports. By default `"trainer_output"`. */
  output_dir?: string;
  /** Start anew and replace what `output_dir` holds, its checkpoints too. By default `false`. */
  overwrite_output_dir?: boolean;
  /**
   * Folder of a checkpoint to go on from, or `true`: the last one in `output_dir`. By default an unfinished
   * run that `output_dir` holds is gone on with; `false` refuses it.
   */
  resume_from_checkpoint?: boolean | string;
  /**
   * When to write a checkpoint: every `save_steps` and at the end, after every epoch, after every evaluation
   * that is better than all before, or only when a signal stops the run (`no`). By default `"steps"`.
   */
  save_strategy?: "no" | "steps" | "epoch" | "best";
  /** Optimizer steps between checkpoints (below 1: share of all steps). By default `500`. */
  save_steps?: number;
  /** Most checkpoints to keep, the newest; the best by `metric_for_best_model` stays too. Below 1: all. */
  save_total_limit?: number;
  /** Leave the weights of the best checkpoint as the result, not the last ones. By default `false`. */
  load_best_model_at_end?: boolean;
  /** Figure of the evaluations that says which checkpoint is best; with `load_best_model_at_end` `loss`. */
  metric_for_best_model?:
    | "loss"
    | "rewards/chosen"
    | "rewards/rejected"
    | "rewards/accuracies"
    | "rewards/margins"
    | "logps/chosen"
    | "logps/rejected"
    | "logits/chosen"
    | "logits/rejected"
    | "entropy"
    | "mean_token_accuracy"
    | "eos/probability";
  /** Whether more of it is better; by default for all but `loss`. */
  greater_is_better?: boolean;
  /** Tokenize the data again where the cache has them. By default `false`. */
  overwrite_cache?: boolean;
  /** Name in the reports; by default the name of `output_dir`. */
  run_name?: string;
  /** Optimizer steps between log entries. By default `10`. */
  logging_steps?: number;
  /** Log the first step too. By default `false`. */
  logging_first_step?: boolean;
  /**
   * `tensorboard` writes event files for it too; without it (`none`), files in `output_dir` tell all, and
   * `simper watch` shows them. By default `[]`.
   */
  report_to?: string | readonly string[];
  /** Folder of TensorBoard's files; by default `runs/` and a name of date and machine, in `output_dir`. */
  logging_dir?: string;
  /**
   * Least level of messages; progress and log entries are shown at `info`, and `error` is silent but for
   * errors. By default `"info"`.
   */
  log_level?: "debug" | "info" | "warning" | "error";
  /**
   * What computes: `deno`, the runtime's own WebGPU, or `dawn`, Chrome's, which is fetched from npm
   * (`webgpu`) and wants `--allow-ffi`; by default what the environment's `SIMPER_WEBGPU_ENGINE` says, or
   * `deno`.
   */
  webgpu_engine?: "deno" | "dawn";
  /**
   * Of training's matrix products, as PyTorch's `torch.set_float32_matmul_precision` names it: `highest`,
   * float32; `high`, three products of float16 parts that have 22 bits of a number together; `medium`, one of
   * float16, 11 bits. Sums stay float32, and every row and column has a scale of its own, so that magnitudes
   * do not matter. They want a device with subgroup matrices, as `webgpu_engine: dawn` offers those of many
   * GPUs; `auto` is `high` where there are some, and `highest` elsewhere. By default `"highest"`.
   */
  float32_matmul_precision?: "highest" | "high" | "medium" | "auto";
  /**
   * Adapter to compute on: its number, from 0, or a part of its name; by default the one that the engine
   * holds to be the fastest.
   */
  gpu_id?: string | number;
  /**
   * Let several ranks of a machine compute on one adapter, which is refused otherwise. By default `false`.
   */
  share_gpu?: boolean;
  /**
   * Stages of the model, each a range of its layers on a rank of its own, which has the weights, gradients
   * and moments of these alone. With the same micro-batches the bits are those of one process, but for a
   * table that is embedding and head (1e-6: its gradient is summed once a step) and weights that are rounded
   * by chance. By default `1`.
   */
  pipeline_parallel_size?: number;
  /**
   * What several ranks share out among them (ZeRO): at 1 each has the optimizer's moments of its part of the
   * weights, updates that, and is sent the rest; at 2 it keeps the summed gradients of that part alone too,
   * and where it makes several passes a step their sums wait in the machine's memory, 4 bytes a weight. By
   * default `0`.
   */
  zero_stage?: number;
  /** Most GPU memory that the plan may take, such as `80GB` or `75GiB`; by default what the device gives. */
  device_memory?: number | string;
  /** Upload `output_dir` to the Hub when the run has ended. By default `false`. */
  push_to_hub?: boolean;
  /** Repository to upload to, `owner/name` or a name of one's own; by default the name of `output_dir`. */
  hub_model_id?: string;
  /** Make that repository private where it is new. */
  hub_private_repo?: boolean;
  /** Token to upload with; by default `HF_TOKEN` or that of `hf auth login`, which no run file shows. */
  hub_token?: string;
}

/** A checked run file: the fields are its keys in camelCase. */
export interface TrainConfig {
  /** Folder of the model to train, or its name on the Hub, `owner/name` or `owner/name@revision`. */
  modelNameOrPath: string;
  /** Branch, tag or commit of a model on the Hub; by default `main`. */
  modelRevision: string | undefined;
  /** Start from random weights (config.json's `initializer_range`) instead of the model's. */
  fromScratch: boolean;
  /** Jinja text in place of the tokenizer's chat template. */
  chatTemplate: string | undefined;
  /**
   * The date that a chat template is told which asks for it (`strftime_now`); by default that of the run's
   * first start.
   */
  chatTemplateDate: string | undefined;
  /**
   * Data paths or names on the Hub with the share of each one's first rows to train on; test splits are used
   * whole.
   */
  datasetMixer: {
    path: string;
    share: number;
    /** The configuration of the data set's README.md. */
    config?: string;
    /** Other names for columns, by the names that its files have. */
    columns?: ReadonlyMap<string, string>;
  }[];
  /** Splits to read: those with `train` in the name to train on, those with `test` to evaluate on. */
  datasetSplits: readonly string[];
  /**
   * Configurations of the data sets' README.md, one for each in `dataset_mixer`; by default the default ones.
   */
  datasetConfigs: readonly string[] | undefined;
  /**
   * Columns of the data under other names, in every set that has them, as `datasets`' `rename_columns`: each
   * has to be in some row.
   */
  columnMapping: ReadonlyMap<string, string> | undefined;
  /** Begin with an empty system message where the template knows one and the pair has none. */
  autoInsertEmptySystemMsg: boolean;
  /**
   * Train on the header that a template writes before a response (its generation prompt) too; `false`, as in
   * TRL: not.
   */
  labelGenerationPrompt: boolean;
  /** Most tokens of prompt and response together. */
  maxLength: number;
  /** Tokens that the prompt keeps where a pair is longer than `max_length`. */
  maxPromptLength: number;
  /** Which end of a long prompt is kept. */
  truncationMode: "keep_end" | "keep_start";
  /**
   * Regular expressions of the names of parameters to train, from a name's beginning on, with `.` for itself,
   * as in axolotl; all others stay as they are, and take neither gradients nor moments. By default all are
   * trained.
   */
  unfrozenParameters: readonly string[] | undefined;
  /**
   * Type in which frozen matrices are stored: `auto` is the one that config.json names, or else the metadata
   * of the safetensors index, or else that of the files' first tensor; by default `auto` where they are
   * quantized or have adapters, otherwise `float32`. Arithmetic is float32, and the result has the source's
   * types.
   */
  dtype: "auto" | "bfloat16" | "float16" | "float32" | undefined;
  /**
   * Store the frozen matrices of linear layers but the head in 4 bits, quantized as bitsandbytes does it in
   * blocks of 64; the result has them as they were.
   */
  loadIn4bit: boolean;
  /** What the 4 bits stand for; the default is TRL's, where bitsandbytes' own is `fp4`. */
  bnb4bitQuantType: "nf4" | "fp4";
  /** Quantize the blocks' scales too, to 8 bits. */
  useBnbNestedQuant: boolean;
  /**
   * As `load_in_4bit`, in 8 bits with a scale for each row: LLM.int8()'s weights, without its rounding of
   * activations.
   */
  loadIn8bit: boolean;
  /**
   * The loss, or a list of losses that are added up: see [the losses](#the-losses). Of the keys below, each
   * is an error under a loss that does not read it.
   */
  lossType: LossType;
  /** What each loss of a list is multiplied by; by default 1. */
  lossWeights: readonly number[] | undefined;
  /** How strongly a loss holds to the reference or counts a difference; of `ipo` tau, of `orpo` lambda. */
  beta: number;
  /** SimPO's margin. */
  simpoGamma: number;
  /** The same over `beta`, as SimPO's own configurations have it. */
  gammaBetaRatio: number | undefined;
  /**
   * Weight of chosen's mean negative log-probability; by default 1 with `cpo` and `slic`, and 0 with `simpo`,
   * as in its paper (TRL has 1).
   */
  cpoAlpha: number | undefined;
  /** AlphaPO's shape of the reward; 0: the log-probability itself. */
  alpha: number;
  /** The probability that chosen and rejected are the wrong way round; with `exo_pair` above 0. */
  labelSmoothing: number;
  /** DiscoPOP's temperature. */
  discopopTau: number;
  /** By which divergence a loss holds to the reference (f-DPO). */
  fDivergenceType: "reverse_kl" | "forward_kl" | "js_divergence" | "alpha_divergence";
  /** The alpha of `alpha_divergence`. */
  fAlphaDivergenceCoef: number;
  /** LD-DPO: by what log-probabilities count past the length of the shorter response; by default fully. */
  ldAlpha: number | undefined;
  /** WPO: a pair counts by how probable its responses are for the model itself. */
  useWeighting: boolean;
  /** Take every response to be equally probable for the reference, and need none. */
  referenceFree: boolean;
  /** What KTO's loss of desirable responses is multiplied by. */
  desirableWeight: number;
  /** Likewise of undesirable ones. */
  undesirableWeight: number;
  /**
   * With `simper`, weight of chosen's mean negative log-probability beside it, as RPO adds it to DPO (arXiv
   * 2404.19733).
   */
  chosenAnchor: number;
  /**
   * With `simper`, weight of the probability of chosen's end token, so that it does not end sooner than it
   * should, after the abstract of REFA (arXiv 2412.16378): not compared with code of its authors.
   */
  refaLambda: number;
  /**
   * Folder of the model that the loss compares with, or its name on the Hub, where it is not the one to train
   * as the run begins; only for losses with a reference.
   */
  refModel: string | undefined;
  /**
   * Pairs of one forward pass of the reference, whose log-probabilities are computed before the first step,
   * neighbours in the data; by default `per_device_train_batch_size`, in a run that ends within an epoch only
   * pairs that it draws, and of the test split `per_device_eval_batch_size`.
   */
  precomputeRefBatchSize: number | undefined;
  /**
   * AdamW as in PyTorch; `adamw_anyprecision`: with moments stored as `optim_args` says; `adamw_8bit`: with
   * moments of matrices in bytes, as bitsandbytes; `adamw_bf16`: with weights of matrices and moments in
   * bfloat16, weights rounded by chance, as torchao. `lion_32bit`, `lion_8bit`: Lion, which has one moment,
   * as bitsandbytes; its authors advise a third to a tenth of AdamW's learning rate.
   */
  optim: "adamw_torch" | "adamw_anyprecision" | "adamw_bf16" | "adamw_8bit" | "lion_32bit" | "lion_8bit";
  /**
   * With `adamw_anyprecision`, `momentum_dtype` and `variance_dtype`: `float32` (default) or `bfloat16`,
   * which halves the bytes of that moment. With `adamw_8bit`, `lion_8bit` and `lion_32bit`,
   * `bf16_stochastic_round=True`: weights of matrices in bfloat16 too, rounded by chance.
   */
  optimArgs: string | undefined;
  /** Highest learning rate. */
  learningRate: number;
  /** Course of the learning rate after the warm-up. */
  lrSchedulerType: "cosine" | "linear" | "constant" | "constant_with_warmup";
  /** Share of all steps to warm up for, where `warmup_steps` is 0. */
  warmupRatio: number;
  /** Steps to warm up for (below 1: share of all steps); above 0 it wins over `warmup_ratio`. */
  warmupSteps: number;
  /** Decay of matrices (not norms, biases), taken from the weights and not from their gradients. */
  weightDecay: number;
  /** Global norm to which gradients are clipped; 0: never. */
  maxGradNorm: number;
  /** AdamW's or Lion's beta1. */
  adamBeta1: number;
  /** AdamW's or Lion's beta2 (Lion's authors have 0.99). */
  adamBeta2: number;
  /** AdamW's epsilon (Lion has none); with 0, weights whose gradients are 0 would become 0/0. */
  adamEpsilon: number;
  /**
   * Train low-rank adapters (LoRA) of linear layers in place of the model's weights, and save them as PEFT
   * does.
   */
  usePeft: boolean;
  /** Rank of the adapters. */
  loraR: number;
  /** What adapters add is multiplied by this over `lora_r`. */
  loraAlpha: number;
  /** Share of an adapter's input that is left out at random in training. */
  loraDropout: number;
  /**
   * Linear layers to adapt: `all-linear` (all but the head), a list of the ends of their names, or a regular
   * expression of whole names. By default those of PEFT for the architecture.
   */
  loraTargetModules: readonly string[] | string | undefined;
  /** Ends of the names of modules that are trained whole, and saved with the adapters. */
  loraModulesToSave: readonly string[] | undefined;
  /** Divide `lora_alpha` by the square root of `lora_r` (rsLoRA), so that higher ranks learn as fast. */
  useRslora: boolean;
  /** Train the length of each row of an adapted matrix apart from its direction (DoRA). */
  useDora: boolean;
  /** What adapter_config.json says that the adapters are for. */
  loraTaskType: "CAUSAL_LM";
  /**
   * Folder of adapters to go on with, as PEFT saves them (or this program): they have their rank and modules,
   * whatever the keys above say.
   */
  adapterNameOrPath: string | undefined;
  /** Passes over the training pairs. */
  numTrainEpochs: number;
  /** Optimizer steps; above 0 it wins over `num_train_epochs`. */
  maxSteps: number;
  /** Pairs of one forward and backward pass. */
  perDeviceTrainBatchSize: number;
  /** Pairs of one forward pass of evaluation. */
  perDeviceEvalBatchSize: number;
  /** Passes that make one optimizer step. */
  gradientAccumulationSteps: number;
  /**
   * GPUs of the run to repeat, whose passes the ranks that there are divide among them; one alone makes them
   * all.
   */
  numGpus: number;
  /** Compute activations again in the backward pass instead of storing them. */
  gradientCheckpointing: boolean;
  /**
   * Type in which activations (with `gradient_checkpointing`, each layer's input) wait for the backward pass;
   * kernels compute in float32.
   */
  activationDtype: "float32" | "bfloat16";
  /**
   * Order of the pairs: shuffled by `seed`, or as in the files; by default `random`, and `sequential` with
   * `kto`, which takes nothing else.
   */
  trainSamplingStrategy: "random" | "sequential";
  /** Seed of every random choice. */
  seed: number;
  /** Evaluate on the test split at the end; also on where `eval_strategy` or `eval_on_start` evaluates. */
  doEval: boolean;
  /** When to evaluate while training; by default `steps` with `do_eval` and `eval_steps`, otherwise `no`. */
  evalStrategy: "no" | "steps" | "epoch";
  /** Optimizer steps between evaluations; by default `logging_steps`. */
  evalSteps: number;
  /** Evaluate before the first step too. */
  evalOnStart: boolean;
  /** Prompts whose greedy answers are shown before and after training. */
  prompts: readonly string[];
  /** Folder for the trained model and its reports. */
  outputDir: string;
  /** Start anew and replace what `output_dir` holds, its checkpoints too. */
  overwriteOutputDir: boolean;
  /**
   * Folder of a checkpoint to go on from, or `true`: the last one in `output_dir`. By default an unfinished
   * run that `output_dir` holds is gone on with; `false` refuses it.
   */
  resumeFromCheckpoint: boolean | string | undefined;
  /**
   * When to write a checkpoint: every `save_steps` and at the end, after every epoch, after every evaluation
   * that is better than all before, or only when a signal stops the run (`no`).
   */
  saveStrategy: "no" | "steps" | "epoch" | "best";
  /** Optimizer steps between checkpoints (below 1: share of all steps). */
  saveSteps: number;
  /** Most checkpoints to keep, the newest; the best by `metric_for_best_model` stays too. Below 1: all. */
  saveTotalLimit: number | undefined;
  /** Leave the weights of the best checkpoint as the result, not the last ones. */
  loadBestModelAtEnd: boolean;
  /** Figure of the evaluations that says which checkpoint is best; with `load_best_model_at_end` `loss`. */
  metricForBestModel:
    | "loss"
    | "rewards/chosen"
    | "rewards/rejected"
    | "rewards/accuracies"
    | "rewards/margins"
    | "logps/chosen"
    | "logps/rejected"
    | "logits/chosen"
    | "logits/rejected"
    | "entropy"
    | "mean_token_accuracy"
    | "eos/probability"
    | undefined;
  /** Whether more of it is better; by default for all but `loss`. */
  greaterIsBetter: boolean | undefined;
  /** Tokenize the data again where the cache has them. */
  overwriteCache: boolean;
  /** Name in the reports; by default the name of `output_dir`. */
  runName: string | undefined;
  /** Optimizer steps between log entries. */
  loggingSteps: number;
  /** Log the first step too. */
  loggingFirstStep: boolean;
  /**
   * `tensorboard` writes event files for it too; without it (`none`), files in `output_dir` tell all, and
   * `simper watch` shows them.
   */
  reportTo: readonly "tensorboard"[];
  /** Folder of TensorBoard's files; by default `runs/` and a name of date and machine, in `output_dir`. */
  loggingDir: string | undefined;
  /**
   * Least level of messages; progress and log entries are shown at `info`, and `error` is silent but for
   * errors.
   */
  logLevel: "debug" | "info" | "warning" | "error";
  /**
   * What computes: `deno`, the runtime's own WebGPU, or `dawn`, Chrome's, which is fetched from npm
   * (`webgpu`) and wants `--allow-ffi`; by default what the environment's `SIMPER_WEBGPU_ENGINE` says, or
   * `deno`.
   */
  webgpuEngine: "deno" | "dawn" | undefined;
  /**
   * Of training's matrix products, as PyTorch's `torch.set_float32_matmul_precision` names it: `highest`,
   * float32; `high`, three products of float16 parts that have 22 bits of a number together; `medium`, one of
   * float16, 11 bits. Sums stay float32, and every row and column has a scale of its own, so that magnitudes
   * do not matter. They want a device with subgroup matrices, as `webgpu_engine: dawn` offers those of many
   * GPUs; `auto` is `high` where there are some, and `highest` elsewhere.
   */
  float32MatmulPrecision: "highest" | "high" | "medium" | "auto";
  /**
   * Adapter to compute on: its number, from 0, or a part of its name; by default the one that the engine
   * holds to be the fastest.
   */
  gpuId: string | undefined;
  /** Let several ranks of a machine compute on one adapter, which is refused otherwise. */
  shareGpu: boolean;
  /**
   * Stages of the model, each a range of its layers on a rank of its own, which has the weights, gradients
   * and moments of these alone. With the same micro-batches the bits are those of one process, but for a
   * table that is embedding and head (1e-6: its gradient is summed once a step) and weights that are rounded
   * by chance.
   */
  pipelineParallelSize: number;
  /**
   * What several ranks share out among them (ZeRO): at 1 each has the optimizer's moments of its part of the
   * weights, updates that, and is sent the rest; at 2 it keeps the summed gradients of that part alone too,
   * and where it makes several passes a step their sums wait in the machine's memory, 4 bytes a weight.
   */
  zeroStage: number;
  /** Most GPU memory that the plan may take, such as `80GB` or `75GiB`; by default what the device gives. */
  deviceMemory: number | undefined;
  /** Upload `output_dir` to the Hub when the run has ended. */
  pushToHub: boolean;
  /** Repository to upload to, `owner/name` or a name of one's own; by default the name of `output_dir`. */
  hubModelId: string | undefined;
  /** Make that repository private where it is new. */
  hubPrivateRepo: boolean | undefined;
  /** Token to upload with; by default `HF_TOKEN` or that of `hf auth login`, which no run file shows. */
  hubToken: string | undefined;
}
