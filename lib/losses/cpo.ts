/**
 * The frame of CPO and of the losses that TRL's CPOTrainer has beside it: no reference, and a part that keeps chosen
 * likely.
 */
import functions from "../../kernels/loss_functions.wgsl" with { type: "text" };
import {
  arxiv,
  constants,
  type LossDefinition,
  type LossKeys,
  mean,
  type ResponseSums,
} from "./definition.ts";

/** What one of them says of itself. */
type Own = Pick<LossDefinition, "name" | "title" | "url" | "formula"> & {
  reads?: readonly (keyof LossKeys)[];
  /** What a response scores: the sum of its tokens' log-probabilities, or their mean. */
  scores: "sum" | "mean";
  /** The weight of the negative log-likelihood where `cpo_alpha` does not say; undefined where there is none. */
  cpoAlpha?: number;
};

/**
 * A loss of the difference of the two scores, each by AlphaPO's reward where `alpha` is not 0 (arXiv 2501.03884).
 * @param difference WGSL of its value and slope, a vec2f of `x`, beta times the difference.
 */
export function ofLikelihood({ scores, cpoAlpha, ...own }: Own, difference: string): LossDefinition {
  const shaped = ({ alpha }: LossKeys, score: number) =>
    alpha === 0 ? score : (1 - Math.exp(-alpha * score)) / alpha;
  const anchorOf = (keys: LossKeys) => cpoAlpha === undefined ? 0 : keys.cpoAlpha ?? cpoAlpha;
  return {
    ...own,
    reads: ["beta", "alpha", ...cpoAlpha === undefined ? [] : ["cpoAlpha"] as const, ...own.reads ?? []],
    wgsl: (keys) => {
      const { beta, alpha, labelSmoothing, gammaBetaRatio, simpoGamma } = keys;
      const gamma = gammaBetaRatio === undefined ? simpoGamma : gammaBetaRatio * beta;
      return functions +
        constants({ beta, alpha, labelSmoothing, simpoGamma: gamma, cpoAlpha: anchorOf(keys) }) +
        `// The reward of a response over beta, and its slope by the sum.
fn score(response: Response) -> vec2f {
  let slope = ${scores === "mean" ? "1.0 / response.labels" : "1.0"};
  let s = response.sum * slope;
${
          alpha === 0
            ? "  return vec2f(s, slope);"
            : "  let e = exp_bounded(-ALPHA * s);\n  return vec2f((1.0 - e) / ALPHA, e * slope);"
        }
}
fn of_difference(x: f32) -> vec2f {
  ${difference}
}
fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  let c = score(chosen);
  let r = score(rejected);
  let f = of_difference(BETA * (c.x - r.x));
  return Loss(
    f.x - CPO_ALPHA * chosen.sum / chosen.labels,
    f.y * BETA * c.y - CPO_ALPHA / chosen.labels,
    -f.y * BETA * r.y,
  );
}
`;
    },
    reward: (keys) => (response: ResponseSums) =>
      keys.beta * shaped(keys, scores === "mean" ? mean(response) : response.sum),
    figures: (keys) => (chosen): Record<string, number> =>
      anchorOf(keys) === 0 ? {} : { nll_loss: -mean(chosen) },
  };
}

/** CPO: contrastive preference optimization (arXiv 2401.08417, eq. 3); the reference is taken to be uniform. */
export const cpo: LossDefinition = ofLikelihood({
  name: "cpo",
  title: "CPO",
  url: arxiv("2401.08417"),
  formula: "-log sigmoid(beta (c - r)) - cpo_alpha mean(c)",
  scores: "sum",
  cpoAlpha: 1,
  reads: ["labelSmoothing"],
}, "return logistic(x, LABEL_SMOOTHING);");
