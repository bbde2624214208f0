/** The commands that measure, in a tiny setting: they run, and print what they are for. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { kernelCases } from "../bench/kernels.ts";
import { openBenchGpu, Workbench } from "../bench/harness.ts";
import { openTrainer, randomPairs, TINY_LLAMA } from "../bench/models.ts";
import { profileStep } from "../bench/steps.ts";
import { Pipelines } from "../lib/gpu/program.ts";
import { losses } from "../lib/losses/losses.ts";
import { taskWith } from "./command.ts";
import { GOLDEN } from "./golden_run.ts";
import { withTemporaryFolder } from "./temporary_folder.ts";

/** `deno task NAME ARGUMENTS` where PyTorch is not asked for. */
const task = (name: string, ...args: string[]) => taskWith({ PYTHON: "" }, name, ...args);

Deno.test("bench:step prints rates, memory, time outside kernels and a profile, and writes a trace", () =>
  withTemporaryFolder(async (folder) => {
    const trace = join(folder, "trace.json");
    const { status, stdout, stderr } = await task(
      "bench:step",
      "--shape=tiny",
      "--layers=2",
      "--tokens=32",
      "--batch=2",
      "--accumulation=2",
      "--checkpointing",
      "--steps=1",
      `--profile=${trace}`,
    );
    assert.equal(status, 0, stderr);
    assert.match(stdout, /measured ceilings: multiply-add [\d.]+ GFLOP\/s, copy kernel [\d.]+ GB\/s/);
    assert.match(stdout, /tiny, cut to layers 2 of 4: .* 2 x 2 pairs in 2 x 32 tokens, checkpointing/);
    const [, planned, allocated] = stdout.match(/(\d+) bytes planned, (\d+) allocated/)!;
    assert.equal(planned, allocated);
    assert.match(stdout, /kernels +\d+ a layer forward, \d+ backward/);
    assert.match(stdout, /GFLOP\/s, [\d.]+ % of multiply-add; [\d.]+ tokens\/s, [\d.]+ pairs\/s/);
    assert.match(stdout, /outside kernels +[\d.]+ % of the step/);
    assert.match(stdout, /gemm_nt \S+ +\d+ +[\d.]+ +[\d.]+ % +[\d.]+ GFLOP\/s +[\d.]+ %/);
    const { traceEvents } = JSON.parse(await Deno.readTextFile(trace));
    const kernels = traceEvents.filter(({ cat }: { cat: string }) => cat === "kernel");
    const attention = kernels.filter(({ name }: { name: string }) => name === "attention");
    // Two rows of two layers, and the layer that is computed again.
    assert.equal(attention.length, 2 * (2 + 1));
  }));

Deno.test("bench:step says what is wrong with its options", async () => {
  for (
    const [option, message] of [
      ["--shape=huge", "no shape is named huge"],
      ["--tokens=few", "--tokens: expected a whole number above 0, found few"],
      ["--memory=much", "--memory: expected a number of bytes"],
      ["--speed=9", "usage: deno task bench:step"],
    ]
  ) {
    const { status, stderr } = await task("bench:step", option);
    assert.equal(status, 2, stderr);
    assert.ok(stderr.includes(message), stderr);
  }
});

Deno.test("bench:scaling prints a row for each size, with exponents of time and memory", async () => {
  const { status, stdout, stderr } = await task("bench:scaling", "--tokens=16,32", "--layers=1", "--batch=");
  assert.equal(status, 0, stderr);
  const rows = stdout.split("\n").map((line) => line.trim().split(/ {2,}/));
  assert.ok(rows.some(([value, ms, share]) => value === "16" && Number(ms) > 0 && /%$/.test(share)));
  const grown = rows.find(([value]) => value === "32")!;
  assert.ok(Number.isFinite(Number(grown[2])) && Number(grown[6]) > 0, grown.join("|"));
});

const PAIRS = ["--pairs=4", "--batch=2", "--max_length=64"];
const BENCH_PAIRS = [`${GOLDEN}/pairs.jsonl`, `${GOLDEN}/untied`, ...PAIRS];

Deno.test("bench:pairs trains on the first pairs of a file, and compares with what PyTorch's program prints where it is asked", () =>
  withTemporaryFolder(async (folder) => {
    const alone = await task("bench:pairs", ...BENCH_PAIRS);
    assert.equal(alone.status, 0, alone.stderr);
    assert.match(
      alone.stdout,
      /2 steps of 2 pairs, \d+ layers: \d+ tokens packed with shared prefixes, \d+ padded/,
    );
    assert.match(alone.stdout, /[\d.]+ pairs\/s; seconds [\d.]+ [\d.]+; losses \S+ \S+/);
    assert.match(alone.stdout, /PyTorch: skipped/);
    const own = alone.stdout.match(/losses (\S+) (\S+)/)!.slice(1).map(Number);
    for (const [losses, status, says] of [[own, 0, "the same"], [[own[0], 2 * own[1]], 1, "MORE"]] as const) {
      const python = join(folder, "python");
      const printed = JSON.stringify({ name: "PyTorch", losses, seconds: [1, 2] });
      await Deno.writeTextFile(python, `#!/bin/sh\necho '${printed}'\n`, { mode: 0o755 });
      const finished = await taskWith({ PYTHON: python }, "bench:pairs", ...BENCH_PAIRS);
      assert.equal(finished.status, status, finished.stderr);
      assert.match(finished.stdout, /ours is [\d.]+ x PyTorch/);
      assert.ok(finished.stdout.includes(says), finished.stdout);
    }
  }));

Deno.test("bench:prefix compares operations and time with separate sequences", async () => {
  const { status, stdout, stderr } = await task(
    "bench:prefix",
    `${GOLDEN}/pairs.jsonl`,
    `${GOLDEN}/untied`,
    "--pairs=4",
    "--layers=1",
    "--seconds=1",
  );
  assert.equal(status, 0, stderr);
  assert.match(stdout, /total operations +[\d.]+ GFLOP +[\d.]+ GFLOP +-?[\d.]+ %/);
  assert.match(stdout, /seconds +[\d.]+ +[\d.]+ .*log-probabilities differ by \S+ at most/);
});

Deno.test("the kernels that are measured alone run, and are all those of a training step", async () => {
  const gpu = await openBenchGpu();
  try {
    const pipelines = new Pipelines(gpu);
    const bench = new Workbench(gpu);
    const { cases, fill } = kernelCases(bench, {
      tokens: 64,
      attention: [64],
      labels: 8,
      parameters: 4096,
    });
    await bench.allocate(gpu);
    fill(gpu);
    for (const { name, calls } of cases) {
      const seconds = await (await bench.sample(pipelines, calls))(1);
      assert.ok(seconds > 0, name);
    }
    bench.plan.destroy();
    const pairs = [randomPairs(16, 1, TINY_LLAMA.vocabSize)];
    const trainer = await openTrainer(gpu, pipelines, TINY_LLAMA, losses.simper, pairs, { slots: 1 });
    const { kernels } = await profileStep(gpu, trainer, pairs);
    const measured = new Set(cases.flatMap(({ calls }) => calls.map(({ label }) => label)));
    const missing = kernels.map(({ name }) => name)
      .filter((name) => !name.startsWith("gemm_") && !measured.has(name));
    assert.deepEqual([...new Set(missing)], []);
    trainer.decoder.destroy();
  } finally {
    gpu.destroy();
  }
});
