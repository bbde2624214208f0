/**
 * Adapters in the graph: gradients beside differences of the loss, however the pass is planned, and nothing below the
 * lowest of them.
 */
import assert from "node:assert/strict";
import { adapt } from "../../lib/adapters/adapt.ts";
import { chooseModules } from "../../lib/adapters/modules.ts";
import type { AdapterKeys } from "../../lib/adapters/settings.ts";
import { withNewAdapters } from "../../lib/adapters/start.ts";
import { pack } from "../../lib/batch/pack.ts";
import { packedSize, type Pair } from "../../lib/data/pair.ts";
import { type Gpu, openGpu } from "../../lib/gpu/device.ts";
import { Pipelines, readTensor, writeTensor } from "../../lib/gpu/program.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import type { Capacity } from "../../lib/graph/machine.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import { netOf } from "../../lib/models/models.ts";
import { normal } from "../../lib/random.ts";
import { openModel } from "../../lib/weights/weights.ts";
import { assertSame } from "../equal_bytes.ts";
import { BUFFER_TILES, onlyTile } from "../../lib/gpu/tuning.ts";
import type { ModelConfig } from "../../lib/models/architecture.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { GOLDEN, readGolden, relativeDifference } from "../golden_run.ts";
import { sharedGpu } from "../shared_gpu.ts";

const MODEL = `${GOLDEN}/untied`;
const KEYS: AdapterKeys = {
  loraR: 4,
  loraAlpha: 8,
  loraDropout: 0,
  loraTargetModules: ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
  loraModulesToSave: undefined,
  useRslora: false,
  useDora: false,
  loraTaskType: "CAUSAL_LM",
};

interface Change extends Partial<Capacity> {
  keys?: Partial<AdapterKeys>;
  fuses?: boolean;
}

/**
 * A decoder with random weights and adapters away from 0 on the GPU, with NaN wherever it has to write before it
 * reads, and with everything fused that can be, or nothing.
 */
async function open(
  gpu: Gpu,
  pipelines: Pipelines,
  pairs: Pair[],
  { keys, fuses = true, ...change }: Change,
): Promise<Decoder> {
  // So wide that products take the gated activation.
  const model: ModelConfig = { ...await readModelConfig(MODEL), intermediateSize: 64 } as ModelConfig;
  const net = netOf(model);
  adapt(net, chooseModules(net, model, { ...KEYS, ...keys }));
  const sum = (of: "tokens" | "labels") => pairs.reduce((total, pair) => total + packedSize(pair)[of], 0);
  const capacity = {
    tokens: sum("tokens"),
    labels: sum("labels"),
    pairs: pairs.length,
    positions: 96,
    logitsBytes: 64 * 304 * 4,
    checkpointing: false,
    ...change,
  };
  const decoder = new Decoder(net, capacity, {
    largestBuffer: 2 ** 27,
    loss: wgslOf(losses.sft),
    training: true,
    tiles: onlyTile(BUFFER_TILES["workgroup 8x8 of 8x8"], { fuses }),
  });
  await decoder.allocate(gpu, pipelines);
  assert.equal(decoder.plan.allocatedBytes, decoder.plan.bytes);
  const next = normal(5);
  decoder.parameters.initialize(gpu, next, 0.08);
  for (const { spec, weights, rows } of decoder.parameters.trainedList) {
    // As long as rows are.
    if (!spec.name.includes("magnitude")) continue;
    writeTensor(gpu, weights, Float32Array.from({ length: rows }, () => 0.6 + 0.05 * next()));
  }
  for (const { buffer, bytes, purpose } of decoder.plan.slabs) {
    if (purpose === "scratch") {
      gpu.device.queue.writeBuffer(buffer!, 0, new Float32Array(bytes / 4).fill(NaN));
    }
  }
  return decoder;
}

