/** Tensors that share bytes by lifetime: where they lie, and what that may not break. */
import assert from "node:assert/strict";
import { MemoryPlan } from "../../lib/gpu/memory_plan.ts";
import type { Tensor } from "../../lib/gpu/memory.ts";
import { livesIn, SharedTensor } from "../../lib/gpu/placement.ts";
import { type KernelCall, tensorsOf } from "../../lib/gpu/program.ts";
import { usualTiles } from "../../lib/gpu/tuning.ts";
import { uniform } from "../../lib/random.ts";
import { smolLM2 } from "../../bench/models.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import type { LlamaConfig } from "../../lib/models/llama.ts";
import { netOf } from "../../lib/models/models.ts";
import { Decoder } from "../../lib/graph/decoder.ts";

const LARGEST = 2 ** 20;

/** A kernel that reads some tensors and writes others. */
const call = (reads: Tensor[], writes: Tensor[]): KernelCall => ({
  label: "made up",
  source: [...reads.map(() => "read"), ...writes.map(() => "read_write")]
    .map((access, i) => `@group(0) @binding(${i}) var<storage, ${access}> t${i}: array<f32>;`).join("\n"),
  bindings: [...reads, ...writes],
  grid: () => [1, 1],
});

const lies = ({ offset, bytes }: Tensor) => [offset, offset + bytes];
const overlap = (a: Tensor, b: Tensor) => {
  const [[a0, a1], [b0, b1]] = [lies(a), lies(b)];
  return a.slab === b.slab && a0 < b1 && b0 < a1;
};

Deno.test("a tensor lives from the first call that binds it to the last, and takes the place of one that is dead", () => {
  const plan = new MemoryPlan();
  const [a, b, c, d] = ["a", "b", "c", "d"].map((name) => plan.shared(name, "scratch", [64]));
  const calls = [call([], [a]), call([a], [b]), call([b], [c]), call([c], [d])];
  plan.share(calls, LARGEST);
  assert.deepEqual(livesIn(calls).map(({ first, last }) => [first, last]), [[0, 1], [1, 2], [2, 3], [3, 3]]);
  assert.equal(plan.slabs.length, 2);
  assert.equal(plan.bytes, 2 * 256);
  assert.ok(overlap(a, c) && overlap(b, d));
});

Deno.test("what a kernel reads is never in the buffer that it writes", () => {
  const plan = new MemoryPlan();
  const [a, b] = ["a", "b"].map((name) => plan.shared(name, "scratch", [64]));
  plan.share([call([a], [b])], LARGEST);
  assert.notEqual(a.slab, b.slab);
  assert.throws(() => livesIn([call([a], [a])]), /made up reads a and writes it through another binding/);
});

Deno.test("of 60 random programs no two tensors that live together overlap, and no buffer is larger than allowed", () => {
  const next = uniform(7);
  const integer = (below: number) => Math.floor(next() * below);
  for (let program = 0; program < 60; program++) {
    const plan = new MemoryPlan();
    const tensors = Array.from(
      { length: 40 },
      (_, i) => plan.shared(`t${i}`, i % 2 ? "activations" : "scratch", [1 + integer(LARGEST / 16)]),
    );
    const calls = Array.from({ length: 60 }, () => {
      const [written, ...read] = tensors.toSorted(() => next() - 0.5).slice(0, 1 + integer(4));
      return call(read, [written]);
    });
    plan.share(calls, LARGEST);
    plan.checkShared(calls);
    const lives = livesIn(calls);
    for (const [i, a] of lives.entries()) {
      assert.equal(a.tensor.offset % 256, 0);
      assert.ok(a.tensor.offset + a.tensor.bytes <= a.tensor.slab.bytes);
      for (const b of lives.slice(i + 1)) {
        const together = a.first <= b.last && b.first <= a.last;
        assert.ok(!(together && overlap(a.tensor, b.tensor)));
      }
    }
    for (const call of calls) {
      const bindings = tensorsOf(call);
      const written = bindings.at(-1)!;
      assert.ok(bindings.slice(0, -1).every(({ slab }) => slab !== written.slab));
    }
    assert.ok(plan.slabs.every(({ bytes }) => bytes <= LARGEST));
    // The rows of the printed table add up to the whole.
    const rows = [...plan.table().matchAll(/ (\d+)$/gm)].map(([, bytes]) => Number(bytes));
    assert.equal(rows.slice(0, -1).reduce((sum, bytes) => sum + bytes, 0), rows.at(-1));
    assert.equal(rows.at(-1), plan.bytes);
  }
});

