/** A profile tells kernels apart, changes nothing of what they compute, and is written as browsers read it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { keptBytes } from "../../kernels/attention_workgroup_kept.ts";
import { headsOf } from "../../lib/gpu/attention_family.ts";
import { Attention } from "../../lib/gpu/attention_operations.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { MemoryPlan } from "../../lib/gpu/memory_plan.ts";
import { Products } from "../../lib/gpu/products.ts";
import { attentionTiles, usualTiles } from "../../lib/gpu/tuning.ts";
import { kernelsOf, onlyWhere, Pipelines, readTensor, tensorsOf } from "../../lib/gpu/program.ts";
import { type Profile, Profiler } from "../../lib/gpu/profiler.ts";
import { workOf } from "../../lib/gpu/work.ts";
import { losses } from "../../lib/losses/losses.ts";
import { busySeconds, chromeTrace, profileTable } from "../../lib/report/profile.ts";
import { openTrainer, randomPairs, TINY_LLAMA } from "../../bench/models.ts";
import { task } from "../command.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN } from "../golden_run.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const config = { ...TINY_LLAMA, vocabSize: 256, hiddenSize: 64, intermediateSize: 96, numHiddenLayers: 2 };
const pairs = randomPairs(40, 2, config.vocabSize);

/** One step of a new model: its profile, and the bits of its weights afterwards. */
async function step(each?: "dispatch" | "pass"): Promise<{ profile?: Profile; bits: Uint32Array }> {
  const gpu = await openGpu();
  try {
    const { decoder, runner } = await openTrainer(
      gpu,
      new Pipelines(gpu),
      config,
      losses.simper,
      [pairs],
      { slots: 1 },
    );
    const profiler = each && new Profiler(gpu, { each, workSize: () => decoder.workSize() });
    await runner.run(profiler?.gpu ?? gpu, 0, [pairs], 1e-3);
    await runner.collect(gpu);
    const profile = await profiler?.collect();
    const weights = decoder.parameters.list.find(({ spec }) => spec.kind === "matrix")!.weights;
    const bits = new Uint32Array(await readTensor(gpu, weights));
    decoder.destroy();
    return { profile, bits };
  } finally {
    gpu.destroy();
  }
}

Deno.test("attention's backward pass is profiled as seven products, and as five products where scores are kept", () => {
  const shape = { heads: 6, keyValueHeads: 3, headDim: 8 };
  const products = (keeps?: number) => {
    const plan = new MemoryPlan();
    const tensor = (columns: number) => plan.tensor("", "scratch", [64, columns]);
    const rows = { slot: 0, tensor: tensor(4) };
    const attention = new Attention(plan, shape, 64, attentionTiles("gpu", keeps), true);
    const [out, gradient, ofHeads, tiles] = [tensor(48), tensor(96), tensor(6), tensor(4)];
    const calls = attention.backward(rows, {
      ...{ spans: tiles, queryTiles: tiles, keyTiles: tiles, out, dOut: out, lse: ofHeads, delta: ofHeads },
      ...{ ...headsOf(gradient, shape), dQueries: gradient, dKeys: gradient },
    });
    const size = { counts: new Uint32Array([64]), visible: [2080], attentionWidth: 48 };
    const flops = calls.map((call) => workOf(call, size).flops ?? 0).reduce((sum, n) => sum + n);
    return { calls: calls.length, products: flops / (2 * 2080 * 48) };
  };
  assert.deepEqual(products(), { calls: 3, products: 7 });
  // Two heads at a time.
  assert.deepEqual(products(keptBytes({ heads: 2 }, 64)), { calls: 7, products: 5 });
});

Deno.test("a profiled step trains to the same bits, and every kernel of it is timed in order", async () => {
  const plain = await step();
  const { profile, bits } = await step("dispatch");
  assertEqualBytes(bits, plain.bits);
  const { kernels, host } = profile!;
  assert.equal(kernels[0].name, "embed");
  assert.equal(kernels.at(-1)!.name, "adamw");
  assert.equal(kernels.filter(({ name }) => name === "attention").length, config.numHiddenLayers);
  for (const [i, { name, start, seconds }] of kernels.entries()) {
    assert.ok(seconds >= 0, `${name} takes ${seconds} s`);
    if (i > 0) assert.ok(start >= kernels[i - 1].start + kernels[i - 1].seconds, `${name} begins too early`);
  }
  assert.deepEqual([...new Set(host.map(({ name }) => name))].sort(), ["encode", "submit", "upload"]);
});

Deno.test("a profile knows the operations of a product and of attention, and the bytes of a copy", async () => {
  const { profile } = await step("dispatch");
  const { tokens, visible } = sizes();
  const of = (name: string) => profile!.kernels.find((kernel) => kernel.name.startsWith(name))!.work;
  const width = config.numAttentionHeads * config.headDim;
  const qkv = 3 * width;
  assert.equal(of(`gemm_nt rowsx${qkv}x64`).flops, 2 * tokens * qkv * 64);
  assert.equal(of("attention").flops, 2 * 2 * visible * width);
  assert.equal(of("embed").bytes, 2 * 4 * tokens * 64);
});

/** Tokens of the packed row and the query-key pairs in it, by a count of their own. */
function sizes(): { tokens: number; visible: number } {
  let [tokens, visible] = [0, 0];
  for (const { chosen, rejected } of pairs) {
    const prefix = chosen.promptLength;
    const responses = [chosen, rejected!].map(({ ids }) => ids.length - 1 - prefix);
    const triangle = (n: number) => n * (n + 1) / 2;
    tokens += prefix + responses[0] + responses[1];
    visible += triangle(prefix) + responses.reduce((sum, n) => sum + n * prefix + triangle(n), 0);
  }
  return { tokens, visible };
}

