/** What comes token by token from a cache of keys is what whole rows say, in every architecture. */
import assert from "node:assert/strict";
import { CachedDecoder, nextTokenBatch } from "../../lib/generation/cached_decoder.ts";
import { attentionTiles, BUFFER_TILES, onlyTile } from "../../lib/gpu/tuning.ts";
import type { Pipelines } from "../../lib/gpu/program.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import { simper } from "../../lib/losses/simper.ts";
import { netOf } from "../../lib/models/models.ts";
import { openModel } from "../../lib/weights/weights.ts";
import { readGolden } from "../golden_run.ts";
import { deviceTest, useGpu } from "../kernels/harness.ts";

const FOLDER = "tests/golden/models";
const { pairs } = await readGolden("untied");
const largestBuffer = 2 ** 27;
const tiles = onlyTile(BUFFER_TILES["storage 8x8"]);
const attention = attentionTiles("software");

/** Runs `body` with both ways over the same weights. */
async function withBoth(
  pipelines: Pipelines,
  name: string,
  positions: number,
  body: (
    cached: CachedDecoder,
    whole: (ids: readonly number[], count: number) => Promise<number[]>,
  ) => Promise<void>,
) {
  const { gpu } = pipelines;
  const weights = await openModel(`${FOLDER}/${name}`);
  const capacity = {
    tokens: positions,
    labels: 1,
    pairs: 1,
    positions,
    logitsBytes: 2 ** 20,
    checkpointing: false,
  };
  const options = { largestBuffer, loss: simper.wgsl, training: false, tiles, attention };
  const decoder = new Decoder(netOf(weights.model), capacity, options);
  const cached = new CachedDecoder(decoder.net, decoder.parameters, {
    positions,
    largestBuffer,
    device: "software",
    tiles,
    attention,
  });
  try {
    await decoder.allocate(gpu, pipelines);
    await cached.allocate(gpu, pipelines);
    await decoder.parameters.load(gpu, weights);
    await body(cached, async (ids, count) => {
      const row = [...ids];
      while (row.length < ids.length + count) {
        const logits = await decoder.logits(gpu, nextTokenBatch(row, decoder.net.windows));
        row.push(logits.reduce((best, logit, id) => logit > logits[best] ? id : best, 0));
      }
      return row.slice(ids.length);
    });
  } finally {
    await weights.close();
    cached.destroy();
    decoder.destroy();
  }
}

useGpu();
// Windows, layers without rotation, caps, norms of keys, rotation of a part, parallel blocks, one head of keys for all queries. Others
// differ in nothing that a cache knows.
for (const name of ["cohere2", "exaone4", "falcon", "gemma2", "gpt_neox", "qwen3"]) {
  deviceTest(
    `${name}: tokens from a cache of keys are those of whole rows`,
    (pipelines) =>
      withBoth(pipelines, name, 64, async (cached, whole) => {
        // Longer than any window of these models.
        const prompt = pairs[0].chosen.ids.slice(0, 40);
        assert.deepEqual(await cached.next(pipelines.gpu, prompt, 8), await whole(prompt, 8));
      }),
  );
}
