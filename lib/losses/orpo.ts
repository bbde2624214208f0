import functions from "../../kernels/loss_functions.wgsl" with { type: "text" };
import { arxiv, constants, type LossDefinition, mean, type ResponseSums } from "./definition.ts";

const logOdds = (response: ResponseSums) => mean(response) - Math.log(-Math.expm1(mean(response)));

/**
 * ORPO: odds ratio preference optimization (arXiv 2403.07691), `beta` its lambda. The likelihood is of chosen's
 * tokens, as in the paper; TRL's ORPOTrainer counts the prompt's among them.
 */
export const orpo: LossDefinition = {
  name: "orpo",
  title: "ORPO",
  url: arxiv("2403.07691"),
  formula: "-mean(c) - beta log sigmoid(log odds(c) - log odds(r)), odds(s) = p / (1 - p), p = exp(mean(s))",
  reads: ["beta"],
  wgsl: ({ beta }) =>
    `${functions}${
      constants({ beta })
    }// The logarithm of the odds, and its slope by the sum. 1 - p by tanh, which near p = 1 does not cancel.
fn log_odds(response: Response) -> vec2f {
  let m = response.sum / response.labels;
  let t = tanh_accurate(0.5 * m);
  let rest = select(-2.0 * t / (1.0 - t), 1.0 - exp_accurate(m), m < -0.6931472);
  return vec2f(m - log(rest), 1.0 / (rest * response.labels));
}
fn preference_loss(chosen: Response, rejected: Response) -> Loss {
  let c = log_odds(chosen);
  let r = log_odds(rejected);
  let f = BETA * logistic(c.x - r.x, 0.0);
  return Loss(f.x - chosen.sum / chosen.labels, f.y * c.y - 1.0 / chosen.labels, -f.y * r.y);
}
`,
  reward: ({ beta }) => (response) => beta * mean(response),
  figures: () => (chosen, rejected) => {
    const difference = logOdds(chosen) - logOdds(rejected);
    return {
      nll_loss: -mean(chosen),
      log_odds_ratio: Math.min(difference, 0) - Math.log1p(Math.exp(-Math.abs(difference))),
      log_odds_chosen: difference,
    };
  },
};
