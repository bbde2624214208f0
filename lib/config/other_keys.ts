/**
 * Why a key that other trainers follow does nothing here. A name that ends in `*` stands for all that begin
 * so.
 */
export const IGNORED: Readonly<Record<string, string>> = {
  precompute_ref_log_probs:
    "a reference's log-probabilities are always computed before the first step, where the loss needs them",
  ref_model_mixup_alpha: "the reference stays as it is: there is no sync_ref_model",
  ref_model_sync_steps: "the reference stays as it is: there is no sync_ref_model",
  force_use_ref_model: "the loss says whether there is a reference",
  label_pad_token_id: "rows are packed: nothing is padded",
  padding_value: "rows are packed: nothing is padded",
  max_completion_length: "max_length and max_prompt_length bound both",
  is_encoder_decoder: "the model's config.json says what it is",
  model_init_kwargs: "they are Python's: keys of a run say how weights are stored",
  generate_during_eval: "prompts are answered before and after training",
  attn_implementation: "attention is always tiled, without a matrix of tokens by tokens",
  use_flash_attention_2: "attention is always tiled, without a matrix of tokens by tokens",
  bf16: "arithmetic is float32; weights are saved in the source's dtype",
  fp16: "arithmetic is float32; weights are saved in the source's dtype",
  tf32: "arithmetic is float32",
  bnb_4bit_compute_dtype: "arithmetic is float32",
  bnb_4bit_quant_storage: "codes are stored as words of 4 bytes",
  "llm_int8_*": "activations stay float32: none of them has to stand out",
  gradient_checkpointing_kwargs: "they are PyTorch's",
  preprocessing_num_workers: "as many workers tokenize as there are cores, and 8",
  dataset_num_proc: "as many workers tokenize as there are cores, and 8",
  "dataloader_*": "pairs are read in the training process",
  remove_unused_columns: "only the columns of preference pairs are read",
  "ddp_*": "several ranks are started by mpirun -n N (zero_stage, pipeline_parallel_size)",
  local_rank: "several ranks are started by mpirun -n N (zero_stage, pipeline_parallel_size)",
  "wandb_*": "reports are files in output_dir",
  logging_strategy: "logging_steps says when to log",
  disable_tqdm: "log_level says what is shown",
  hub_strategy: "the result is uploaded once, at the end",
  hub_always_push: "the result is uploaded once, at the end",
  save_safetensors: "weights are always saved as safetensors",
  save_only_model: "a checkpoint always holds what a resumed run needs",
  do_train: "the command says what to do",
  full_determinism: "runs are always deterministic",
  data_seed: "seed is used",
  disable_dropout: "there is no dropout",
  trust_remote_code: "no code of a model is ever run",
  use_fast_tokenizer: "tokenizer.json is always used",
};

/**
 * A key that would change a run in a way not available yet: any other value than those allowed is an error.
 */
export interface Refusal {
  /** The values that ask for nothing; null is always one. */
  allowed: readonly unknown[];
  why: string;
}

/** Keys refused unless their value asks for nothing. */
export const REFUSED: Readonly<Record<string, Refusal>> = {
  hub_revision: { allowed: ["main"], why: "the result is uploaded to the main branch" },
  tokenizer_name_or_path: { allowed: [], why: "the tokenizer always comes from model_name_or_path" },
  lora_target_parameters: { allowed: [], why: "adapters of experts are not available" },
  sync_ref_model: {
    allowed: [false],
    why: "the reference stays as it is: its log-probabilities are computed once, before the first step",
  },
  rpo_alpha: { allowed: [], why: "it is loss_type: [sigmoid, sft] with loss_weights: [1, RPO_ALPHA]" },
  use_liger_kernel: { allowed: [false], why: "its kernels are PyTorch's" },
  padding_free: { allowed: [false], why: "rows are always packed" },
  group_by_length: { allowed: [false], why: "grouping by length is not supported" },
  auto_find_batch_size: { allowed: [false], why: "set per_device_train_batch_size" },
  label_smoothing_factor: { allowed: [0], why: "it is not available" },
  neftune_noise_alpha: { allowed: [0], why: "it is not available" },
  lr_scheduler_kwargs: { allowed: [], why: "no schedule here takes any" },
  deepspeed: {
    allowed: [false],
    why: "several ranks are started by mpirun -n N (zero_stage, pipeline_parallel_size)",
  },
  fsdp: {
    allowed: [false, ""],
    why: "several ranks are started by mpirun -n N (zero_stage, pipeline_parallel_size)",
  },
};

/**
 * What the keys of a run are called elsewhere: by other trainers (axolotl, LLaMA-Factory, mlx-lm, torchtune,
 * Unsloth), in other classes of TRL and transformers, and by people.
 */
