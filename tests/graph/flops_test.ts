import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { parseModelConfig } from "../../lib/models/config.ts";
import { sizeOf, visiblePairs } from "../../lib/batch/size.ts";
import { forwardFlops, trainingFlops } from "../../lib/graph/flops.ts";
import { netOf } from "../../lib/models/models.ts";
import { uniform } from "../../lib/random.ts";
import { randomPairs } from "../random_pairs.ts";
import { sees } from "../reference/attention.ts";

const net = netOf(parseModelConfig({
  model_type: "mistral",
  hidden_size: 6,
  intermediate_size: 10,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 2,
  vocab_size: 50,
}, "config.json"));

Deno.test("the query-key pairs that are counted are those that attention sees, windows and shared prefixes too", () => {
  for (const window of [undefined, 5]) {
    const batch = pack(randomPairs(uniform(3), 60), [undefined, window]);
    const rows = [...batch.ids.keys()];
    const seen = rows.flatMap((query) => rows.filter((key) => sees(batch.masks[1].spans, query, key)));
    assert.equal(visiblePairs(batch.masks[1]), seen.length);
  }
});

Deno.test("a pass has two operations for every multiply-add, and a step three times as many", () => {
  const batch = pack(randomPairs(uniform(4), 60));
  const tokens = batch.ids.length;
  // Multiply-adds of matrices: rows x columns for each row that goes through them.
  const layer = tokens * (
        6 * (4 + 2 + 2) * 2 + // queries, keys, values
        4 * 2 * 6 + // output
        3 * 6 * 10 // gate, up, down
      ) + visiblePairs(batch.masks[0]) * 4 * (2 + 2); // scores, and sums of values
  const head = batch.targets.length * 50 * 6;
  assert.equal(forwardFlops(net, sizeOf(batch)), 2 * (3 * layer + head));
  assert.equal(trainingFlops(net, sizeOf(batch)), 3 * forwardFlops(net, sizeOf(batch)));
});
