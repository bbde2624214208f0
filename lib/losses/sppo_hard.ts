import { arxiv, type LossDefinition } from "./definition.ts";
import { ofRatios } from "./dpo.ts";

/** SPPO with hard labels: self-play preference optimization where chosen surely wins (arXiv 2405.00675, eq. 4.7). */
export const sppoHard: LossDefinition = ofRatios(
  {
    name: "sppo_hard",
    title: "SPPO with hard labels",
    url: arxiv("2405.00675"),
    formula: "(c - ref c - 1 / (2 beta))^2 + (r - ref r + 1 / (2 beta))^2",
  },
  `let x = (c - 0.5) / BETA;
  let y = (r + 0.5) / BETA;
  return Loss(x * x + y * y, 2.0 * x / BETA, 2.0 * y / BETA);`,
);