/** The mean loss of a batch, and, by name, its gradients. */
async function pass(gpu: Gpu, decoder: Decoder, pairs: Pair[], dropoutKey = 0) {
  const batch = pack(pairs, decoder.net.windows);
  decoder.upload(gpu, batch, { firstOfStep: true, pairsOfStep: pairs.length, dropoutKey });
  const encoder = gpu.device.createCommandEncoder();
  decoder.encodeForward(encoder);
  decoder.encodeBackward(encoder);
  gpu.device.queue.submit([encoder.finish()]);
  const results = new Float32Array(await readTensor(gpu, decoder.batch.results, 0, 4 * pairs.length));
  const { parameters } = decoder;
  const gradients = new Map<string, Float32Array>();
  for (const name of parameters.namesOf("gradients")) {
    gradients.set(name, await parameters.read(gpu, name, "gradients"));
  }
  const loss = pairs.reduce((sum, _, pair) => sum + results[4 * pair], 0) / pairs.length;
  return { loss, gradients };
}

/** The length of the gradient, and the same by how the loss changes along it. */
async function slopes(gpu: Gpu, decoder: Decoder, pairs: Pair[], of: RegExp, dropoutKey = 0) {
  const { trainedList } = decoder.parameters;
  const moved = trainedList.filter(({ spec }) => of.test(spec.name));
  await pass(gpu, decoder, pairs, dropoutKey);
  const read = async (tensor: (typeof moved)[number]["weights"], { rows, spec }: (typeof moved)[number]) =>
    new Float32Array(await readTensor(gpu, tensor, 0, rows * spec.columns));
  const at = await Promise.all(moved.map(async (parameter) => ({
    parameter,
    weights: await read(parameter.weights, parameter),
    gradient: await read(parameter.gradients, parameter),
  })));
  const length = Math.hypot(...at.flatMap(({ gradient }) => [...gradient]));
  assert.ok(length > 0);
  const step = 2e-2 / length;
  const lossAt = async (distance: number) => {
    for (const { parameter, weights, gradient } of at) {
      writeTensor(gpu, parameter.weights, weights.map((w, i) => w + distance * gradient[i] / length));
    }
    return (await pass(gpu, decoder, pairs, dropoutKey)).loss;
  };
  const [above, below] = [await lossAt(step), await lossAt(-step)];
  await lossAt(0);
  return { found: length, expected: (above - below) / (2 * step) };
}

Deno.test("gradients of adapters are how the loss changes, and the same bits however the pass is planned", async (t) => {
  const gpu = await openGpu({ gpu: sharedGpu });
  const pipelines = new Pipelines(gpu);
  const pairs = (await readGolden("untied")).pairs.slice(0, 2);
  const variants: Record<string, Partial<AdapterKeys>> = {
    "DoRA with dropout": { useDora: true, loraDropout: 0.3 },
    "LoRA with dropout": { loraDropout: 0.3 },
  };
  for (const [name, keys] of Object.entries(variants)) {
    await t.step(name, async () => {
      const decoder = await open(gpu, pipelines, pairs, { keys });
      // Each module draws for itself, as PEFT's; of DoRA those that are one matrix draw together.
      const places = decoder.forward.flatMap(({ label, source }) =>
        label === "dropout" ? [/PLACE = (\d+)u/.exec(source)![1]] : []
      );
      assert.equal(new Set(places).size, keys.useDora ? 8 : 10);
      const passes = [];
      for (const key of [0, 7, 7, 8]) passes.push(await pass(gpu, decoder, pairs, key));
      const [none, one, same, other] = passes;
      assert.equal(one.loss, same.loss);
      assertSame(one.gradients, same.gradients);
      assert.ok(new Set([none, one, other].map(({ loss }) => loss)).size === 3);
      // DoRA's gradients of the factors pass over the lengths, which they change too.
      for (const of of keys.useDora ? [/magnitude/] : [/lora_A/, /lora_B/]) {
        const { found, expected } = await slopes(gpu, decoder, pairs, of, 7);
        assert.ok(Math.abs(found - expected) < 4e-3 * found, `${of}: ${found}, the loss says ${expected}`);
      }
      decoder.destroy();
      const again = async (change: Change) => {
        const changed = await open(gpu, pipelines, pairs, { keys, ...change });
        const { gradients } = await pass(gpu, changed, pairs, 7);
        changed.destroy();
        return gradients;
      };
      assertSame(await again({ checkpointing: true }), one.gradients);
      for (const [change, most] of [[{ keptStorage: "bf16" }, 0.05], [{ fuses: false }, 1e-5]] as const) {
        for (const [name, values] of await again(change)) {
          const difference = relativeDifference(values, one.gradients.get(name)!);
          assert.ok(difference < most, `${name}, ${JSON.stringify(change)}: ${difference}`);
        }
      }
    });
  }
  gpu.destroy();
});

