import functions from "../../kernels/loss_functions.wgsl" with { type: "text" };
import { arxiv, constants, type LossDefinition } from "./definition.ts";

/** APO-zero of single responses that were judged (arXiv 2408.06266, eq. 7): TRL's KTOTrainer has it. */
export const apoZeroUnpaired: LossDefinition = {
  name: "apo_zero_unpaired",
  title: "APO-zero unpaired",
  url: arxiv("2408.06266"),
  formula: "w (1 - sigmoid(s beta (c - ref c))), s and w as of kto",
  reads: ["beta", "desirableWeight", "undesirableWeight"],
  usesRejected: false,
  usesReference: true,
  isJudged: true,
  wgsl: ({ beta, desirableWeight, undesirableWeight }) =>
    `${functions}${constants({ beta, desirableWeight, undesirableWeight })}
fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  let sign = select(-1.0, 1.0, desirable);
  let weight = select(UNDESIRABLE_WEIGHT, DESIRABLE_WEIGHT, desirable);
  let x = sign * BETA * (chosen.sum - chosen.reference);
  return Loss(weight * sigmoid(-x), -sign * weight * BETA * sigmoid(x) * sigmoid(-x), 0.0);
}
`,
  reward: ({ beta }) => ({ sum, reference }) => beta * (sum - reference),
};
