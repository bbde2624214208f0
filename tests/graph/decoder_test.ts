import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { packedSize, type Pair } from "../../lib/data/pair.ts";
import type { AttentionTiles } from "../../kernels/attention.ts";
import { type Gpu, openGpu } from "../../lib/gpu/device.ts";
import { Pipelines, readTensor } from "../../lib/gpu/program.ts";
import {
  attentionTiles,
  BUFFER_TILES,
  bufferTile,
  onlyTile,
  type ProductTiles,
  TEXTURE_TILE,
  usualTiles,
} from "../../lib/gpu/tuning.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import type { Capacity } from "../../lib/graph/machine.ts";
import type { LlamaConfig } from "../../lib/models/llama.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { netOf } from "../../lib/models/models.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import { normal } from "../../lib/random.ts";
import { openModel } from "../../lib/weights/weights.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { assertEqualBytes, assertSame } from "../equal_bytes.ts";
import { GOLDEN, MODELS, readGolden, readTensors, relativeDifference } from "../golden_run.ts";
import { sharedGpu } from "../shared_gpu.ts";

const LARGEST = 2 ** 27;
/** 4,096 floats: 64 rows of the models' matrices fit. */
const PIECE_BYTES = 2 ** 14;

/** A model whose every row is a multiple of 64 floats, as real models' are. */
const TEXTURED: Omit<LlamaConfig, "vocabSize"> = {
  modelType: "llama",
  hiddenSize: 128,
  intermediateSize: 192,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
  numKeyValueHeads: 1,
  headDim: 64,
  rmsNormEps: 1e-5,
  rope: { type: "default", theta: 10_000, dimensions: 64, interleaved: false },
  maxPositionEmbeddings: 96,
  hiddenAct: "silu",
  attentionBias: false,
  mlpBias: false,
  tieWordEmbeddings: true,
};

async function loadDecoder(
  gpu: Gpu,
  pipelines: Pipelines,
  model: string,
  pairs: Pair[],
  { largestBuffer = LARGEST, ...change }: Partial<Capacity> & { largestBuffer?: number } = {},
) {
  const sizes = pairs.map(packedSize);
  const sum = (of: (size: { tokens: number; labels: number }) => number) =>
    sizes.reduce((total, size) => total + of(size), 0);
  const capacity: Capacity = {
    tokens: sum(({ tokens }) => tokens),
    labels: sum(({ labels }) => labels),
    pairs: pairs.length,
    positions: 96,
    logitsBytes: LARGEST,
    checkpointing: false,
    ...change,
  };
  const config = await readModelConfig(`${GOLDEN}/${model}`);
  const decoder = new Decoder(netOf(config), capacity, {
    largestBuffer,
    loss: wgslOf(losses.simper),
    training: true,
    // A GPU's way, with everything fused that can be, and gradients that are split where they are of few tiles.
    tiles: onlyTile(BUFFER_TILES["workgroup 8x8 of 8x8"], {
      fuses: true,
      split: { sums: 2 ** 15, depth: 16 },
    }),
  });
  await decoder.allocate(gpu, pipelines);
  const checkpoint = await openCheckpoint(`${GOLDEN}/${model}`);
  decoder.parameters.check(checkpoint);
  await decoder.parameters.load(gpu, checkpoint);
  await checkpoint.close();
  return decoder;
}

/** Gradients of one optimizer step over `batches`, by checkpoint name. */
async function gradientsOf(
  gpu: Gpu,
  decoder: Decoder,
  batches: Pair[][],
): Promise<Map<string, Float32Array>> {
  const pairsOfStep = batches.flat().length;
  batches.forEach((pairs, index) => {
    const place = { firstOfStep: index === 0, pairsOfStep };
    decoder.upload(gpu, pack(pairs, decoder.net.windows), place);
    const encoder = gpu.device.createCommandEncoder();
    decoder.encodeForward(encoder);
    decoder.encodeBackward(encoder);
    gpu.device.queue.submit([encoder.finish()]);
  });
  const gradients = new Map<string, Float32Array>();
  for (const name of decoder.parameters.names) {
    gradients.set(name, await decoder.parameters.read(gpu, name, "gradients"));
  }
  return gradients;
}

