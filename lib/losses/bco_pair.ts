import { arxiv, type LossDefinition } from "./definition.ts";
import { ofRatios } from "./dpo.ts";

/** BCO of pairs: binary classifier optimization, without its shift, as TRL's DPOTrainer has it (arXiv 2404.04656). */
export const bcoPair: LossDefinition = ofRatios({
  name: "bco_pair",
  title: "BCO",
  url: arxiv("2404.04656"),
  formula: "-log sigmoid(beta (c - ref c)) - log sigmoid(-beta (r - ref r))",
}, "return Loss(-log_sigmoid(c) - log_sigmoid(-r), -sigmoid(-c), sigmoid(r));");
