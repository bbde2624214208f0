/**
 * Why a key that other trainers follow does nothing here. A name that ends in `*` stands for all that begin
 * so.
 */
export const IGNORED: Readonly<Record<string, string>> = {
  beta: "simper and sft have no such parameter",
  gamma_beta_ratio: "simper and sft have no such parameter",
  attn_implementation: "attention is always tiled, without a matrix of tokens by tokens",
  use_flash_attention_2: "attention is always tiled, without a matrix of tokens by tokens",
  bf16: "arithmetic is float32; weights are saved in the source's dtype",
  fp16: "arithmetic is float32; weights are saved in the source's dtype",
  tf32: "arithmetic is float32",
  torch_dtype: "arithmetic is float32; weights are saved in the source's dtype",
  dtype: "arithmetic is float32; weights are saved in the source's dtype",
  gradient_checkpointing_kwargs: "they are PyTorch's",
  preprocessing_num_workers: "as many workers tokenize as there are cores, and 8",
  dataset_num_proc: "as many workers tokenize as there are cores, and 8",
  "dataloader_*": "pairs are read in the training process",
  remove_unused_columns: "only the columns of preference pairs are read",
  "ddp_*": "training runs on one device",
  local_rank: "training runs on one device",
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
  use_peft: { allowed: [false], why: "adapters are not available yet; every weight is trained" },
  load_in_8bit: { allowed: [false], why: "quantized weights are not available" },
  load_in_4bit: { allowed: [false], why: "quantized weights are not available" },
  group_by_length: { allowed: [false], why: "grouping by length is not supported" },
  auto_find_batch_size: { allowed: [false], why: "set per_device_train_batch_size" },
  sft_weight: { allowed: [0], why: "a mixed loss is not available" },
  label_smoothing: { allowed: [0], why: "it is not available" },
  label_smoothing_factor: { allowed: [0], why: "it is not available" },
  neftune_noise_alpha: { allowed: [0], why: "it is not available" },
  lr_scheduler_kwargs: { allowed: [], why: "no schedule here takes any" },
  deepspeed: { allowed: [false], why: "training runs on one device" },
  fsdp: { allowed: [false, ""], why: "training runs on one device" },
};

/** Why `key` is ignored, or undefined where it is not. */
export function ignoredBecause(key: string): string | undefined {
  if (Object.hasOwn(IGNORED, key)) return IGNORED[key];
  const family = Object.keys(IGNORED).find((name) => name.endsWith("*") && key.startsWith(name.slice(0, -1)));
  return family && IGNORED[family];
}
