import functions from "../../kernels/loss_functions.wgsl" with { type: "text" };
import { arxiv, constants, type LossDefinition } from "./definition.ts";

/**
 * KTO: Kahneman-Tversky optimization (arXiv 2402.01306, eq. 7), of single responses that were judged. The reference
 * point is the micro-batch's mean log-ratio of other responses after the same prompts, and has no gradient.
 */
export const kto: LossDefinition = {
  name: "kto",
  title: "KTO",
  url: arxiv("2402.01306"),
  formula:
    "w (1 - sigmoid(s beta (c - ref c - kl))), s 1 and w desirable_weight, or -1 and undesirable_weight",
  reads: ["beta", "desirableWeight", "undesirableWeight"],
  usesReference: true,
  isJudged: true,
  wgsl: ({ beta, desirableWeight, undesirableWeight }) =>
    `${functions}${constants({ beta, desirableWeight, undesirableWeight })}
fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  var ratios = 0.0;
  for (var p = 0u; p < rows.count; p += 1u) {
    let at = batch_sums(p);
    ratios += at.y - at.w;
  }
  kl = max(ratios / f32(rows.count), 0.0);
  let sign = select(-1.0, 1.0, desirable);
  let weight = select(UNDESIRABLE_WEIGHT, DESIRABLE_WEIGHT, desirable);
  let x = sign * BETA * (chosen.sum - chosen.reference - kl);
  return Loss(weight * sigmoid(-x), -sign * weight * BETA * sigmoid(x) * sigmoid(-x), 0.0);
}
`,
  reward: ({ beta }) => ({ sum, reference }) => beta * (sum - reference),
};
