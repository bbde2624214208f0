import { arxiv, type LossDefinition } from "./definition.ts";
import { ofDifference } from "./dpo.ts";

/** RSO's hinge loss on DPO's difference (arXiv 2309.06657), which normalises SLiC's by the reference. */
export const hinge: LossDefinition = ofDifference(
  {
    name: "hinge",
    title: "the hinge loss of RSO",
    url: arxiv("2309.06657"),
    formula: "max(0, 1 - beta ((c - ref c) - (r - ref r)))",
  },
  `let x = 1.0 - BETA * delta;
  return vec2f(max(x, 0.0), select(0.0, -BETA, x > 0.0));`,
);
