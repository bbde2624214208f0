import assert from "node:assert/strict";
import { type Event, eventRecord, tagOf } from "../../lib/report/tensorboard.ts";
import golden from "../golden/tensorboard/events.json" with { type: "json" };

/** Those of tests/golden/tensorboard/make.py. */
const EVENTS: Event[] = [
  { kind: "version" },
  { kind: "start", step: 0 },
  {
    kind: "text",
    step: 0,
    tag: "args",
    text: `{"learning_rate": 1e-06, "prompt": "Grüße, 世界"}${"\n".repeat(200)}`,
  },
  { kind: "scalar", step: 0, tag: "eval/loss", value: 0.25 },
  { kind: "scalar", step: 10, tag: "train/rewards/chosen", value: -1.2345678 },
  { kind: "scalar", step: 128, tag: "train/grad_norm", value: NaN },
  { kind: "start", step: 5_000_000_000 },
  { kind: "scalar", step: 5_000_000_000, tag: "train/num_input_tokens_seen", value: 123456789 },
];

Deno.test("an event file has the bytes that TensorBoard's own writer gives it", () => {
  const bytes = EVENTS.flatMap((event, i) => [...eventRecord(event, 1.7e9 + i / 4)]);
  assert.deepEqual(new Uint8Array(bytes), Uint8Array.fromBase64(golden.base64));
});

Deno.test("figures have the tags of transformers' TensorBoardCallback", () => {
  assert.deepEqual(
    ["loss", "rewards/chosen", "eval_loss", "eval_rewards/margins", "epoch"].map(tagOf),
    ["train/loss", "train/rewards/chosen", "eval/loss", "eval/rewards/margins", "train/epoch"],
  );
});
