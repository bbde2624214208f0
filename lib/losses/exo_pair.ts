import { arxiv, type LossDefinition } from "./definition.ts";
import { ofDifference } from "./dpo.ts";

/** EXO of pairs: the reverse KL divergence to smoothed labels (arXiv 2402.00856, eq. 16); `label_smoothing` above 0. */
export const exoPair: LossDefinition = ofDifference(
  {
    name: "exo_pair",
    title: "EXO",
    url: arxiv("2402.00856"),
    formula: "KL((q, 1 - q) || (1 - e, e)), q = sigmoid(x), x as of sigmoid, e label_smoothing",
    reads: ["labelSmoothing"],
  },
  `let x = BETA * delta;
  let q = sigmoid(x);
  let p = sigmoid(-x);
  let value = q * (log_sigmoid(x) - log(1.0 - LABEL_SMOOTHING)) + p * (log_sigmoid(-x) - log(LABEL_SMOOTHING));
  return vec2f(value, BETA * q * p * (x - log(1.0 - LABEL_SMOOTHING) + log(LABEL_SMOOTHING)));`,
);
