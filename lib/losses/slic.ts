import { arxiv, type LossDefinition } from "./definition.ts";
import { ofLikelihood } from "./cpo.ts";

/** SLiC-HF: sequence likelihood calibration (arXiv 2305.10425), kept to chosen; `hinge` of TRL's CPOTrainer. */
export const slic: LossDefinition = ofLikelihood({
  name: "slic",
  title: "SLiC-HF",
  url: arxiv("2305.10425"),
  formula: "max(0, 1 - beta (c - r)) - cpo_alpha mean(c)",
  scores: "sum",
  cpoAlpha: 1,
}, "return vec2f(max(1.0 - x, 0.0), select(0.0, -1.0, x < 1.0));");
