import { arxiv, type LossDefinition } from "./definition.ts";
import { ofSorted } from "./dpo.ts";

/**
 * AOT: alignment by optimal transport (arXiv 2406.05882): a batch's differences, sorted, beside the reference's,
 * sorted.
 */
export const aot: LossDefinition = ofSorted(
  {
    name: "aot",
    title: "AOT",
    url: arxiv("2406.05882"),
    formula: "-log sigmoid(beta (c - r - (ref c - ref r of the same rank in the micro-batch)))",
  },
  "at.x - at.y",
  "at.z - at.w",
  "first",
);
