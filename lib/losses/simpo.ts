import { arxiv, type LossDefinition } from "./definition.ts";
import { ofLikelihood } from "./cpo.ts";

/** SimPO: mean log-probabilities with a margin (arXiv 2405.14734, eq. 6). With `cpo_alpha` above 0 it is CPO-SimPO. */
export const simpo: LossDefinition = ofLikelihood({
  name: "simpo",
  title: "SimPO",
  url: arxiv("2405.14734"),
  formula: "-log sigmoid(beta (mean(c) - mean(r)) - simpo_gamma) - cpo_alpha mean(c)",
  scores: "mean",
  // The paper's has none; TRL's CPOConfig has 1 for all its losses.
  cpoAlpha: 0,
  reads: ["simpoGamma", "gammaBetaRatio", "labelSmoothing"],
}, "return logistic(x - SIMPO_GAMMA, LABEL_SMOOTHING);");
