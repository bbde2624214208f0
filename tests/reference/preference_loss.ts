/** Losses of one pair in float64, from the log-probabilities of its labels. */

export type PreferenceLoss = (chosen: number[], rejected: number[]) => {
  value: number;
  /** By the log-probability of any one label of chosen, and of rejected. */
  dChosen: number;
  dRejected: number;
};

const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** SimPER (arXiv 2502.00883, eq. 4): minus the inverse perplexity of chosen, plus that of rejected. */
export const simper: PreferenceLoss = (chosen, rejected) => ({
  value: -Math.exp(mean(chosen)) + Math.exp(mean(rejected)),
  dChosen: -Math.exp(mean(chosen)) / chosen.length,
  dRejected: Math.exp(mean(rejected)) / rejected.length,
});

/** The mean negative log-likelihood of chosen. */
export const sft: PreferenceLoss = (chosen) => ({
  value: -mean(chosen),
  dChosen: -1 / chosen.length,
  dRejected: 0,
});
