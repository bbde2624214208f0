/** Rotary tables that follow from a batch. */
import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines, readTensor } from "../../lib/gpu/program.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import { Net } from "../../lib/graph/net.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import { type RopeSpec, ropeTable } from "../../lib/graph/rope_table.ts";
import { uniform } from "../../lib/random.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { pairOf } from "../random_pairs.ts";
import { sharedGpu } from "../shared_gpu.ts";

const POSITIONS = 16;
const common = { theta: 100, dimensions: 4, interleaved: false };
const ROPES: RopeSpec[] = [
  { ...common, type: "default" },
  { ...common, type: "dynamic", factor: 2, maxPositionEmbeddings: 8 },
  {
    ...common,
    type: "longrope",
    attentionFactor: 1.5,
    shortFactor: [1, 2],
    longFactor: [3, 4],
    originalMaxPositionEmbeddings: 8,
  },
];

Deno.test("each rotation has one table, and it follows the longest sequence of the batch", async () => {
  const gpu = await openGpu({ gpu: sharedGpu });
  const net = new Net();
  const shape = { heads: 1, keyValueHeads: 1, headDim: 4 };
  let x = net.embedding("embed", 50, 12);
  for (const [l, spec] of [...ROPES, ...ROPES].entries()) {
    x = net.layer(`layers.${l}`, x, (x) => net.rope(x, shape, { ...spec }));
  }
  net.labels(x, { name: "norm", kind: "rms", epsilon: 1e-5 }, { name: "head", rows: 50 });
  assert.deepEqual(net.ropes, ROPES);
  const decoder = new Decoder(
    net,
    { tokens: 32, labels: 32, pairs: 2, positions: POSITIONS, logitsBytes: 1, checkpointing: false },
    { largestBuffer: 2 ** 27, loss: wgslOf(losses.simper), training: false },
  );
  await decoder.allocate(gpu, new Pipelines(gpu));
  const short = pairOf(uniform(1), { prefix: 2, chosen: 3, rejected: 4 });
  // The longest sequence counts for all of its batch: 7 tokens, 10, 13, and 7 again.
  const batches = [[short], [short, pairOf(uniform(2), { prefix: 3, chosen: 2, rejected: 6 })], [
    pairOf(uniform(3), { prefix: 6, chosen: 6, rejected: 2 }),
  ], [short]];
  for (const pairs of batches) {
    decoder.upload(gpu, pack(pairs), { firstOfStep: true, pairsOfStep: pairs.length });
    gpu.device.queue.submit([]);
    const longest = Math.max(
      ...pairs.flatMap(({ chosen, rejected }) => [chosen, rejected!]).map(({ ids }) => ids.length),
    );
    for (const [i, spec] of ROPES.entries()) {
      const found = new Float32Array(await readTensor(gpu, decoder.batch.cosSin[i], 0, POSITIONS * 4));
      assertEqualBytes(found, ropeTable(spec, POSITIONS, longest), `${spec.type}, ${longest} tokens`);
    }
  }
  decoder.destroy();
  gpu.destroy();
});
