/**
 * A loss's reference: its sums are computed once, before the first step, kept in the cache, and read with the pairs.
 */
import assert from "node:assert/strict";
import { copyFile, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { hashModel } from "../../lib/checkpoint/fingerprint.ts";
import { readConfig } from "../../lib/config/parse.ts";
import { memoryRows } from "../../lib/data/memory.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { Pipelines } from "../../lib/gpu/program.ts";
import { usualTuning } from "../../lib/gpu/tuning.ts";
import { adapterOf, bytesOfRun, planRun } from "../../lib/planning/plan.ts";
import { prepare } from "../../lib/planning/prepare.ts";
import type { Progress } from "../../lib/progress/progress.ts";
import { train } from "../../lib/run/train.ts";
import { addReference, keptReference } from "../../lib/run/reference.ts";
import { evaluate } from "../../lib/training/evaluate.ts";
import { openModel } from "../../lib/weights/weights.ts";
import { GOLDEN } from "../golden_run.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { refusal, run, weightsOf } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const gpu = await openGpu();
globalThis.addEventListener("unload", () => gpu.destroy());
const pipelines = new Pipelines(gpu);
const lines = (await readFile(`${GOLDEN}/pairs.jsonl`, "utf8")).trim().split("\n");
const rows = await memoryRows(lines.map((line) => JSON.parse(line)), "data");

interface Found {
  train: Float32Array;
  test: Float32Array;
  notes: string[];
  /** What is said of sums that are kept of other batches. */
  kept?: string;
  progress: Progress[];
}

/** The sums of the golden run with `overrides`, from or into `cache`; with `body` before all is given back. */
async function sumsOf(
  cache: string,
  overrides: string[] = [],
  { begunSteps, signal, onProgress, body }: {
    begunSteps?: number;
    signal?: AbortSignal;
    onProgress?: (progress: Progress) => void;
    body?: (
      parts: { prepared: Awaited<ReturnType<typeof prepare>>; planned: ReturnType<typeof planRun> },
    ) => Promise<void>;
  } = {},
): Promise<Found> {
  const before = process.env.SIMPER_CACHE;
  process.env.SIMPER_CACHE = cache;
  try {
    const { config } = await readConfig(`${GOLDEN}/run.yaml`, [
      "--loss_type=sigmoid",
      "--do_eval",
      ...overrides,
    ]);
    const prepared = await prepare(config, { data: { train: rows, test: rows }, begunSteps });
    const planned = planRun(prepared, config, adapterOf(gpu));
    const folder = prepared.reference!.folder ?? config.modelNameOrPath;
    const weights = await openModel(folder);
    const decoder = planned.reference!;
    const notes: string[] = [];
    const progress: Progress[] = [];
    try {
      await addReference({
        ...{ config, prepared, gpu, pipelines, decoder, signal },
        files: await hashModel(folder, weights.files),
        kernels: usualTuning("software"),
        load: () => {
          assert.equal(decoder.plan.allocatedBytes, decoder.plan.bytes);
          return decoder.load(gpu, weights);
        },
        log: (_, message) => notes.push(message),
        onProgress: (found) => {
          progress.push(found);
          onProgress?.(found);
        },
      });
      assert.equal(decoder.plan.allocatedBytes, 0, "the reference's memory was not given back");
      await body?.({ prepared, planned });
      const [train, test] = [prepared.train.reference!, prepared.test!.reference!];
      return { train, test, notes, kept: keptReference(prepared, config), progress };
    } finally {
      await weights.close();
      await prepared.close();
    }
  } finally {
    if (before === undefined) delete process.env.SIMPER_CACHE;
    else process.env.SIMPER_CACHE = before;
  }
}

const computed = ({ progress }: Found) =>
  progress.filter(({ what }) => what === "reference log-probabilities").at(-1)?.done ?? 0;

Deno.test("the reference's sums are those of the first evaluation bit for bit, are read with the pairs, and come from the cache", () =>
  withTemporaryFolder(async (cache) => {
    const first = await sumsOf(cache, [], {
      body: async ({ prepared, planned: { decoder, reference, ...rest } }) => {
        const perBatch = 4;
        await decoder.allocate(gpu, pipelines);
        const weights = await openModel(`${GOLDEN}/untied`);
        await decoder.load(gpu, weights);
        const results = await evaluate(gpu, decoder, prepared.test!, perBatch);
        decoder.destroy();
        await weights.close();
        assert.deepEqual(
          [...prepared.test!.reference!],
          results!.flatMap(({ chosen, rejected }) => [chosen, rejected]),
        );
        const [pair] = await prepared.test!.read([1]);
        assert.deepEqual(pair.reference, { chosen: results![1].chosen, rejected: results![1].rejected });
        // They are never there together.
        const bytes = bytesOfRun({ decoder, reference, ...rest });
        assert.equal(bytes, Math.max(decoder.plan.bytes, reference!.plan.bytes));
        assert.ok(reference!.plan.bytes < decoder.plan.bytes);
      },
    });
    assert.equal(computed(first), (first.train.length + first.test.length) / 2);
    assert.ok(first.train.every(Number.isFinite));
    const again = await sumsOf(cache);
    assert.equal(computed(again), 0);
    assert.deepEqual([again.train, again.test], [first.train, first.test]);
  }));

Deno.test("of the training pairs only those that the steps draw are looked at, and a longer run computes the rest to the same bits", () =>
  withTemporaryFolder(async (cache) => {
    const whole = await sumsOf(cache);
    await withTemporaryFolder(async (other) => {
      const short = await sumsOf(other, ["--max_steps=1"]);
      const known = short.train.filter(Number.isFinite).length;
      assert.ok(known > 0 && known < short.train.length, `${known}`);
      const longer = await sumsOf(other);
      assert.equal(computed(longer), (short.train.length - known) / 2);
      assert.deepEqual(longer.train, whole.train);
    });
  }));

Deno.test("where the order is drawn, the pairs that are looked at are those of the steps, and of neighbours only where they are asked for", () =>
  withTemporaryFolder(async (cache) => {
    const drawn = ["--train_sampling_strategy=random", "--gradient_accumulation_steps=1"];
    const known = ({ train }: Found) =>
      [...train.keys()].filter((i) => i % 2 === 0 && Number.isFinite(train[i]));
    const [one, two] = [
      await sumsOf(cache, [...drawn, "--max_steps=1"]),
      await sumsOf(cache, [...drawn, "--max_steps=2"]),
    ];
    assert.deepEqual([known(one).length, known(two).length, computed(two)], [2, 4, 2]);
    for (const i of known(one)) assert.equal(two.train[i], one.train[i]);
    const other = await sumsOf(cache, [...drawn, "--max_steps=1", "--seed=7"]);
    assert.equal(computed(other), 2, "another order's sums are other ones");
    // The last digits of a sum are those of its batch.
    const whole = await sumsOf(cache, drawn);
    assert.equal(computed(whole), whole.train.length / 2);
    for (const i of known(two)) assert.ok(Math.abs(whole.train[i] - two.train[i]) < 1e-4);
    const goneOn = await sumsOf(cache, drawn, { begunSteps: 2 });
    assert.equal(known(goneOn).length, whole.train.length / 2);
    for (const i of known(two)) assert.equal(goneOn.train[i], two.train[i]);
    assert.match(goneOn.kept!, /^max_steps: the run was to end after 2 steps, .* last digits .* 8 steps/);
    assert.equal(whole.kept, undefined);
    const neighbours = await sumsOf(cache, [...drawn, "--max_steps=1", "--precompute_ref_batch_size=2"]);
    assert.equal(
      computed(neighbours),
      neighbours.test.length / 2,
      "of the training pairs the whole run's are there",
    );
  }));

Deno.test("what a stopped computation had done is gone on with; a damaged file is told of and made again", () =>
  withTemporaryFolder(async (cache) => {
    const stop = new AbortController();
    await assert.rejects(
      sumsOf(cache, [], {
        signal: stop.signal,
        onProgress: ({ what, done }) =>
          what.startsWith("reference") && done >= 4 && stop.abort(new Error("stopped")),
      }),
      /stopped/,
    );
    const folder = join(cache, "reference");
    assert.deepEqual((await readdir(folder)).filter((name) => name.endsWith(".tmp")), []);
    const rest = await sumsOf(cache);
    assert.equal(computed(rest), (rest.train.length + rest.test.length) / 2 - 4);

    const names = await readdir(folder);
    assert.equal(names.length, 2);
    for (const name of names) await copyFile(join(folder, name), join(cache, name));
    const damages = [
      async (path: string) => {
        const bytes = await readFile(path);
        bytes[5] ^= 1;
        await writeFile(path, bytes);
      },
      (path: string) => truncate(path, 7),
    ];
    for (const damage of damages) {
      for (const name of names) await damage(join(folder, name));
      const again = await sumsOf(cache);
      assert.match(again.notes[0], /reference.*damaged: computing again/);
      assert.deepEqual([again.train, again.test], [rest.train, rest.test]);
    }
  }));

Deno.test("another model is the reference where it reads the same tokens, and is refused by name where not", () =>
  withTemporaryFolder(async (cache) => {
    const own = await sumsOf(cache, ["--max_steps=1"]);
    const other = await sumsOf(cache, ["--max_steps=1", `--ref_model=${GOLDEN}/sliding-window`]);
    assert.ok(computed(other) > 0 && other.test.every((sum, i) => sum !== own.test[i]));
    const of = { output_dir: join(cache, "out") };
    assert.equal(
      await refusal(
        train({ ...of, ref_model: "other", model_name_or_path: `${GOLDEN}/untied` }, { data: [] }),
      ),
      "ref_model: the loss simper has no reference: remove it",
    );
    await assert.rejects(sumsOf(cache, ["--ref_model=configs/tiny/model"]), {
      name: "UserError",
      message:
        /^ref_model: expected the vocabulary of model_name_or_path, of \d+ tokens \(vocab_size\), found \d+ in configs\/tiny\/model/,
    });
  }));

Deno.test("a run with a reference begins at ln 2, and one that goes on has the bits of an unbroken one, from the cache", () =>
  withTemporaryFolder(async (folder) => {
    const [whole, stopped] = ["whole", "stopped"].map((name) => join(folder, name));
    const dpo = ["--logging_steps=1", "--loss_type=sigmoid", "--max_steps=6"];
    const { history } = await run(whole, dpo);
    assert.ok(Math.abs(history[0].loss - Math.LN2) < 1e-6, `${history[0].loss}`);
    assert.equal(history[0]["rewards/margins"], 0);
    assert.ok(history.at(-1)!.loss < 0.999 * Math.LN2);
    const stop = new AbortController();
    const onStep = ({ step }: { step: number }) => step >= 3 && stop.abort();
    await run(stopped, dpo, { onStep, signal: stop.signal });
    const other = run(stopped, [...dpo, `--ref_model=${GOLDEN}/sliding-window`]);
    assert.match(
      await refusal(other),
      /is of another run:\n {2}ref_model: (config\.json|model\.safetensors) is another file/,
    );
    const heard: string[] = [];
    await run(stopped, dpo, { onProgress: ({ what }) => heard.push(what) });
    assert.ok(!heard.includes("reference log-probabilities"));
    assertEqualBytes(await weightsOf(stopped), await weightsOf(whole));
  }));

Deno.test("beside adapters the reference is what the run begins with: the base, or the base with those that it goes on from", () =>
  withTemporaryFolder(async (folder) => {
    const margins: number[] = [];
    const goesOn = "--adapter_name_or_path=tests/golden/adapters/lora";
    for (
      const [name, ...keys] of [["new", "--lora_r=4"], ["on", goesOn], [
        "base",
        goesOn,
        `--ref_model=${GOLDEN}/untied`,
      ]]
    ) {
      const { history } = await run(join(folder, name), [
        ...["--loss_type=sigmoid", "--use_peft", "--max_steps=1", "--save_strategy=no"],
        ...keys,
      ]);
      margins.push(history[0]["rewards/margins"]);
    }
    assert.deepEqual(margins.slice(0, 2), [0, 0]);
    assert.ok(Math.abs(margins[2]) > 1e-4, `${margins[2]}`);
  }));

Deno.test("random weights are those of the reference too, whichever of them are trained", () =>
  withTemporaryFolder(async (out) => {
    const { history } = await run(out, [
      ...["--loss_type=sigmoid", "--from_scratch", "--unfrozen_parameters=[model.layers.1.+]"],
      ...["--max_steps=1", "--save_strategy=no"],
    ]);
    assert.equal(history[0]["rewards/margins"], 0);
  }));

Deno.test("judged responses train under KTO from 1/2 on, and pairs as two of them", () =>
  withTemporaryFolder(async (folder) => {
    const judged = ["One.", "Two, or more.", "Three!", "I do not know."].map((text, i) => ({
      prompt: `How many are ${"ab ".repeat(i + 1)}?`,
      completion: ` ${text}`,
      label: i % 2 === 0,
    }));
    const keys = {
      ...{
        model_name_or_path: `${GOLDEN}/untied`,
        loss_type: "kto" as const,
        learning_rate: 1e-3,
        warmup_ratio: 0,
      },
      ...{ max_length: 96, max_prompt_length: 48, logging_steps: 1, per_device_train_batch_size: 2 },
      ...{
        num_train_epochs: 2,
        train_sampling_strategy: "sequential" as const,
        save_strategy: "no" as const,
      },
    };
    await using single = await train({ ...keys, output_dir: join(folder, "single") }, { data: judged });
    assert.equal(single.steps, 4);
    assert.ok(Math.abs(single.history[0].loss - 0.5) < 1e-6, `${single.history[0].loss}`);
    assert.ok(single.history[3].loss < 0.499, `${single.history[3].loss}`);
    await using pairs = await train({ ...keys, output_dir: join(folder, "pairs"), num_train_epochs: 1 }, {
      data: lines.slice(0, 3).map((line) => JSON.parse(line)),
    });
    assert.equal(pairs.pairs, 6);
    await assert.rejects(
      train({ ...keys, output_dir: join(folder, "none") }, { data: [{ prompt: "a", completion: " b" }] }),
      { name: "UserError", code: "DATA_INVALID", message: /^data:row 0: label: expected true or false/ },
    );
  }));