Deno.test("a tensor larger than a buffer may be has one of its own", () => {
  const plan = new MemoryPlan();
  const large = plan.shared("large", "scratch", [LARGEST]);
  const small = plan.shared("small", "scratch", [64]);
  plan.share([call([], [large, small])], LARGEST);
  assert.notEqual(large.slab, small.slab);
  assert.match(large.slab.name, /large/);
});

Deno.test("calls that a plan was not placed for are found out", () => {
  const plan = new MemoryPlan();
  const [a, b, c] = ["a", "b", "c"].map((name) => plan.shared(name, "scratch", [64]));
  plan.share([call([], [a]), call([a], [b]), call([b], [c])], LARGEST);
  assert.throws(
    () => plan.checkShared([call([], [a]), call([a], [b]), call([b], [c]), call([a, c], [])]),
    /a and c were placed for other kernel calls/,
  );
  // Both in one buffer and apart: a kernel may read both, and not one while it writes the other.
  const together = new MemoryPlan();
  const [d, e, f] = ["d", "e", "f"].map((name) => together.shared(name, "scratch", [64]));
  together.share([call([], [d]), call([], [e]), call([d, e], [f])], LARGEST);
  assert.ok(d.slab === e.slab && !overlap(d, e));
  assert.throws(
    () => together.checkShared([call([], [d]), call([d], [e]), call([d, e], [f])]),
    /d and e were placed for other kernel calls/,
  );
  const never = new SharedTensor("never", "scratch", [1], "f32", 256);
  assert.throws(() => never.slab, /never is bound by no kernel call/);
});

Deno.test("SmolLM2-135M, 2,048 tokens, checkpointing: under 300 MB beyond 16 bytes a parameter", () => {
  for (const device of ["gpu", "software"] as const) {
    const { plan, parameters } = new Decoder(
      netOf(smolLM2(30)),
      { tokens: 2048, labels: 2048, pairs: 1, positions: 2048, logitsBytes: 67_256_832, checkpointing: true },
      { largestBuffer: 2 ** 27, loss: wgslOf(losses.simper), training: true, tiles: usualTiles(device) },
    );
    assert.equal(parameters.count, 134_515_008);
    const beyond = plan.bytes - 16 * parameters.count;
    // On a driver on the processor two textures for products are among them.
    // On a GPU a gated unit is part of a product: what it makes lives beside what the product reads; and 16.5 MB of
    // sums of deep products in parts.
    assert.ok(beyond < { gpu: 289e6, software: 292e6 }[device], `${device}: ${beyond}`);
  }
});

Deno.test("Llama 3.2 1B, whose embedding is 1 GB, is cut to fit buffers of 128 MiB", () => {
  const largestBuffer = 2 ** 27;
  const { plan, parameters } = new Decoder(
    netOf({
      ...smolLM2(16),
      vocabSize: 128256,
      hiddenSize: 2048,
      intermediateSize: 8192,
      numAttentionHeads: 32,
      numKeyValueHeads: 8,
    } as LlamaConfig),
    { tokens: 512, labels: 512, pairs: 1, positions: 512, logitsBytes: largestBuffer, checkpointing: true },
    { largestBuffer, loss: wgslOf(losses.simper), training: true },
  );
  assert.equal(parameters.count, 1_235_814_400);
  assert.ok(plan.slabs.every(({ bytes }) => bytes <= largestBuffer));
  const embedding = parameters.list.filter(({ spec }) => spec.name === "model.embed_tokens.weight");
  assert.deepEqual(embedding.map(({ rows }) => rows), [...Array(7).fill(16064), 15808]);
  assert.ok(plan.bytes < 16 * parameters.count * 1.02, `${plan.bytes}`);
});

Deno.test("without a backward pass nothing is kept for it", () => {
  const bytes = (layers: number) =>
    new Decoder(
      netOf(smolLM2(layers)),
      { tokens: 512, labels: 64, pairs: 1, positions: 512, logitsBytes: 2 ** 24, checkpointing: false },
      { largestBuffer: 2 ** 27, loss: wgslOf(losses.simper), training: false },
    ).plan;
  const [shallow, deep] = [bytes(3), bytes(12)];
  assert.equal(deep.bytes - shallow.bytes, deep.bytesOf("weights") - shallow.bytesOf("weights"));
});
