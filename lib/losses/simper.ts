import wgsl from "../../kernels/loss_simper.wgsl" with { type: "text" };
import type { WgslLoss } from "./loss.ts";

/**
 * SimPER (arXiv 2502.00883): minimise -exp(mean logp(chosen)) + exp(mean logp(rejected)), the inverse perplexities. No
 * reference model and no hyperparameters.
 */
export const simper: WgslLoss = { name: "simper", wgsl, usesRejected: true };