/** Fills gradients and all that tensors share with NaN, so that what is read before it is written shows. */
function poison(gpu: Gpu, decoder: Decoder): void {
  const poisoned = ["gradients", "activations", "logits", "scratch"];
  for (const { buffer, bytes } of decoder.plan.slabs.filter(({ purpose }) => poisoned.includes(purpose))) {
    gpu.device.queue.writeBuffer(buffer!, 0, new Float32Array(bytes / 4).fill(NaN));
  }
}

Deno.test("a decoder equals PyTorch", async (t) => {
  const gpu = await openGpu({ gpu: sharedGpu });
  const pipelines = new Pipelines(gpu);
  for (const model of MODELS) {
    const { pairs } = await readGolden(model);
    const expected = await readTensors(`${GOLDEN}/${model}-golden/grads.safetensors`);
    const worst = (gradients: Map<string, Float32Array>) => {
      assert.deepEqual([...gradients.keys()].sort(), [...expected.keys()].sort());
      return Math.max(
        ...[...expected].map(([name, values]) => relativeDifference(gradients.get(name)!, values)),
      );
    };

    await t.step(`${model}: the logits of a sequence are within 1e-5`, async () => {
      const { ids } = pairs[0].chosen;
      const decoder = await loadDecoder(gpu, pipelines, model, [pairs[0]], { tokens: 128, labels: 128 });
      const sequence = { ids: [...ids, 0], promptLength: 1 };
      const batch = pack([{ chosen: sequence, truncated: false, where: "" }], decoder.net.windows);
      const logits = await decoder.logits(gpu, { ...batch, pairs: 0 });
      const golden = await readTensors(`${GOLDEN}/${model}-golden/logits.safetensors`);
      assert.ok(relativeDifference(logits, golden.get("logits")!) < 1e-5);
      decoder.destroy();
    });

    // Gradients may differ by 1e-4; these runs come to 4e-6 at most.
    const variants: [string, Partial<Capacity>, Pair[][]][] = [
      ["in two micro-batches", {}, [pairs.slice(0, 2), pairs.slice(2, 4)]],
      ["in one batch", {}, [pairs.slice(0, 4)]],
      ["in uneven batches", {}, [pairs.slice(0, 1), pairs.slice(1, 4)]],
      ["with checkpointing", { checkpointing: true }, [pairs.slice(0, 2), pairs.slice(2, 4)]],
      ["with logits in pieces", { logitsBytes: 64 * 304 * 4 }, [pairs.slice(0, 3), pairs.slice(3, 4)]],
    ];
    for (const [name, change, batches] of variants) {
      await t.step(`${model}: every gradient of the first step is within 2e-5, ${name}`, async () => {
        const decoder = await loadDecoder(gpu, pipelines, model, pairs.slice(0, 4), change);
        assert.equal(decoder.batch.pieces.length > 1, change.logitsBytes !== undefined);
        poison(gpu, decoder);
        const difference = worst(await gradientsOf(gpu, decoder, batches));
        assert.ok(difference < 2e-5, `${difference}`);
        assert.equal(decoder.plan.allocatedBytes, decoder.plan.bytes);
        decoder.destroy();
        assert.equal(decoder.plan.allocatedBytes, 0);
      });
    }
  }

  await t.step("textures, subgroups and kept scores give the gradients that buffers give", async () => {
    const { pairs } = await readGolden(MODELS[0]);
    const buffers = usualTiles("gpu");
    const ways = [onlyTile({ ...TEXTURE_TILE, rows: 64, columns: 128, worth: 0 })];
    if (gpu.subgroups) ways.push(onlyTile(bufferTile("subgroup 32x8", gpu), { fuses: true }));
    const gradients = async (tiles: ProductTiles, attention: AttentionTiles) => {
      const batch = pairs.slice(0, 4);
      const sum = (of: "tokens" | "labels") => batch.reduce((total, pair) => total + packedSize(pair)[of], 0);
      const capacity = {
        tokens: sum("tokens"),
        labels: sum("labels"),
        pairs: batch.length,
        positions: 96,
        // Logits in more than one piece, of which the last is kept from the forward pass.
        logitsBytes: 64 * 320 * 4,
        checkpointing: true,
      };
      const decoder = new Decoder(netOf({ ...TEXTURED, vocabSize: 320 } as LlamaConfig), capacity, {
        largestBuffer: LARGEST,
        loss: wgslOf(losses.simper),
        training: true,
        tiles,
        attention,
      });
      await decoder.allocate(gpu, pipelines);
      decoder.parameters.initialize(gpu, normal(7), 0.05);
      poison(gpu, decoder);
      const result = await gradientsOf(gpu, decoder, [batch.slice(0, 3), batch.slice(3)]);
      assert.equal(decoder.plan.allocatedBytes, decoder.plan.bytes);
      decoder.destroy();
      return result;
    };
    const expected = await gradients(buffers, attentionTiles("gpu"));
    const others: [ProductTiles, AttentionTiles][] = [
      ...ways.map((tiles): [ProductTiles, AttentionTiles] => [tiles, attentionTiles("software")]),
      // With scores kept where other tensors lie before and afterwards.
      [buffers, attentionTiles("gpu", 2 ** 20)],
    ];
    for (const [tiles, attention] of others) {
      const found = await gradients(tiles, attention);
      for (const [name, values] of expected) {
        const difference = relativeDifference(found.get(name)!, values);
        assert.ok(difference < 2e-5, `${name}: ${difference}`);
      }
    }
  });

  const storages: [string, Partial<Capacity>][] = [
    ["", {}],
    [", with checkpointing too", { checkpointing: true }],
    [", with activations kept as bfloat16", { keptStorage: "bf16" }],
    [", with checkpoints kept as bfloat16", { keptStorage: "bf16", checkpointing: true }],
  ];
  for (const [name, change] of storages) {
    await t.step(`the same batch gives the same bits, whatever ran before${name}`, async () => {
      const { pairs } = await readGolden(MODELS[0]);
      const decoder = await loadDecoder(gpu, pipelines, MODELS[0], pairs.slice(0, 4), change);
      const first = await gradientsOf(gpu, decoder, [pairs.slice(0, 4)]);
      await gradientsOf(gpu, decoder, [pairs.slice(4, 6)]);
      poison(gpu, decoder);
      assertSame(await gradientsOf(gpu, decoder, [pairs.slice(0, 4)]), first);
      decoder.destroy();
    });
  }

  for (const checkpointing of [false, true]) {
    const name = checkpointing ? "checkpoints" : "activations";
    await t.step(`${name} kept as bfloat16 change no loss, and gradients by under 1 %`, async () => {
      const { pairs } = await readGolden(MODELS[0]);
      const batch = pairs.slice(0, 4);
      const load = (keptStorage: "f32" | "bf16") =>
        loadDecoder(gpu, pipelines, MODELS[0], batch, { checkpointing, keptStorage });
      const [exact, rounded] = [await load("f32"), await load("bf16")];
      const [expected, found] = [
        await gradientsOf(gpu, exact, [batch]),
        await gradientsOf(gpu, rounded, [batch]),
      ];
      const results = async ({ batch: { results } }: Decoder) =>
        new Float32Array(await readTensor(gpu, results));
      assertEqualBytes(await results(rounded), await results(exact));
      const differences = [...expected].map(([name, values]) => relativeDifference(found.get(name)!, values));
      assert.ok(Math.max(...differences) > 0 && Math.max(...differences) < 1e-2, `${differences}`);
      for (const decoder of [exact, rounded]) decoder.destroy();
    });
  }

  for (const model of MODELS.slice(0, 2)) {
    await t.step(`${model}: weights cut into pieces give the same numbers and the same files`, async () => {
      const { pairs } = await readGolden(model);
      const batches = [pairs.slice(0, 3), pairs.slice(3, 4)];
      const change = { logitsBytes: 64 * 304 * 4, checkpointing: true };
      const whole = await loadDecoder(gpu, pipelines, model, pairs.slice(0, 4), change);
      const cut = await loadDecoder(gpu, pipelines, model, pairs.slice(0, 4), {
        ...change,
        largestBuffer: PIECE_BYTES,
      });
      // The vocabulary in 5, gate and up in 2.
      const pieces = (name: string) =>
        cut.parameters.list.filter(({ spec }) => spec.name === name).map(({ rows }) => rows);
      assert.deepEqual(pieces("model.embed_tokens.weight"), [64, 64, 64, 64, 47]);
      assert.deepEqual(pieces("model.layers.0.mlp.{gate,up}_proj.weight"), [64, 60]);
      assert.equal(cut.parameters.count, whole.parameters.count);
      poison(gpu, cut);

      const [expected, found] = [
        await gradientsOf(gpu, whole, batches),
        await gradientsOf(gpu, cut, batches),
      ];
      const results = async ({ batch: { results } }: Decoder) =>
        new Float32Array(await readTensor(gpu, results));
      // Forward no sum is cut; backward a sum over the rows of a matrix is, and rounds in another order: that is less
      // than what float32 is from PyTorch's float32 anyway.
      assertEqualBytes(await results(cut), await results(whole));
      const golden = await readTensors(`${GOLDEN}/${model}-golden/grads.safetensors`);
      const worst = (one: Map<string, Float32Array>, other: Map<string, ArrayLike<number>>) =>
        Math.max(...[...one].map(([name, values]) => relativeDifference(values, other.get(name)!)));
      const [difference, rounding] = [worst(found, expected), worst(expected, golden)];
      assert.ok(difference <= rounding, `${difference}, and ${rounding} from PyTorch`);

      const checkpoint = await openModel(`${GOLDEN}/${model}`);
      const [before, after] = [whole, cut].map(({ parameters }) => parameters.sources(gpu, checkpoint.saved));
      const form = (sources: typeof before) => sources.map(({ name, dtype, shape }) => [name, dtype, shape]);
      assert.deepEqual(form(after), form(before));
      const bytesOf = async ({ chunks }: (typeof before)[number]) => {
        const pieces = await Array.fromAsync(chunks());
        return Uint8Array.from(pieces.flatMap((piece) => [...piece]));
      };
      for (const [i, source] of before.entries()) {
        assertEqualBytes(await bytesOf(after[i]), await bytesOf(source), source.name);
      }
      await checkpoint.close();
      for (const decoder of [whole, cut]) decoder.destroy();
    });
  }

  await t.step("sharing a prefix changes no number, only the work", async () => {
    const { pairs } = await readGolden(MODELS[0]);
    const separate = (pair: Pair): Pair[] => [
      { ...pair, rejected: undefined },
      { ...pair, chosen: pair.rejected!, rejected: undefined },
    ];
    const apart = pairs.slice(0, 2).flatMap(separate);
    const decoder = await loadDecoder(gpu, pipelines, MODELS[0], apart);
    const sums = async (batch: Pair[]) => {
      const packed = pack(batch, decoder.net.windows);
      decoder.upload(gpu, packed, { firstOfStep: true, pairsOfStep: 1 });
      const encoder = gpu.device.createCommandEncoder();
      decoder.encodeForward(encoder);
      gpu.device.queue.submit([encoder.finish()]);
      const results = new Float32Array(await readTensor(gpu, decoder.batch.results));
      return { tokens: packed.ids.length, results };
    };
    const shared = await sums(pairs.slice(0, 2));
    const alone = await sums(apart);
    const [chosen, rejected] = [[0, 8], [4, 12]].map((at) => at.map((i) => alone.results[i + 1]));
    assert.ok(shared.tokens < alone.tokens);
    assert.ok(relativeDifference([shared.results[1], shared.results[5]], chosen) < 1e-6);
    assert.ok(relativeDifference([shared.results[2], shared.results[6]], rejected) < 1e-6);
    decoder.destroy();
  });
  gpu.destroy();
});
