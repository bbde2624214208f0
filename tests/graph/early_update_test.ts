/** Updates in the backward pass: the same bytes as after it, in less memory. */
import assert from "node:assert/strict";
import { packedSize, type Pair } from "../../lib/data/pair.ts";
import { parseConfig } from "../../lib/config/parse.ts";
import { type Gpu, openGpu } from "../../lib/gpu/device.ts";
import { Pipelines, readTensor, writeTensor } from "../../lib/gpu/program.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import type { Capacity } from "../../lib/graph/machine.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { netOf } from "../../lib/models/models.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import { Optimizer } from "../../lib/training/optimizer.ts";
import { type OptimizerChoice, optimizerOf, updatesEarly } from "../../lib/planning/plan.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { StepRunner } from "../../lib/training/step.ts";
import { assertSame } from "../equal_bytes.ts";
import { GOLDEN, MODELS, readGolden } from "../golden_run.ts";
import { sharedGpu } from "../shared_gpu.ts";

const LARGEST = 2 ** 27;
const OPTIONS = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, maxGradNorm: 0 };
const KINDS = ["weights", "first", "second"] as const;

type Change = Partial<Capacity> & { largestBuffer?: number; choice?: OptimizerChoice };

/** A trainer of a golden model that updates early, or not. */
async function trainer(
  gpu: Gpu,
  pipelines: Pipelines,
  model: string,
  pairs: Pair[],
  early: boolean,
  { largestBuffer = LARGEST, choice = optimizerOf({ optim: "adamw_torch" }), ...change }: Change = {},
) {
  const { rule, trained, moments } = choice;
  const sum = (of: "tokens" | "labels") => pairs.reduce((total, pair) => total + packedSize(pair)[of], 0);
  const decoder = new Decoder(netOf(await readModelConfig(`${GOLDEN}/${model}`)), {
    tokens: sum("tokens"),
    labels: sum("labels"),
    pairs: pairs.length,
    positions: 96,
    logitsBytes: LARGEST,
    checkpointing: false,
    ...change,
  }, {
    ...{ largestBuffer, moments, trained },
    loss: wgslOf(losses.simper),
    training: true,
    gradients: early ? "passing" : "kept",
  });
  const { plan, parameters } = decoder;
  const optimizer = new Optimizer(plan, parameters, rule, OPTIONS);
  const runner = new StepRunner(decoder, optimizer, 1, pairs.length);
  assert.equal(runner.updatesEarly, early);
  await decoder.allocate(gpu, pipelines);
  await runner.compile(gpu, pipelines);
  const checkpoint = await openCheckpoint(`${GOLDEN}/${model}`);
  await parameters.load(gpu, checkpoint);
  await checkpoint.close();
  assert.equal(plan.allocatedBytes, plan.bytes);
  return {
    decoder,
    optimizer,
    /** One step, after all that lives only within a step was filled with NaN. */
    async step(step: number, batch: Pair[]) {
      for (const { buffer, bytes } of plan.slabs.filter(({ purpose }) => purpose === "scratch")) {
        if (bytes > 2 ** 12) gpu.device.queue.writeBuffer(buffer!, 0, new Float32Array(bytes / 4).fill(NaN));
      }
      await runner.run(gpu, step, [batch], 0.01);
      const [result] = await runner.collect(gpu);
      return result;
    },
    /** Bits of weights and moments, parameter by parameter. */
    async state() {
      const state = new Map<string, Uint32Array>();
      for (const { spec, firstRow, rows, absmax, firstScale, ...tensors } of parameters.trainedList) {
        for (const kind of KINDS) {
          const tensor = tensors[kind];
          if (!tensor) continue;
          const bits = await readTensor(gpu, tensor, 0, rows * spec.columns);
          state.set(`${spec.name} from row ${firstRow}: ${kind}`, new Uint32Array(bits));
        }
        if (!absmax) continue;
        const moments = rule.moments.length;
        const count = moments * Math.ceil(rows * spec.columns / 256);
        const bits = await readTensor(gpu, absmax, moments * firstScale, count);
        state.set(`${spec.name} from row ${firstRow}: absmax`, new Uint32Array(bits));
      }
      return state;
    },
  };
}

Deno.test("parameters are updated early where a step is one batch and nothing is clipped", () => {
  const early = (...overrides: string[]) =>
    updatesEarly(
      parseConfig("model_name_or_path: m\ndataset_mixer: { d: 1 }\n", "run.yaml", overrides).config,
    );
  assert.equal(early(), false);
  assert.equal(early("--max_grad_norm=0"), true);
  assert.equal(early("--max_grad_norm=0", "--gradient_accumulation_steps=2"), false);
  assert.equal(early("--max_grad_norm=0", "--num_gpus=2"), false);
});

