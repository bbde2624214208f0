import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { readConfig } from "../../lib/config/parse.ts";
import { packedSize } from "../../lib/data/pair.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines, readTensor } from "../../lib/gpu/program.ts";
import { BUFFER_TILES, onlyTile } from "../../lib/gpu/tuning.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import { storeFrozen } from "../../lib/planning/frozen_storage.ts";
import { netToTrain } from "../../lib/planning/roles.ts";
import { parameterCount } from "../../lib/parameters/parameter.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import golden from "../golden/quantized/step.json" with { type: "json" };
import { GOLDEN, readGolden, relativeDifference } from "../golden_run.ts";
import { sharedGpu } from "../shared_gpu.ts";

const LARGEST = 2 ** 27;
const KEYS = {
  "nf4": ["--load_in_4bit=true"],
  "fp4 double": ["--load_in_4bit=true", "--bnb_4bit_quant_type=fp4", "--use_bnb_nested_quant=true"],
  "int8": ["--load_in_8bit=true"],
};

Deno.test("a step over frozen weights in 4 and 8 bits is PyTorch's over what bitsandbytes makes of them", async () => {
  const gpu = await openGpu({ gpu: sharedGpu });
  const pipelines = new Pipelines(gpu);
  const model = await readModelConfig(`${GOLDEN}/untied`);
  const pairs = (await readGolden("untied")).pairs.slice(0, 4);
  const checkpoint = await openCheckpoint(`${GOLDEN}/untied`);
  const norms = ["model.norm", "model.layers.+norm"];
  const sizes = pairs.map(packedSize);
  for (const [name, keys] of Object.entries(KEYS)) {
    const words = [...keys, `--unfrozen_parameters=${JSON.stringify(norms)}`];
    const { config } = await readConfig(`${GOLDEN}/run.yaml`, words);
    const net = storeFrozen(netToTrain(model, norms), model, config);
    const decoder = new Decoder(net, {
      tokens: sizes.reduce((sum, { tokens }) => sum + tokens, 0),
      labels: sizes.reduce((sum, { labels }) => sum + labels, 0),
      pairs: pairs.length,
      positions: 96,
      logitsBytes: LARGEST,
      checkpointing: false,
    }, {
      largestBuffer: LARGEST,
      loss: wgslOf(losses.simper),
      training: true,
      tiles: onlyTile(BUFFER_TILES["storage 8x8"]),
    });
    await decoder.allocate(gpu, pipelines);
    await decoder.load(gpu, checkpoint);
    decoder.upload(gpu, pack(pairs, net.windows), { firstOfStep: true, pairsOfStep: pairs.length });
    const encoder = gpu.device.createCommandEncoder();
    decoder.encodeForward(encoder);
    decoder.encodeBackward(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    const { means, gradients } = golden[name as keyof typeof golden];
    const results = new Float32Array(await readTensor(gpu, decoder.batch.results));
    const found = pairs.flatMap(({ chosen, rejected }, i) =>
      [chosen, rejected!].map(({ ids, promptLength }, side) =>
        results[4 * i + 1 + side] / (ids.length - promptLength)
      )
    );
    assert.ok(relativeDifference(found, means.flat()) < 1e-5, name);
    for (const [parameter, expected] of Object.entries(gradients)) {
      const gradient = await decoder.parameters.read(gpu, parameter, "gradients");
      assert.ok(relativeDifference(gradient, expected) < 1e-5, `${name}: ${parameter}`);
    }
    const quantized = decoder.parameters.list.filter(({ weights }) => weights.quantized);
    assert.equal(quantized.length, 6, "queries, keys and values; o; gate and up, of two layers");
    // The embedding's rows come with the batch.
    assert.equal(decoder.parameters.hostBytes, 4 * 303 * 48);
    assert.equal(decoder.parameters.count, parameterCount(net.parameters));
    decoder.destroy();
  }
  await checkpoint.close();
  gpu.check();
  gpu.destroy();
});