Deno.test("the blocks of a large product together have the operations of the whole", () => {
  const plan = new MemoryPlan();
  const products = new Products(plan, usualTiles("software"));
  const [capacity, count, n, k] = [1600, 1100, 4160, 2112];
  const tensor = (...shape: number[]) => plan.tensor("matrix", "scratch", shape);
  const slot = { slot: 0, tensor: tensor(64) };
  const calls = {
    nt: products.calls("nt", slot, { a: tensor(capacity, k), b: tensor(n, k), c: tensor(capacity, n) }),
    nn: products.calls("nn", slot, { a: tensor(capacity, k), b: tensor(k, n), c: tensor(capacity, n) }),
    tn: products.calls("tn", slot, { a: tensor(capacity, k), b: tensor(capacity, n), c: tensor(k, n) }),
  };
  for (const [layout, whole] of Object.entries(calls)) {
    const blocks = kernelsOf(whole);
    assert.ok(whole.length === 1 && blocks.length > 1, layout);
    // Plans look at the first alone.
    const tensors = new Set(tensorsOf(blocks[0]).map(({ slab }) => slab));
    assert.ok(blocks.flatMap(tensorsOf).every(({ slab }) => tensors.has(slab)), layout);
    const idle = kernelsOf(whole.map((call) => onlyWhere(call, () => false)));
    assert.deepEqual(idle.map(({ grid }) => grid(Uint32Array.of(count))), blocks.map(() => [0, 0]), layout);
    const flops = blocks.reduce((sum, call) => sum + call.flops!(Uint32Array.of(count)), 0);
    assert.equal(flops, 2 * count * n * k, layout);
  }
});

Deno.test("passes are timed whole where kernels are not asked for", async () => {
  const { profile } = await step("pass");
  assert.ok(
    profile!.kernels.length >= 3 && profile!.kernels.length < 40,
    `${profile!.kernels.length} passes`,
  );
  assert.ok(busySeconds(profile!.kernels) > 0);
});

const KERNELS: Profile["kernels"] = [
  { name: "fast", start: 0, seconds: 0.25, work: { flops: 1e9 }, submission: 0, workgroups: [2, 3] },
  { name: "slow", start: 0.5, seconds: 0.5, work: { bytes: 1e9 }, submission: 0 },
  { name: "fast", start: 2, seconds: 0.25, work: { flops: 1e9 }, submission: 1 },
];

Deno.test("the device is busy between the kernels of a submission, and not between submissions", () => {
  assert.equal(busySeconds(KERNELS), 1.25);
});

Deno.test("the table has a row a kernel with count, time, share, rate and part of the ceiling", () => {
  const rows = profileTable(KERNELS, { flops: 8e9, bytes: 4e9 }).split("\n").map((row) =>
    row.trim().split(/ {2,}/)
  );
  assert.deepEqual(rows, [
    ["kernel", "count", "ms", "share", "rate", "of ceiling"],
    ["fast", "2", "500.00", "50.0 %", "4.0 GFLOP/s", "50.0 %"],
    ["slow", "1", "500.00", "50.0 %", "2.0 GB/s", "50.0 %"],
    ["all", "3", "1000.00", "100.0 %"],
  ]);
});

Deno.test("the trace is of Chrome's trace event format", () => {
  const text = chromeTrace(
    { kernels: KERNELS, host: [{ name: "submit", start: -0.5, seconds: 1 }] },
    "a model",
  );
  const { traceEvents, displayTimeUnit } = JSON.parse(text);
  assert.ok(["ms", "ns"].includes(displayTimeUnit));
  for (const event of traceEvents) {
    assert.equal(typeof event.name, "string");
    assert.ok(Number.isInteger(event.pid) && Number.isInteger(event.tid));
    if (event.ph === "M") {
      assert.match(event.name, /^(process|thread)_name$/);
      assert.equal(typeof event.args.name, "string");
    } else {
      assert.equal(event.ph, "X");
      assert.ok(Number.isFinite(event.ts) && event.ts >= 0 && Number.isFinite(event.dur) && event.dur >= 0);
    }
  }
  const complete = traceEvents.filter(({ ph }: { ph: string }) => ph === "X");
  assert.deepEqual(complete.map(({ name }: { name: string }) => name), ["fast", "slow", "fast", "submit"]);
  assert.deepEqual(complete[1], {
    ph: "X",
    pid: 1,
    tid: 1,
    cat: "kernel",
    name: "slow",
    ts: 1_000_000,
    dur: 500_000,
    args: { MB: 1000, "GB/s": 2 },
  });
});

Deno.test("train --profile=FILE logs a table of the second step's kernels and writes their trace", () =>
  withTemporaryFolder(async (folder) => {
    const trace = join(folder, "trace.json");
    const run = (...options: string[]) =>
      task(
        "train",
        `${GOLDEN}/run.yaml`,
        `--model_name_or_path=${GOLDEN}/untied`,
        "--max_steps=2",
        `--output_dir=${join(folder, "out")}`,
        "--overwrite_output_dir=true",
        ...options,
      );
    const { status, stderr } = await run("--profile", trace);
    assert.equal(status, 0, stderr);
    assert.match(stderr, /step 2, kernel by kernel:\nkernel +count/);
    const { traceEvents } = JSON.parse(await Deno.readTextFile(trace));
    assert.ok(traceEvents.some(({ name }: { name: string }) => name === "adamw"));
    const without = await run("--profile");
    assert.equal(without.status, 2);
    assert.match(without.stderr, /--profile: expected FILE, as in --profile=FILE/);
  }));
