/** Log-probabilities of labels in float64, from logits [labels, vocabulary]. */

/** lse = log of the sum of exp(logits), and logps = logit of the target - lse, for each label. */
export function logProbabilities(logits: ArrayLike<number>, targets: ArrayLike<number>) {
  const vocabulary = logits.length / targets.length;
  const lse = Float64Array.from(targets, (_, label) => {
    const row = Array.from({ length: vocabulary }, (_, token) => logits[label * vocabulary + token]);
    const largest = Math.max(...row);
    return largest + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
  });
  return { lse, logps: lse.map((value, label) => logits[label * vocabulary + targets[label]] - value) };
}

/**
 * Figures of each label's distribution, four a label: entropy, mean logit, 1 where the target is the first of the
 * largest logits, and the target's probability.
 */
export function labelFigures(logits: ArrayLike<number>, targets: ArrayLike<number>): Float64Array {
  const vocabulary = logits.length / targets.length;
  const { lse, logps } = logProbabilities(logits, targets);
  return Float64Array.from(
    Array.from(targets, (target, label) => {
      const row = Array.from({ length: vocabulary }, (_, token) => logits[label * vocabulary + token]);
      const entropy = row.reduce((sum, logit) => {
        const logp = logit - lse[label];
        return sum - Math.exp(logp) * logp;
      }, 0);
      const mean = row.reduce((sum, logit) => sum + logit, 0) / vocabulary;
      return [entropy, mean, row.indexOf(Math.max(...row)) === target ? 1 : 0, Math.exp(logps[label])];
    }).flat(),
  );
}

/**
 * The gradient of the logits where `weights` is that of the log-probabilities: weight * (onehot - softmax).
 */
export function logProbabilitiesBackward(
  logits: ArrayLike<number>,
  targets: ArrayLike<number>,
  weights: ArrayLike<number>,
): Float64Array {
  const vocabulary = logits.length / targets.length;
  const { lse } = logProbabilities(logits, targets);
  return Float64Array.from({ length: logits.length }, (_, i) => {
    const label = Math.floor(i / vocabulary);
    const isTarget = i % vocabulary === targets[label];
    return weights[label] * ((isTarget ? 1 : 0) - Math.exp(logits[i] - lse[label]));
  });
}