Deno.test("early updates", async (t) => {
  const gpu = await openGpu({ gpu: sharedGpu });
  const pipelines = new Pipelines(gpu);
  const variants: [string, string, Change][] = [
    ["an untied head", MODELS[0], {}],
    ["a tied head, checkpointing, logits in pieces", MODELS[1], {
      checkpointing: true,
      logitsBytes: 64 * 304 * 4,
    }],
    ["moments in bfloat16", MODELS[0], {
      choice: { ...optimizerOf({ optim: "adamw_bf16" }), trained: "f32" },
    }],
    ["weights in pieces, Lion's moment in bytes", MODELS[0], {
      largestBuffer: 2 ** 14,
      choice: optimizerOf({ optim: "lion_8bit" }),
    }],
    ["moments in bytes, weights in bfloat16", MODELS[0], {
      choice: optimizerOf({ optim: "adamw_8bit", optimArgs: "bf16_stochastic_round=True" }),
    }],
  ];
  for (const [name, model, change] of variants) {
    await t.step(
      `three steps have the bits of updates after the backward pass, in less memory: ${name}`,
      async () => {
        const { pairs } = await readGolden(model);
        const late = await trainer(gpu, pipelines, model, pairs.slice(0, 4), false, change);
        const early = await trainer(gpu, pipelines, model, pairs.slice(0, 4), true, change);
        for (let step = 0; step < 3; step++) {
          const batch = pairs.slice(step, step + 2);
          assert.deepEqual(await early.step(step, batch), await late.step(step, batch));
        }
        assertSame(await early.state(), await late.state());
        const [less, more] = [early.decoder.plan, late.decoder.plan];
        assert.ok(less.bytes < more.bytes, `${less.bytes}, ${more.bytes}`);
        for (const { decoder } of [early, late]) decoder.destroy();
      },
    );
  }

  await t.step("a gradient that is not finite stops its own update and all after it", async () => {
    const { pairs } = await readGolden(MODELS[0]);
    const { decoder, optimizer, step, state } = await trainer(
      gpu,
      pipelines,
      MODELS[0],
      pairs.slice(0, 2),
      true,
    );
    const { parameters } = decoder;
    const weightsOf = (name: string) => parameters.list.find(({ spec }) => spec.name === name)!;
    assert.equal((await step(0, pairs.slice(0, 2))).clip.broken, false);
    // Without `up` the layer's MLP gives 0 whatever `down` is, and its gradient is too large to be squared.
    const gateUp = weightsOf("model.layers.0.mlp.{gate,up}_proj.weight");
    const down = weightsOf("model.layers.0.mlp.down_proj.weight");
    const size = gateUp.rows * gateUp.spec.columns;
    writeTensor(gpu, gateUp.weights, new Float32Array(size / 2), size / 2);
    writeTensor(gpu, down.weights, new Float32Array(down.rows * down.spec.columns).fill(1e35));
    const before = await state();
    const { clip, pairs: results } = await step(1, pairs.slice(0, 2));
    assert.equal(clip.broken, true);
    assert.ok(results.every(({ loss }) => Number.isFinite(loss)));
    const after = await state();
    const changed = [
      ...new Set(
        [...after].filter(([name, bits]) => bits.some((word, i) => word !== before.get(name)![i]))
          .map(([name]) => name.replace(/ from row.*/, "")),
      ),
    ];
    const layer = (l: number, ...names: string[]) => names.map((name) => `model.layers.${l}.${name}.weight`);
    const layer1 = layer(
      1,
      "self_attn.{q,k,v}_proj",
      "self_attn.o_proj",
      "mlp.{gate,up}_proj",
      "mlp.down_proj",
      "input_layernorm",
      "post_attention_layernorm",
    );
    assert.deepEqual(
      changed.sort(),
      [...layer1, ...layer(0, "mlp.down_proj"), "lm_head.weight", "model.norm.weight"].sort(),
    );
    const broken = await optimizer.brokenParameters(gpu);
    assert.deepEqual(broken.map(({ spec }) => spec.name), ["model.layers.0.mlp.{gate,up}_proj.weight"]);

    // Weights that would be fine again change nothing.
    writeTensor(gpu, down.weights, new Float32Array(down.rows * down.spec.columns));
    const stopped = await state();
    assert.equal((await step(2, pairs.slice(0, 2))).clip.broken, true);
    assertSame(await state(), stopped);
    decoder.destroy();
  });
  gpu.check();
  gpu.destroy();
});
