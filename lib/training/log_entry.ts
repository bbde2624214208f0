/**
 * Figures of one moment of a run. While training: loss, grad_norm, learning_rate, rewards/chosen,
 * rewards/rejected, rewards/accuracies, rewards/margins, logps/chosen, logps/rejected, tokens_per_second,
 * pairs_per_second and num_input_tokens_seen; of an evaluation: eval_loss, eval_rewards/..., eval_runtime,
 * eval_samples_per_second.
 */
export interface LogEntry {
  /** Optimizer steps done. */
  step: number;
  /** Passes over the training pairs done, with the part of the current one: of its batches, as transformers counts. */
  epoch: number;
  /** The figures, by the names above. */
  [figure: string]: number;
}
