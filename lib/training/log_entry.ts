/**
 * Figures of one moment of a run. While training those of `Metrics`, and grad_norm, learning_rate, tokens_per_second,
 * pairs_per_second, num_input_tokens_seen (tokens of packed rows, in which a shared prompt counts once) and num_tokens
 * (of whole sequences, as TRL counts). Of an evaluation eval_loss and the other metrics in the same way, eval_runtime,
 * eval_samples_per_second, and eval_num_tokens, which like TRL's is that of the training so far.
 */
export interface LogEntry {
  /** Optimizer steps done. */
  step: number;
  /** Passes over the training pairs done, with the part of the current one: of its batches, as transformers counts. */
  epoch: number;
  /** The figures, by the names above. */
  [figure: string]: number;
}
