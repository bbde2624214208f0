import source from "../../kernels/adamw.wgsl" with { type: "text" };
import type { UpdateRule } from "./rule.ts";

/** AdamW, as torch.optim.AdamW. */
export const adamw: UpdateRule = {
  name: "adamw",
  moments: [
    { kind: "first", name: "exp_avg", isSigned: true, rounding: "nearest" },
    // At beta2 0.999 a step changes it by less than half of bfloat16's last place: to the nearest it would never fall.
    { kind: "second", name: "exp_avg_sq", isSigned: false, rounding: "chance" },
  ],
  source,
  figures: ({ beta1, beta2, epsilon }, step, learningRate) => [
    learningRate / (1 - beta1 ** step),
    1 - beta1,
    beta2,
    1 - beta2,
    epsilon,
    Math.sqrt(1 - beta2 ** step),
  ],
};
