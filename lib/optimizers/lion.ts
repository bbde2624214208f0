import source from "../../kernels/lion.wgsl" with { type: "text" };
import type { UpdateRule } from "./rule.ts";

/** Lion (arXiv 2302.06675), as bitsandbytes' and the authors' own. It has no epsilon. */
export const lion: UpdateRule = {
  name: "lion",
  moments: [{ kind: "first", name: "exp_avg", isSigned: true, rounding: "nearest" }],
  source,
  figures: ({ beta1, beta2 }, _, learningRate) => [learningRate, beta1, 1 - beta1, beta2, 1 - beta2],
};
