import assert from "node:assert/strict";
import { planTrainer, randomPair, TINY_LLAMA } from "../../bench/models.ts";
import { pack } from "../../lib/batch/pack.ts";
import { alone, type Communicator } from "../../lib/distributed/communicator.ts";
import { GradientSums } from "../../lib/distributed/gradients.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { Submissions } from "../../lib/gpu/submissions.ts";
import { losses } from "../../lib/losses/losses.ts";
import { normal } from "../../lib/random.ts";
import { assertEqualBytes } from "../equal_bytes.ts";

const config = { ...TINY_LLAMA, vocabSize: 256, hiddenSize: 64, intermediateSize: 96, numHiddenLayers: 2 };
const pair = randomPair({ prefix: 12, chosen: 10, rejected: 8 }, config.vocabSize, 1);

/** A line to one other rank, whose gradients are as many times this one's. */
function lineTo(times: number, heard: () => void): Communicator {
  const floatsOf = ({ buffer, byteOffset, byteLength }: Uint8Array) =>
    new Float32Array(buffer, byteOffset, byteLength / 4);
  const waiting: Float32Array[] = [];
  return {
    ...alone,
    size: 2,
    allToAll(parts, into) {
      heard();
      const own = floatsOf(parts);
      const [ownPart, theirPart] = [own.slice(0, own.length / 2), own.slice(own.length / 2)];
      waiting.push(theirPart.map((value) => (1 + times) * value));
      floatsOf(into).set([...ownPart, ...ownPart.map((value) => times * value)]);
      return Promise.resolve();
    },
    allGather(sums, into) {
      floatsOf(into!).set([...floatsOf(sums), ...waiting.shift()!]);
      return Promise.resolve([]);
    },
  };
}

Deno.test("pieces of the gradients are summed while those after them are computed, and the sums lie where gradients did", async () => {
  const gpu = await openGpu();
  const { decoder } = planTrainer(gpu, config, losses.simper, [[pair]], { slots: 1 });
  try {
    const pipelines = new Pipelines(gpu);
    const { parameters, batch: { rowCounts } } = decoder;
    const sums = new GradientSums(decoder.plan, decoder.backward, parameters, 2);
    await decoder.allocate(gpu, pipelines);
    await sums.compile(pipelines);
    parameters.initialize(gpu, normal(1), 0.1);
    decoder.upload(gpu, pack([pair]), { firstOfStep: true, pairsOfStep: 1 });
    const order: string[] = [];
    class Ordered extends Submissions {
      override submit() {
        super.submit();
        order.push("pass");
      }
    }
    const commands = new Ordered({ ...gpu, isSoftware: false });
    const gradients = () =>
      Promise.all(parameters.names.map((name) => parameters.read(gpu, name, "gradients")));
    decoder.encodeForward(commands.encoder);
    decoder.encodeBackward(commands.encoder);
    commands.submit();
    const alone = await gradients();
    order.splice(0);
    decoder.encodeForward(commands.encoder);
    commands.submit();
    await sums.sum(lineTo(3, () => order.push("sum")), rowCounts.counts, commands);
    const pieces = order.filter((what) => what === "sum").length;
    assert.ok(pieces >= 8, `${pieces}`);
    // The pass before, and as many pieces as are on their way at once.
    const staged = Math.ceil(pieces / 2);
    assert.deepEqual(order, [
      ...Array(1 + staged).fill("pass"),
      ...Array(pieces - staged).fill(["sum", "pass"]).flat(),
      ...Array(staged).fill("sum"),
    ]);
    for (const [i, found] of (await gradients()).entries()) {
      assert.ok(found.some((value) => value !== 0));
      assertEqualBytes(found, alone[i].map((value) => 4 * value));
    }
  } finally {
    decoder.destroy();
    gpu.destroy();
  }
});
