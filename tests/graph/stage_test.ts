/** Stages of a pipeline, one after the other in one process: they are the whole, bit for bit. */
import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { packedSize, type Pair } from "../../lib/data/pair.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines, readTensor, writeTensor } from "../../lib/gpu/program.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import type { Capacity } from "../../lib/graph/machine.ts";
import type { Net } from "../../lib/graph/net.ts";
import { layersOfStage, stageNet } from "../../lib/graph/stage.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import { parseModelConfig } from "../../lib/models/config.ts";
import { netOf } from "../../lib/models/models.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { assertSame } from "../equal_bytes.ts";
import { GOLDEN, readGolden } from "../golden_run.ts";
import { sharedGpu } from "../shared_gpu.ts";

const WITH: readonly [name: string, change: Partial<Capacity>][] = [
  ["all activations kept", {}],
  ["layers run again", { checkpointing: true }],
  ["layers run again from rounded inputs", { checkpointing: true, keptStorage: "bf16" }],
];

Deno.test("two stages leave the bits of the whole model: log-probabilities, loss and gradients", async (t) => {
  const gpu = await openGpu({ gpu: sharedGpu });
  const pipelines = new Pipelines(gpu);
  const folder = `${GOLDEN}/untied`;
  const config = await readModelConfig(folder);
  const { pairs } = await readGolden("untied");
  const micro = [pairs.slice(0, 2), pairs.slice(2, 3)];
  const sizes = micro.map((pairs) => pairs.map(packedSize));
  const most = (of: "tokens" | "labels") =>
    Math.max(...sizes.map((all) => all.reduce((sum, size) => sum + size[of], 0)));
  const open = async (net: Net, change: Partial<Capacity>) => {
    const decoder = new Decoder(net, {
      ...{ tokens: most("tokens"), labels: most("labels"), pairs: 2, positions: 96, logitsBytes: 2 ** 27 },
      checkpointing: false,
      ...change,
    }, { largestBuffer: 2 ** 27, loss: wgslOf(losses.simper), training: true });
    await decoder.allocate(gpu, pipelines);
    assert.equal(decoder.plan.allocatedBytes, decoder.plan.bytes);
    const checkpoint = await openCheckpoint(folder);
    await decoder.load(gpu, checkpoint);
    await checkpoint.close();
    return decoder;
  };
  for (const [name, change] of WITH) {
    await t.step(name, async () => {
      const whole = await open(netOf(config), change);
      const net = netOf(config);
      const stages = [await open(stageNet(net, [0, 1]), change), await open(stageNet(net, [1, 2]), change)];
      for (const [index, pairs] of micro.entries()) {
        const [expected] = await passes([whole], pairs, index);
        assertSame(await passes(stages, pairs, index), [expected]);
      }
      const all = stages.flatMap(({ parameters }) =>
        parameters.names.map((name) => [name, parameters] as const)
      );
      assert.deepEqual(all.map(([name]) => name).sort(), whole.parameters.names.toSorted());
      for (const [name, parameters] of all) {
        assertSame(
          await parameters.read(gpu, name, "gradients"),
          await whole.parameters.read(gpu, name, "gradients"),
          name,
        );
      }
      for (const decoder of [whole, ...stages]) decoder.destroy();
    });
  }

  /** Both passes of a batch through all stages; the results of its pairs. */
  async function passes(stages: readonly Decoder[], pairs: Pair[], index: number): Promise<Float32Array[]> {
    const batch = pack(pairs, stages[0].net.windows);
    const submit = (encode: (encoder: GPUCommandEncoder) => void) => {
      const encoder = gpu.device.createCommandEncoder();
      encode(encoder);
      gpu.device.queue.submit([encoder.finish()]);
    };
    let between = new Float32Array();
    for (const decoder of stages) {
      const { received, sent } = decoder.boundaries;
      decoder.upload(gpu, batch, { firstOfStep: index === 0, pairsOfStep: 3 });
      if (received) writeTensor(gpu, received, between);
      submit((encoder) => decoder.encodeForward(encoder));
      if (sent) between = new Float32Array(await readTensor(gpu, sent, 0, between.length || undefined));
    }
    const results = new Float32Array(
      await readTensor(gpu, stages.at(-1)!.batch.results, 0, 4 * pairs.length),
    );
    for (const decoder of stages.toReversed()) {
      const { received, sent } = decoder.boundaries;
      if (sent) writeTensor(gpu, sent, between);
      submit((encoder) => decoder.encodeBackward(encoder));
      if (received) between = new Float32Array(await readTensor(gpu, received));
    }
    return [results];
  }
});

Deno.test("the slowest stage has as little to do as can be, the head counted, and each has a layer", () => {
  const llama = netOf(parseModelConfig({
    ...{ model_type: "llama", architectures: ["LlamaForCausalLM"], vocab_size: 128_256, hidden_size: 4096 },
    ...{ intermediate_size: 14_336, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8 },
  }, "config.json"));
  const layers = (net: Net, stages: number) =>
    Array.from({ length: stages }, (_, stage) => layersOfStage(net, { stage, stages }));
  assert.deepEqual(layers(llama, 4).map(([from, to]) => to - from), [7, 9, 9, 7]);
  assert.deepEqual(layers(llama, 2), [[0, 17], [17, 32]]);
  assert.deepEqual(layers(llama, 1), [[0, 32]]);
  assert.deepEqual(layers(llama, 32), Array.from({ length: 32 }, (_, i) => [i, i + 1]));
  const parts = layers(llama, 4).map((range) => stageNet(llama, range).parameters);
  assert.deepEqual(parts.flat(), llama.parameters);
});
