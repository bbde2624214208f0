import wgsl from "../../kernels/loss_sft.wgsl" with { type: "text" };
import { arxiv, type LossDefinition, mean } from "./definition.ts";

/** Supervised fine-tuning on the chosen responses: their mean negative log-probability. */
export const sft: LossDefinition = {
  name: "sft",
  title: "supervised fine-tuning",
  url: arxiv("2203.02155"),
  formula: "-mean(c)",
  reads: [],
  usesRejected: false,
  wgsl: () => wgsl,
  reward: () => mean,
};
