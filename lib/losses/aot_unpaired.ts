import { arxiv, type LossDefinition } from "./definition.ts";
import { ofSorted } from "./dpo.ts";

/** AOT unpaired (arXiv 2406.05882): a batch's log-ratios of chosen, sorted, beside those of rejected, sorted. */
export const aotUnpaired: LossDefinition = ofSorted(
  {
    name: "aot_unpaired",
    title: "AOT unpaired",
    url: arxiv("2406.05882"),
    formula: "-log sigmoid(beta (c - ref c - (r - ref r of the same rank in the micro-batch)))",
  },
  "at.x - at.z",
  "at.y - at.w",
  "both",
);
