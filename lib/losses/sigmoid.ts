import { arxiv, type LossDefinition } from "./definition.ts";
import { ofDifference } from "./dpo.ts";

/** DPO: direct preference optimization (arXiv 2305.18290, eq. 7). */
export const sigmoid: LossDefinition = ofDifference({
  name: "sigmoid",
  title: "DPO",
  url: arxiv("2305.18290"),
  formula: "-log sigmoid(beta ((c - ref c) - (r - ref r)))",
}, "return logistic(BETA * delta, 0.0) * vec2f(1.0, BETA);");
