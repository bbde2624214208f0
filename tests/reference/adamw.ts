/** Clipping and AdamW in float64, as torch.nn.utils.clip_grad_norm_ and torch.optim.AdamW document them. */

/** The norm of all gradients, and the factor that brings them down to `maxNorm` (0: never). */
export function clip(gradients: readonly ArrayLike<number>[], maxNorm: number) {
  let squares = 0;
  for (const gradient of gradients) for (let i = 0; i < gradient.length; i++) squares += gradient[i] ** 2;
  const norm = Math.sqrt(squares);
  return { norm, coefficient: maxNorm > 0 ? Math.min(1, maxNorm / (norm + 1e-6)) : 1 };
}

export interface AdamWState {
  weights: Float64Array;
  first: Float64Array;
  second: Float64Array;
}

export interface AdamWFigures {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
}

/** Update `step` (from 1) of one parameter, in place; `gradient` is after clipping. */
export function adamw(state: AdamWState, gradient: Float64Array, step: number, figures: AdamWFigures): void {
  const { learningRate, beta1, beta2, epsilon, weightDecay } = figures;
  const { weights, first, second } = state;
  for (const [i, g] of gradient.entries()) {
    weights[i] -= learningRate * weightDecay * weights[i];
    first[i] = beta1 * first[i] + (1 - beta1) * g;
    second[i] = beta2 * second[i] + (1 - beta2) * g ** 2;
    const unbiasedFirst = first[i] / (1 - beta1 ** step);
    const unbiasedSecond = second[i] / (1 - beta2 ** step);
    weights[i] -= learningRate * unbiasedFirst / (Math.sqrt(unbiasedSecond) + epsilon);
  }
}
