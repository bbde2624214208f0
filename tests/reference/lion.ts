/** Lion in float64: arXiv 2302.06675, algorithm 2. */

export interface LionState {
  weights: Float64Array;
  first: Float64Array;
}

export interface LionFigures {
  learningRate: number;
  beta1: number;
  beta2: number;
  weightDecay: number;
}

/**
 * An update of one parameter, in place; `gradient` is after clipping.
 * @returns the means of moment and gradient whose signs it goes by.
 */
export function lion(
  { weights, first }: LionState,
  gradient: Float64Array,
  { learningRate, beta1, beta2, weightDecay }: LionFigures,
): Float64Array {
  return gradient.map((g, i) => {
    const mean = beta1 * first[i] + (1 - beta1) * g;
    weights[i] -= learningRate * weightDecay * weights[i];
    weights[i] -= learningRate * Math.sign(mean);
    first[i] = beta2 * first[i] + (1 - beta2) * g;
    return mean;
  });
}
