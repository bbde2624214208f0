import { arxiv, type LossDefinition } from "./definition.ts";
import { ofRatios } from "./dpo.ts";

/**
 * APO-down: anchored preference optimization for chosen that is worse than the model's own (arXiv 2408.06266, eq. 8).
 */
export const apoDown: LossDefinition = ofRatios(
  {
    name: "apo_down",
    title: "APO-down",
    url: arxiv("2408.06266"),
    formula: "sigmoid(beta (c - ref c)) + 1 - sigmoid(beta ((c - ref c) - (r - ref r)))",
  },
  `let m = sigmoid(c - r) * sigmoid(r - c);
  return Loss(sigmoid(c) + sigmoid(r - c), sigmoid(c) * sigmoid(-c) - m, m);`,
);
