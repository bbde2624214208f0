import { arxiv, type LossDefinition } from "./definition.ts";
import { ofDifference } from "./dpo.ts";

/**
 * DiscoPOP: a mixture of the logistic and the exponential loss, found by a language model (arXiv 2406.08414, eq. 5).
 */
export const discopop: LossDefinition = ofDifference(
  {
    name: "discopop",
    title: "DiscoPOP",
    url: arxiv("2406.08414"),
    formula: "(1 - m) (-log sigmoid(x)) + m exp(-x), m = sigmoid(x / discopop_tau), x as of sigmoid",
    reads: ["discopopTau"],
  },
  `let x = BETA * delta;
  let f = logistic(x, 0.0);
  let e = exp_bounded(-x);
  let m = sigmoid(x / DISCOPOP_TAU);
  let dm = m * sigmoid(-x / DISCOPOP_TAU) / DISCOPOP_TAU;
  return vec2f(mix(f.x, e, m), BETA * (mix(f.y, -e, m) + dm * (e - f.x)));`,
);
