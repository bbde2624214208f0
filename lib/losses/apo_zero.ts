import { arxiv, type LossDefinition } from "./definition.ts";
import { ofRatios } from "./dpo.ts";

/**
 * APO-zero: anchored preference optimization for chosen that is better than the model's own (arXiv 2408.06266, eq.
 * 7).
 */
export const apoZero: LossDefinition = ofRatios({
  name: "apo_zero",
  title: "APO-zero",
  url: arxiv("2408.06266"),
  formula: "1 - sigmoid(beta (c - ref c)) + sigmoid(beta (r - ref r))",
}, "return Loss(sigmoid(-c) + sigmoid(r), -sigmoid(c) * sigmoid(-c), sigmoid(r) * sigmoid(-r));");
