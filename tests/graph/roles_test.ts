/** Frozen parameters: the others' gradients keep their bits, and nothing is computed or planned for what is frozen. */
import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { packedSize, type Pair } from "../../lib/data/pair.ts";
import { type Gpu, openGpu } from "../../lib/gpu/device.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import { sizeOf } from "../../lib/batch/size.ts";
import { forwardFlops, trainingFlops } from "../../lib/graph/flops.ts";
import type { Capacity } from "../../lib/graph/machine.ts";
import type { ParameterSpec } from "../../lib/parameters/parameter.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { netOf } from "../../lib/models/models.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { adamw } from "../../lib/optimizers/adamw.ts";
import { Optimizer } from "../../lib/training/optimizer.ts";
import { StepRunner } from "../../lib/training/step.ts";
import { assertEqualBytes, assertSame } from "../equal_bytes.ts";
import { GOLDEN, readGolden, relativeDifference } from "../golden_run.ts";
import { sharedGpu } from "../shared_gpu.ts";

const LARGEST = 2 ** 27;
const ADAMW = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, maxGradNorm: 0 };

type IsTrained = (parameter: ParameterSpec) => boolean;
type Change = Partial<Capacity> & { gradients?: "kept" | "passing"; weights?: "bf16" };

async function decoderOf(
  model: string,
  pairs: Pair[],
  isTrained: IsTrained,
  { gradients, weights, ...change }: Change = {},
): Promise<Decoder> {
  const net = netOf(await readModelConfig(`${GOLDEN}/${model}`));
  for (const parameter of net.parameters) parameter.role = isTrained(parameter) ? "trained" : "frozen";
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
  const options = { largestBuffer: LARGEST, loss: wgslOf(losses.simper), training: true, gradients, weights };
  return new Decoder(net, capacity, options);
}

async function load(gpu: Gpu, pipelines: Pipelines, model: string, decoder: Decoder): Promise<void> {
  await decoder.allocate(gpu, pipelines);
  assert.equal(decoder.plan.allocatedBytes, decoder.plan.bytes);
  const checkpoint = await openCheckpoint(`${GOLDEN}/${model}`);
  await decoder.parameters.load(gpu, checkpoint);
  await checkpoint.close();
  // What tensors share, so that what is read before it is written shows.
  for (const { buffer, bytes, purpose } of decoder.plan.slabs) {
    if (purpose === "scratch") {
      gpu.device.queue.writeBuffer(buffer!, 0, new Float32Array(bytes / 4).fill(NaN));
    }
  }
}

/** Gradients of a step of two batches, by checkpoint name. */
async function gradientsOf(
  gpu: Gpu,
  pipelines: Pipelines,
  model: string,
  pairs: Pair[],
  isTrained: IsTrained,
  change?: Change,
): Promise<Map<string, Float32Array>> {
  const decoder = await decoderOf(model, pairs, isTrained, change);
  await load(gpu, pipelines, model, decoder);
  const batches = [pairs.slice(0, 1), pairs.slice(1)];
  for (const [index, batch] of batches.entries()) {
    decoder.upload(gpu, pack(batch, decoder.net.windows), { firstOfStep: index === 0, pairsOfStep: 2 });
    const encoder = gpu.device.createCommandEncoder();
    decoder.encodeForward(encoder);
    decoder.encodeBackward(encoder);
    gpu.device.queue.submit([encoder.finish()]);
  }
  const gradients = new Map<string, Float32Array>();
  for (const name of decoder.parameters.namesOf("gradients")) {
    gradients.set(name, await decoder.parameters.read(gpu, name, "gradients"));
  }
  decoder.destroy();
  return gradients;
}

const named = (pattern: RegExp): IsTrained => ({ name }) => pattern.test(name);
const all: IsTrained = () => true;

