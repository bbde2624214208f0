import wgsl from "../../kernels/loss_sft.wgsl" with { type: "text" };
import type { WgslLoss } from "./loss.ts";

/** Supervised fine-tuning on the chosen responses: their mean negative log-probability. */
export const sft: WgslLoss = { name: "sft", wgsl, usesRejected: false };
