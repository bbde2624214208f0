import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { netOf } from "../../lib/models/models.ts";
import { Decoder, type DecoderOptions } from "../../lib/graph/decoder.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN, MODELS, readGolden, relativeDifference } from "../golden_run.ts";

const LARGEST = 2 ** 27;

Deno.test(
  "weights stored as the bfloat16 that they were saved as give the same bits of logits",
  async () => {
    const gpu = await openGpu();
    const pipelines = new Pipelines(gpu);
    const model = MODELS[1];
    const { pairs } = await readGolden(model);
    const net = netOf(await readModelConfig(`${GOLDEN}/${model}`));
    const checkpoint = await openCheckpoint(`${GOLDEN}/${model}`);
    const capacity = {
      tokens: 128,
      labels: 128,
      pairs: 1,
      positions: 96,
      logitsBytes: LARGEST,
      checkpointing: false,
    };
    const sequence = { ids: [...pairs[0].chosen.ids, 0], promptLength: 1 };
    const batch = {
      ...pack([{ chosen: sequence, truncated: false, where: "" }], net.windows),
      pairs: 0,
    };
    const load = async (options: Pick<DecoderOptions, "weights">) => {
      const decoder = new Decoder(net, capacity, {
        largestBuffer: LARGEST,
        loss: wgslOf(losses.simper),
        training: false,
        ...options,
      });
      await decoder.allocate(gpu, pipelines);
      await decoder.parameters.load(gpu, checkpoint);
      const logits = await decoder.logits(gpu, batch);
      const name = "model.embed_tokens.weight";
      const embedding = await decoder.parameters.read(gpu, name);
      assertEqualBytes(embedding, await checkpoint.readF32(name));
      const bytes = decoder.plan.bytesOf("weights");
      decoder.destroy();
      return { logits, bytes };
    };
    const exact = await load({});
    const bf16 = await load({ weights: "bf16" });
    assertEqualBytes(bf16.logits, exact.logits);
    // All but the norms, and the down projections, whose rows of 62 are no multiple of 4.
    assert.ok(bf16.bytes < 0.8 * exact.bytes, `${bf16.bytes}, ${exact.bytes}`);
    // These weights are of float16's normal range, with fewer digits.
    assert.ok(relativeDifference((await load({ weights: "f16" })).logits, exact.logits) < 1e-6);
    await checkpoint.close();
    gpu.check();
    gpu.destroy();
  },
);
