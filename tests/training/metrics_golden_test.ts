/** Figures of whole models beside PyTorch's: tests/golden/figures.json, made by figures.py there. */
import assert from "node:assert/strict";
import { gunzipSync } from "node:zlib";
import type { Pair } from "../../lib/data/pair.ts";
import { loadModel } from "../../lib/generation/model.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import { netOf } from "../../lib/models/models.ts";
import { evaluate } from "../../lib/training/evaluate.ts";
import { type Metrics, summarize } from "../../lib/training/metrics.ts";
import { openModel } from "../../lib/weights/weights.ts";
import { readGolden } from "../golden_run.ts";
import { deviceTest, useGpu } from "../kernels/harness.ts";

const golden: Record<string, Record<string, number>> = JSON.parse(
  await Deno.readTextFile("tests/golden/figures.json"),
);
const TINY = "configs/tiny/model";
const { [TINY]: tiny, ...others } = golden;

function assertFigures(metrics: Metrics, expected: Record<string, number>): void {
  for (const [name, value] of Object.entries(expected)) {
    const found = metrics[name as keyof Metrics]!;
    // A share of labels is exact, whatever the order of its sum; mean logits are of rows that nearly cancel.
    const tolerance = name === "mean_token_accuracy" ? 1e-12 : 3e-6 * Math.max(Math.abs(value), 0.1);
    assert.ok(Math.abs(found - value) <= tolerance, `${name}: ${found}, PyTorch ${value}`);
  }
}

useGpu();
for (const [name, expected] of Object.entries(others)) {
  deviceTest(`${name}: the figures of its pairs are PyTorch's, in batches of any size`, async (pipelines) => {
    const { gpu } = pipelines;
    const { pairs } = await readGolden("untied");
    const weights = await openModel(name);
    const decoder = new Decoder(netOf(weights.model), {
      // Several pieces of logits.
      ...{ tokens: 512, labels: 512, pairs: 4, positions: 128, logitsBytes: 2 ** 17, checkpointing: false },
    }, { largestBuffer: 2 ** 27, loss: wgslOf(losses.simper), eosTokenId: 2, training: false });
    try {
      await decoder.allocate(gpu, pipelines);
      await decoder.parameters.load(gpu, weights);
      const store = {
        length: pairs.length,
        read: (indices: readonly number[]): Promise<Pair[]> =>
          Promise.resolve(indices.map((index) => pairs[index])),
      };
      for (const perBatch of [1, 4]) {
        assertFigures(summarize((await evaluate(gpu, decoder, store, perBatch))!), expected);
      }
    } finally {
      await weights.close();
      decoder.destroy();
    }
  });
}

Deno.test("the figures of a trained model's own pairs are PyTorch's, from its texts on", async () => {
  const lines = gunzipSync(await Deno.readFile("configs/tiny/preferences/test.jsonl.gz")).toString().split(
    "\n",
  );
  await using model = await loadModel(TINY, { maxLength: 128 });
  const rows = lines.slice(0, 4).map((line) => JSON.parse(line));
  assert.ok(
    tiny.mean_token_accuracy > 0.3 && tiny["eos/probability"] > 0.3,
    "a figure that tells something",
  );
  assertFigures(await model.evaluate(rows), tiny);
});