Deno.test("nothing is computed below the lowest adapter, and no gradient or moment kept of a frozen weight", async () => {
  const gpu = await openGpu({ gpu: sharedGpu });
  const pipelines = new Pipelines(gpu);
  const pairs = (await readGolden("untied")).pairs.slice(0, 1);
  const decoder = await open(gpu, pipelines, pairs, {
    keys: { loraTargetModules: "model\\.layers\\.1\\.self_attn\\.[qv]_proj" },
  });
  const { parameters, backward, kernelsPerLayer, plan } = decoder;
  assert.equal(kernelsPerLayer.backward, 0);
  assert.deepEqual(
    parameters.trainedList.map(({ spec }) => spec.name).sort(),
    [
      "model.layers.1.self_attn.{q,v}_proj.lora_A.weight",
      "model.layers.1.self_attn.{q,v}_proj.lora_B.weight",
    ],
  );
  assert.deepEqual(["gradients", "moments"].map((purpose) => plan.bytesOf(purpose as "moments")), [
    2 * 4 * 4096,
    2 * 8 * 4096,
  ]);
  // Of the first factors, and of the block of the second ones.
  assert.equal(backward.filter(({ label }) => label.startsWith("gemm_tn")).length, 2);
  assert.ok(!backward.some(({ label }) => /norm_weight|embed|bias/.test(label)));
  // What a product does as it stores is done to the sum of both.
  const fused = (kind: string) => decoder.forward.filter(({ label }) => label.endsWith(`+ ${kind}`)).length;
  assert.deepEqual([fused("rope"), fused("glu")], [2, 2]);
  decoder.destroy();
  gpu.destroy();
});

Deno.test("new adapters are PEFT's: uniform first factors, second ones of 0, and the lengths of rows", async () => {
  const weights = await openModel(MODEL);
  const net = netOf(weights.model);
  adapt(net, chooseModules(net, weights.model, { ...KEYS, useDora: true }));
  const reader = withNewAdapters(weights, net, 3);
  const module = "model.layers.1.mlp.down_proj";
  const a = await reader.readF32(`${module}.lora_A.weight`);
  const bound = 1 / Math.sqrt(62);
  assert.equal(a.length, 4 * 62);
  assert.ok(a.every((value) => Math.abs(value) <= bound) && a.some((value) => value > 0.9 * bound));
  const mean = a.reduce((sum, value) => sum + value, 0) / a.length;
  assert.ok(Math.abs(mean) < 0.2 * bound && new Set(a).size > 240);
  const other = await reader.readF32("model.layers.0.mlp.down_proj.lora_A.weight");
  assert.ok(relativeDifference(other, a) > 0.5);
  assert.ok((await reader.readF32(`${module}.lora_B.weight`)).every((value) => value === 0));
  await weights.close();

  const gpu = await openGpu({ gpu: sharedGpu });
  const pipelines = new Pipelines(gpu);
  const pairs = (await readGolden("untied")).pairs.slice(0, 1);
  const decoder = await open(gpu, pipelines, pairs, { keys: { useDora: true } });
  const { parameters } = decoder;
  for (const { spec, weights, rows } of parameters.trainedList) {
    if (spec.name.includes("lora_B")) writeTensor(gpu, weights, new Float32Array(rows * spec.columns));
  }
  await decoder.measureMagnitudes(gpu, pipelines);
  for (const name of ["model.layers.1.self_attn.v_proj", module]) {
    const matrix = await parameters.read(gpu, `${name}.weight`);
    const lengths = await parameters.read(gpu, `${name}.lora_magnitude_vector`);
    const columns = matrix.length / lengths.length;
    const expected = lengths.map((_, i) => Math.hypot(...matrix.subarray(i * columns, (i + 1) * columns)));
    assert.ok(relativeDifference(lengths, expected) < 1e-6, name);
  }
  decoder.destroy();
  gpu.destroy();
});
