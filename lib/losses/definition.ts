/** What a built-in loss is made of: a file each. */

/** What a loss sees of a response. */
export interface ResponseSums {
  /** The sum of its tokens' log-probabilities. */
  sum: number;
  /** The number of its tokens. */
  labels: number;
  /** The sum under the reference model; 0 without one. */
  reference: number;
}

/** The f-divergences by which DPO's losses may hold to the reference (arXiv 2309.16240). */
export const F_DIVERGENCES = ["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] as const;

/** The keys of a run file that losses read, by TRL's names. */
export interface LossKeys {
  beta: number;
  simpoGamma: number;
  gammaBetaRatio?: number;
  cpoAlpha?: number;
  alpha: number;
  labelSmoothing: number;
  discopopTau: number;
  fDivergenceType: typeof F_DIVERGENCES[number];
  fAlphaDivergenceCoef: number;
  ldAlpha?: number;
  useWeighting: boolean;
  referenceFree: boolean;
  desirableWeight: number;
  undesirableWeight: number;
  chosenAnchor: number;
  refaLambda: number;
}

/** TRL's defaults; of what is not TRL's, nothing. */
export const LOSS_DEFAULTS = {
  beta: 0.1,
  simpoGamma: 0.5,
  alpha: 0,
  labelSmoothing: 0,
  discopopTau: 0.05,
  fDivergenceType: "reverse_kl",
  fAlphaDivergenceCoef: 0.5,
  useWeighting: false,
  referenceFree: false,
  desirableWeight: 1,
  undesirableWeight: 1,
  chosenAnchor: 0,
  refaLambda: 0,
} as const satisfies LossKeys;

/** A loss before its constants are known. */
export interface LossDefinition {
  /** Its `loss_type`. */
  name: string;
  /** What its paper calls it. */
  title: string;
  /** Where it was published. */
  url: string;
  /**
   * For one pair; `c` and `r` are log-probabilities of chosen and rejected, and `ref` what the reference has of them.
   */
  formula: string;
  /** The keys that change it. */
  reads: readonly (keyof LossKeys)[];
  /** As `WgslLoss`'s. */
  usesRejected?: boolean;
  /** As `WgslLoss`'s. */
  usesReference?: boolean;
  /** See `isJudged`. */
  isJudged?: boolean;
  /** WGSL with `fn preference_loss`, and all that it needs. */
  wgsl: (keys: LossKeys) => string;
  /** What TRL logs as the reward of a response. */
  reward: (keys: LossKeys) => (response: ResponseSums) => number;
  /** What else TRL logs of a pair, by its names there. */
  figures?: (keys: LossKeys) => (chosen: ResponseSums, rejected: ResponseSums) => Record<string, number>;
}

export const arxiv = (id: string): string => `https://arxiv.org/abs/${id}`;

/** A number as WGSL has it: without point or exponent it would be a whole one, of 64 bits at most. */
export const literal = (value: number): string => {
  const text = String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
};

/** Keys as constants of WGSL: `simpoGamma` is SIMPO_GAMMA. */
export const constants = (values: Record<string, number>): string =>
  Object.entries(values).map(([key, value]) =>
    `const ${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}: f32 = ${literal(value)};\n`
  ).join("");

/** The mean log-probability of a response's tokens. */
export const mean = ({ sum, labels }: ResponseSums): number => sum / labels;