/** What is trained, of a model of two layers. */
const SOME: Record<string, IsTrained> = {
  "the last layer": named(/^model\.layers\.1\./),
  "the embedding": named(/embed_tokens/),
  "the head": named(/lm_head/),
  "norms": ({ kind }) => kind === "norm",
  "query, key and value projection of the last layer": named(/^model\.layers\.1\.self_attn\.\{q,k,v\}_proj/),
};
const DOWN = "model.layers.0.mlp.down_proj.weight";

Deno.test("where parameters are frozen, the others' gradients have the bits that they have where none is", async (t) => {
  const gpu = await openGpu({ gpu: sharedGpu });
  const pipelines = new Pipelines(gpu);
  const compare = async (
    name: string,
    model: string,
    some: Record<string, IsTrained>,
    change: Change = {},
  ) => {
    await t.step(`${model}${name}`, async () => {
      const { pairs } = await readGolden("untied");
      const batch = pairs.slice(0, 2);
      const expected = await gradientsOf(gpu, pipelines, model, batch, all, change);
      for (const [what, isTrained] of Object.entries(some)) {
        const found = await gradientsOf(gpu, pipelines, model, batch, isTrained, change);
        assert.ok(found.size > 0 && found.size < expected.size, `${what}: ${found.size} of ${expected.size}`);
        for (const [name, values] of found) {
          const known = expected.get(name)!;
          // What the activation's own backward pass would leave is made as in the forward pass, which rounds otherwise.
          if (what === DOWN) assert.ok(relativeDifference(values, known) < 1e-6, name);
          else assertEqualBytes(values, known, `${name}, of ${what} alone`);
        }
      }
    });
  };
  const down = { [DOWN]: named(/^model\.layers\.0\.mlp\.down_proj/) };
  const { norms } = SOME;
  const last = SOME["the last layer"];
  await compare("", "untied", { ...SOME, ...down });
  await compare(" with checkpointing", "untied", { last, norms, ...down }, { checkpointing: true });
  await compare(" with activations kept as bfloat16", "untied", { last, norms, ...down }, {
    keptStorage: "bf16",
  });
  await compare(" with checkpoints kept as bfloat16", "untied", { last, norms, ...down }, {
    keptStorage: "bf16",
    checkpointing: true,
  });
  await compare(" with frozen weights stored as bfloat16", "tied-llama3-bf16-sharded", {
    last,
    norms,
    embedding: SOME["the embedding"],
  }, {
    weights: "bf16",
  });
  await compare("", "../models/llama-biases", { biases: ({ kind }) => kind === "bias" });
  await compare("", "../models/qwen3", { "norms of heads": named(/\{q,k\}_norm/), last });
  gpu.destroy();
});

