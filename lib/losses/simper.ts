import wgsl from "../../kernels/loss_simper.wgsl" with { type: "text" };
import { arxiv, type LossDefinition, mean } from "./definition.ts";

/**
 * SimPER (arXiv 2502.00883): minimise -exp(mean logp(chosen)) + exp(mean logp(rejected)), the inverse perplexities. No
 * reference model and no hyperparameters.
 */
export const simper: LossDefinition = {
  name: "simper",
  title: "SimPER",
  url: arxiv("2502.00883"),
  formula: "exp(mean(r)) - exp(mean(c))",
  reads: ["chosenAnchor", "refaLambda"],
  wgsl: () => wgsl,
  reward: () => mean,
};
