import type { Mask } from "./mask.ts";
import type { Batch } from "./pack.ts";

/** What the work of a batch follows from. */
export interface BatchSize {
  tokens: number;
  labels: number;
  /** Query-key pairs that attention has to look at, for each of the model's windows. */
  visible: number[];
}

/** Query-key pairs of a packed row, as a mask says. */
export function visiblePairs({ spans }: Mask): number {
  let pairs = 0;
  for (let token = 0; token < spans.length / 4; token++) {
    const [from, to, own] = spans.subarray(4 * token, 4 * token + 3);
    pairs += to - from + token - own + 1;
  }
  return pairs;
}

export const sizeOf = ({ ids, targets, masks }: Pick<Batch, "ids" | "targets" | "masks">): BatchSize => ({
  tokens: ids.length,
  labels: targets.length,
  visible: masks.map(visiblePairs),
});