Deno.test("nothing is computed or planned for what is frozen", async () => {
  const model = "untied";
  const { pairs } = await readGolden(model);
  const plan = async (isTrained: IsTrained, change?: Change) => {
    const decoder = await decoderOf(model, pairs.slice(0, 2), isTrained, { logitsBytes: LARGEST, ...change });
    const { plan, parameters, backward, forward, net } = decoder;
    const [sums, flops] = [
      ["gradients", "moments"] as const,
      trainingFlops(net, sizeOf(pack(pairs.slice(0, 2)))),
    ];
    const [gradients, moments] = sums.map((purpose) => plan.bytesOf(purpose));
    // Parameters begin at multiples of 4,096 floats.
    const floats = parameters.trainedList.reduce((sum, { blocks }) => sum + 4096 * blocks, 0);
    assert.deepEqual([gradients, moments], [4 * floats, 8 * floats]);
    const labels = backward.map(({ label }) => label.split(" ")[0]);
    return { decoder, labels, flops, bytes: plan.bytes, forward: forward.length };
  };
  const whole = await plan(all);
  const head = await plan(SOME["the head"]);
  assert.deepEqual(head.labels, ["gemm_nt", "logits_backward", "gemm_tn"]);
  const embedding = await plan(SOME["the embedding"]);
  assert.deepEqual(
    embedding.labels.filter((label) => /gemm_tn|weight|column_sums/.test(label)),
    [],
  );
  assert.equal(embedding.labels.filter((label) => label === "rms_norm").length, 0);
  const last = await plan(SOME["the last layer"]);
  assert.equal(last.decoder.kernelsPerLayer.backward, 0);
  const whose = (labels: string[], label: string) => labels.filter((other) => other === label).length;
  assert.equal(whose(last.labels, "gemm_tn"), 4);
  // Not that of the projections, below which nothing is trained but the norm that they read.
  assert.equal(whose(last.labels, "rms_norm_backward"), 2);
  assert.equal(whose(last.labels, "rms_norm_weight_backward"), 2);
  for (const { bytes, labels, flops } of [head, embedding, last]) {
    assert.ok(bytes < whole.bytes && labels.length < whole.labels.length && flops < whole.flops);
  }
  // A product forward, and one for the gradient of the head.
  const { rows, spec: { columns } } = head.decoder.parameters.trainedList[0];
  const size = sizeOf(pack(pairs.slice(0, 2)));
  assert.equal(head.flops - forwardFlops(head.decoder.net, size), 2 * rows * columns * size.labels);

  // What no one reads is not packed either.
  const packed = await plan(SOME["the last layer"], { keptStorage: "bf16" });
  assert.equal(packed.forward, whole.forward);
  const stored = (await plan(SOME["the last layer"], { weights: "bf16" })).decoder.plan.bytesOf("weights");
  assert.ok(stored < 0.8 * whole.decoder.plan.bytesOf("weights"), `${stored}`);
  const none = await plan(() => false);
  assert.deepEqual([none.labels, none.decoder.plan.bytesOf("activations")], [[], 0]);
});

Deno.test("steps leave frozen weights as they are, and the others have the bits that they have where none is", async () => {
  const gpu = await openGpu({ gpu: sharedGpu });
  const pipelines = new Pipelines(gpu);
  const model = "untied";
  const { pairs } = await readGolden(model);
  const batch = pairs.slice(0, 2);
  const weightsAfter = async (
    steps: number,
    isTrained: IsTrained,
    gradients: "kept" | "passing" = "kept",
  ) => {
    const decoder = await decoderOf(model, batch, isTrained, { gradients });
    const optimizer = new Optimizer(decoder.plan, decoder.parameters, adamw, ADAMW);
    const runner = new StepRunner(decoder, optimizer, 1, batch.length);
    await load(gpu, pipelines, model, decoder);
    await runner.compile(gpu, pipelines);
    const norms: number[] = [];
    for (let step = 0; step < steps; step++) {
      await runner.run(gpu, step, [batch], 0.01);
      const [{ clip }] = await runner.collect(gpu);
      norms.push(clip.norm);
    }
    const { parameters } = decoder;
    const weights = new Map<string, Float32Array>();
    for (const name of parameters.names) weights.set(name, await parameters.read(gpu, name));
    const states = optimizer.state(gpu).map(({ name }) => name);
    decoder.destroy();
    return { weights, norms, states };
  };
  const isLast = /^model\.layers\.1\./;
  const before = await weightsAfter(0, all);
  const whole = await weightsAfter(1, all);
  const one = await weightsAfter(1, named(isLast));
  for (const [name, values] of one.weights) {
    assertEqualBytes(values, (isLast.test(name) ? whole : before).weights.get(name)!, name);
  }
  assert.ok(one.norms[0] > 0 && one.norms[0] < whole.norms[0], `${one.norms} of ${whole.norms}`);
  assert.ok(one.states.every((name) => name.includes("model.layers.1.")), `${one.states}`);
  const [late, early] = [
    await weightsAfter(2, named(isLast)),
    await weightsAfter(2, named(isLast), "passing"),
  ];
  assert.deepEqual(early.norms, late.norms);
  assertSame(early.weights, late.weights);
  gpu.destroy();
});
