import { arxiv, type LossDefinition } from "./definition.ts";
import { ofRatios } from "./dpo.ts";

/** NCA of pairs: noise contrastive alignment, which keeps chosen likely (arXiv 2402.05369). */
export const ncaPair: LossDefinition = ofRatios(
  {
    name: "nca_pair",
    title: "NCA",
    url: arxiv("2402.05369"),
    formula:
      "-log sigmoid(x) - (log sigmoid(-x) + log sigmoid(-y)) / 2, x = beta (c - ref c), y = beta (r - ref r)",
  },
  `let value = -log_sigmoid(c) - 0.5 * log_sigmoid(-c) - 0.5 * log_sigmoid(-r);
  return Loss(value, 0.5 * sigmoid(c) - sigmoid(-c), 0.5 * sigmoid(r));`,
);
