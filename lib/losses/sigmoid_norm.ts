import { arxiv, type LossDefinition } from "./definition.ts";
import { ofMeanDifference } from "./dpo.ts";

/** DPO by the token: of mean log-ratios (Tulu 3, arXiv 2411.15124). */
export const sigmoidNorm: LossDefinition = ofMeanDifference({
  name: "sigmoid_norm",
  title: "length-normalized DPO",
  url: arxiv("2411.15124"),
  formula: "-log sigmoid(beta (mean(c - ref c) - mean(r - ref r)))",
}, "return logistic(BETA * delta, 0.0) * vec2f(1.0, BETA);");
