import { arxiv, type LossDefinition } from "./definition.ts";
import { ofMeanDifference } from "./dpo.ts";

/** IPO: identity preference optimization (arXiv 2310.12036, eq. 17), by the token, as its authors told TRL's. */
export const ipo: LossDefinition = ofMeanDifference(
  {
    name: "ipo",
    title: "IPO",
    url: arxiv("2310.12036"),
    formula: "(mean(c - ref c) - mean(r - ref r) - 1 / (2 beta))^2",
  },
  `let x = delta - 0.5 / BETA;
  return vec2f(x * x, 2.0 * x);`,
);
