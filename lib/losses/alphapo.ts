import { arxiv, type LossDefinition } from "./definition.ts";
import { ofLikelihood } from "./cpo.ts";

/** AlphaPO: SimPO whose reward is bent by `alpha` (arXiv 2501.03884); with 0 it is SimPO. */
export const alphapo: LossDefinition = ofLikelihood({
  name: "alphapo",
  title: "AlphaPO",
  url: arxiv("2501.03884"),
  formula: "-log sigmoid(beta (R(c) - R(r)) - simpo_gamma), R(s) = (1 - exp(-alpha mean(s))) / alpha",
  scores: "mean",
  reads: ["simpoGamma", "gammaBetaRatio", "labelSmoothing"],
}, "return logistic(x - SIMPO_GAMMA, LABEL_SMOOTHING);");
