import { arxiv, type LossDefinition } from "./definition.ts";
import { ofDifference } from "./dpo.ts";

/** Robust DPO, without bias where labels are wrong with the probability `label_smoothing` (arXiv 2403.00409). */
export const robust: LossDefinition = ofDifference(
  {
    name: "robust",
    title: "robust DPO",
    url: arxiv("2403.00409"),
    formula: "(-(1 - e) log sigmoid(x) + e log sigmoid(-x)) / (1 - 2 e), x as of sigmoid, e label_smoothing",
    reads: ["labelSmoothing"],
  },
  `let x = BETA * delta;
  let right = logistic(x, 0.0);
  let wrong = logistic(-x, 0.0);
  let both = (1.0 - LABEL_SMOOTHING) * right - LABEL_SMOOTHING * vec2f(wrong.x, -wrong.y);
  let f = both / (1.0 - 2.0 * LABEL_SMOOTHING);
  return f * vec2f(1.0, BETA);`,
);
