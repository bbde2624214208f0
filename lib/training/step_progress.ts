/** Where a run stands after an optimizer step, with the step's means over pairs. */
export interface StepProgress {
  /** From 1. */
  step: number;
  /** Steps that were done before, by a run that this one goes on with. */
  startStep: number;
  /** Those of the whole run. */
  totalSteps: number;
  /** Mean over the step's pairs. */
  loss: number;
  /** The part of the pairs, from 0 to 1, whose chosen response has the higher reward. */
  accuracy?: number;
  /** Reward of the chosen response less that of the rejected one, mean over the pairs. */
  margin?: number;
  /** Of all gradients together, before they are clipped. */
  gradNorm: number;
  /** That of this step. */
  learningRate: number;
  /** Tokens of packed rows, over the steps read together with this one. */
  tokensPerSecond: number;
  /** Likewise of pairs. */
  pairsPerSecond: number;
  /**
   * Until the last step is done, with the evaluations and checkpoints on the way as far as one of each was measured.
   */
  secondsLeft?: number;
}