export const OTHER_NAMES: Readonly<Record<string, readonly string[]>> = {
  model_name_or_path: [
    "model",
    "model_name",
    "model_id",
    "model_path",
    "base_model",
    "pretrained_model_name_or_path",
  ],
  model_revision: ["revision"],
  dataset_mixer: ["data", "data_path", "dataset", "datasets", "dataset_name", "dataset_path", "train_file"],
  dataset_splits: ["split", "splits", "dataset_split", "dataset_train_split", "dataset_test_split"],
  dataset_configs: ["dataset_config", "dataset_config_name"],
  max_length: [
    "cutoff_len",
    "max_len",
    "max_seq_len",
    "max_seq_length",
    "seq_len",
    "sequence_len",
  ],
  loss_type: ["loss", "pref_loss", "rl"],
  beta: ["dpo_beta", "kto_beta", "orpo_beta", "pref_beta", "rl_beta", "simpo_beta"],
  label_smoothing: ["dpo_label_smoothing"],
  chosen_anchor: ["pref_ftx"],
  desirable_weight: ["kto_chosen_weight", "kto_desirable_weight"],
  undesirable_weight: ["kto_rejected_weight", "kto_undesirable_weight"],
  optim: ["optimizer"],
  lora_r: ["lora_rank", "rank", "peft_lora_r", "lora.r"],
  lora_alpha: ["peft_lora_alpha", "lora.alpha"],
  lora_dropout: ["peft_lora_dropout"],
  lora_target_modules: ["target_modules", "lora_target", "lora_modules", "lora_target_linear"],
  lora_modules_to_save: ["modules_to_save", "additional_target"],
  use_dora: ["peft_use_dora"],
  use_rslora: ["peft_use_rslora"],
  adapter_name_or_path: ["adapter", "adapter_path", "lora_model_dir"],
  learning_rate: ["lr", "max_lr", "peak_lr", "optimizer.lr"],
  lr_scheduler_type: ["lr_scheduler", "lr_schedule", "scheduler", "scheduler_type"],
  warmup_ratio: ["warmup", "warmup_fraction"],
  warmup_steps: ["num_warmup_steps", "lr_scheduler.num_warmup_steps"],
  weight_decay: ["wd", "decay", "optimizer.weight_decay"],
  max_grad_norm: ["clip_grad_norm", "grad_clip", "gradient_clipping", "max_norm"],
  adam_epsilon: ["adam_eps", "eps", "epsilon"],
  num_train_epochs: ["epochs", "num_epochs", "n_epochs", "max_epochs", "train_epochs"],
  max_steps: [
    "iters",
    "iterations",
    "num_steps",
    "steps",
    "max_train_steps",
    "num_train_steps",
    "train_steps",
  ],
  per_device_train_batch_size: [
    "batch_size",
    "bs",
    "micro_batch_size",
    "per_gpu_train_batch_size",
    "train_batch_size",
  ],
  per_device_eval_batch_size: ["eval_batch_size", "per_gpu_eval_batch_size"],
  gradient_accumulation_steps: [
    "accumulate_grad_batches",
    "grad_accum",
    "grad_accumulation_steps",
    "accumulation_steps",
  ],
  gradient_checkpointing: ["activation_checkpointing", "enable_activation_checkpointing", "grad_checkpoint"],
  eval_steps: ["eval_every", "eval_interval", "steps_per_eval"],
  output_dir: ["output", "output_path", "out_dir", "save_dir", "save_path", "checkpoint_dir"],
  overwrite_output_dir: ["overwrite"],
  resume_from_checkpoint: ["resume", "resume_from"],
  save_steps: ["save_every", "save_interval", "checkpoint_every"],
  save_total_limit: ["max_checkpoints", "keep_checkpoints"],
  run_name: ["experiment_name"],
  logging_steps: ["log_every", "log_every_n_steps", "log_interval", "steps_per_report"],
  report_to: ["logger", "loggers", "log_with"],
  hub_model_id: ["hub_repo", "push_to_hub_model_id", "repo_id"],
  hub_token: ["token", "push_to_hub_token"],
  log_level: ["verbosity"],
};

const KEY_OF = new Map(
  Object.entries(OTHER_NAMES).flatMap(([key, names]) => names.map((name) => [name, key] as const)),
);

/** The key of a run that is called `name` elsewhere, however its words are joined. */
export function keyCalled(name: string): string | undefined {
  return KEY_OF.get(name.toLowerCase().replaceAll("-", "_"));
}

/** Why `key` is ignored, or undefined where it is not. */
export function ignoredBecause(key: string): string | undefined {
  if (Object.hasOwn(IGNORED, key)) return IGNORED[key];
  const family = Object.keys(IGNORED).find((name) => name.endsWith("*") && key.startsWith(name.slice(0, -1)));
  return family && IGNORED[family];
}
