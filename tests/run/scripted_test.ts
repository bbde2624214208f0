/** What a script gives to `train`: a loss and pairs of its own. */
import { blockingDriver } from "../blocking_driver.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import { defineConfig } from "../../lib/config/parse.ts";
import { UserError } from "../../lib/errors.ts";
import type { FunctionLoss, Loss } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import type { TrainOptions } from "../../lib/run/options.ts";
import { train } from "../../lib/run/train.ts";
import type { RunKeys } from "../../lib/config/schema.ts";
import { GOLDEN, readTensors, relativeDifference } from "../golden_run.ts";
import { weightsOf } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const ROWS: Record<string, string>[] = (await Deno.readTextFile(`${GOLDEN}/pairs.jsonl`)).trim().split("\n")
  .map((
    line,
  ) => JSON.parse(line));

const KEYS: RunKeys = {
  model_name_or_path: `${GOLDEN}/untied`,
  max_length: 96,
  max_prompt_length: 48,
  learning_rate: 1e-3,
  warmup_ratio: 0,
  max_steps: 3,
  logging_steps: 1,
  train_sampling_strategy: "sequential",
};
const FILE: RunKeys = { ...KEYS, dataset_mixer: { [`${GOLDEN}/pairs.jsonl`]: 1 } };

const SIMPER: FunctionLoss = {
  name: "simper-by-hand",
  of: (chosen, rejected) => {
    const [c, r] = [chosen, rejected].map(({ sum, labels }) => Math.exp(sum / labels));
    return { value: r - c, dChosen: -c / chosen.labels, dRejected: r / rejected.labels };
  },
};

/** Trains and saves; the losses of the steps. */
async function lossesOf(out: string, keys: RunKeys, options: TrainOptions = {}): Promise<number[]> {
  await using run = await train({ ...keys, output_dir: out }, options);
  await run.save();
  return run.history.map(({ loss }) => loss);
}

async function refused(body: Promise<unknown>, code: string, expected: RegExp): Promise<void> {
  await assert.rejects(body, (error) => {
    assert.ok(error instanceof UserError, String(error));
    assert.match(error.message, expected);
    assert.equal(error.code, code);
    return true;
  });
}

const settings: [string, Partial<RunKeys>][] = [
  ["accumulation and checkpointing of activations", {
    per_device_train_batch_size: 2,
    gradient_accumulation_steps: 2,
    gradient_checkpointing: true,
    max_grad_norm: 0.01,
  }],
  ["updates within the backward pass", { per_device_train_batch_size: 3, max_grad_norm: 0 }],
];
for (const [name, keys] of settings) {
  Deno.test(`SimPER in TypeScript trains as the kernel's, with ${name}`, () =>
    withTemporaryFolder(async (folder) => {
      const [own, built] = [join(folder, "own"), join(folder, "built")];
      const expected = await lossesOf(built, { ...FILE, ...keys });
      const found = await lossesOf(own, { ...FILE, ...keys }, { loss: SIMPER });
      assert.equal(found.length, 3);
      found.forEach((loss, i) =>
        assert.ok(Math.abs(loss - expected[i]) < 1e-6, `${loss} and ${expected[i]}`)
      );
      const start = await readTensors(`${GOLDEN}/untied/model.safetensors`);
      const [mine, theirs] = await Promise.all(
        [own, built].map((out) => readTensors(`${out}/model.safetensors`)),
      );
      let moved = 0;
      for (const [tensor, weights] of theirs) {
        const difference = relativeDifference(mine.get(tensor)!, weights);
        moved = Math.max(moved, relativeDifference(start.get(tensor)!, weights));
        assert.ok(difference < 2e-5, `${tensor}: ${difference}`);
      }
      assert.ok(moved > 1e-3);
    }));
}

Deno.test("the name of a loss of one's own stands in the reports, and the run goes on with no other", () =>
  withTemporaryFolder(async (folder) => {
    const out = join(folder, "out");
    const stop = new AbortController();
    const said: string[] = [];
    {
      await using run = await train({ ...FILE, output_dir: out }, {
        loss: SIMPER,
        signal: stop.signal,
        onStep: () => stop.abort(),
        onLog: (_, message) => said.push(message),
      });
      assert.ok(run.isStopped);
      assert.equal(run.steps, 1);
    }
    assert.ok(
      said.includes("loss: simper-by-hand, whose derivatives are those of its values"),
      said.join("\n"),
    );
    const state = JSON.parse(await Deno.readTextFile(join(out, "checkpoint-1", "trainer_state.json")));
    assert.equal(state.stateful_callbacks.Loss.args.name, "simper-by-hand");
    const goOn = (loss?: Loss) => train({ ...FILE, output_dir: out }, { loss });
    await refused(goOn(), "OUTPUT_REFUSED", /loss_type: "simper-by-hand" there, "simper" now/);
    const twice: FunctionLoss = { name: SIMPER.name, of: (c, r) => SIMPER.of(c, r) };
    await refused(
      goOn(twice),
      "OUTPUT_REFUSED",
      /loss: the loss is another, by its source or by what it gives/,
    );
    await using run = await goOn(SIMPER);
    assert.equal(run.steps, 3);
    await run.save();
    assert.match(
      await Deno.readTextFile(join(out, "README.md")),
      /trained with a preference loss of its own script, `simper-by-hand`/,
    );
  }));

Deno.test("a loss that comes to no finite number ends the run at its pair", () =>
  withTemporaryFolder(async (folder) => {
    let isTried = false;
    const loss: FunctionLoss = {
      name: "breaks",
      of: (chosen, rejected) => ({
        ...SIMPER.of(chosen, rejected),
        ...isTried && { dChosen: Infinity },
      }),
    };
    const onLog = (_: string, message: string) => isTried ||= message.startsWith("loss: breaks");
    const keys = { ...FILE, output_dir: join(folder, "out") };
    await refused(
      train(keys, { loss, onLog }),
      "LOSS_INVALID",
      /^loss breaks: .*pairs\.jsonl:\d+: expected finite numbers .*dChosen: Infinity.*\n(there is no|the last) checkpoint/,
    );
    const wrong: FunctionLoss = { name: "wrong", of: (c, r) => ({ ...SIMPER.of(c, r), dChosen: 1 }) };
    await refused(
      train(keys, { loss: wrong }),
      "LOSS_INVALID",
      /^loss wrong: dChosen: expected -0\.\d+, .* found 1,/,
    );
    await refused(
      train({ ...keys, loss_type: "sft" }, { loss: SIMPER }),
      "CONFIG_INVALID",
      /^loss_type: sft, and/,
    );
  }));

Deno.test("a loss in WGSL of one's own trains to the bits of the built-in one", () =>
  withTemporaryFolder(async (folder) => {
    const loss = { name: "copy", wgsl: losses.simper.wgsl };
    const [own, built] = [join(folder, "own"), join(folder, "built")];
    assert.deepEqual(
      await lossesOf(own, { ...FILE, max_steps: 2 }, { loss }),
      await lossesOf(built, { ...FILE, max_steps: 2 }),
    );
    assert.deepEqual(await weightsOf(own), await weightsOf(built));
    const wrong = { name: "copy", wgsl: losses.simper.wgsl.replace("-c / chosen", "-2.0 * c / chosen") };
    await refused(
      train({ ...FILE, output_dir: join(folder, "x") }, { loss: wrong }),
      "LOSS_INVALID",
      /d_chosen/,
    );
  }));

Deno.test("pairs from memory train to the bits of those of a file, and evaluate", () =>
  withTemporaryFolder(async (folder) => {
    const [own, file] = [join(folder, "own"), join(folder, "file")];
    const expected = await lossesOf(file, FILE);
    async function* slowly() {
      for (const row of ROWS) yield await Promise.resolve(row);
    }
    const entries: number[] = [];
    const saved: string[] = [];
    const found = await lossesOf(own, { ...KEYS, do_eval: true }, {
      data: { train: slowly(), test: ROWS.slice(0, 4) },
      onEvaluate: ({ eval_loss }) => void entries.push(eval_loss),
      onSave: (folder) => void saved.push(folder),
    });
    assert.deepEqual(found.slice(0, 3), expected);
    assert.deepEqual(await weightsOf(own), await weightsOf(file));
    assert.equal(entries.length, 1);
    assert.deepEqual(saved, [join(own, "checkpoint-3"), own]);
    assert.match(await Deno.readTextFile(join(own, "README.md")), /`data\.train` \| `[0-9a-f]{64}`/);
  }));

Deno.test("a row of memory is refused by its place, and other rows do not go on with a run", () =>
  withTemporaryFolder(async (folder) => {
    const keys = { ...KEYS, output_dir: join(folder, "out") };
    const bad = [...ROWS.slice(0, 3), { prompt: "hello", chosen: "there" }];
    await refused(train(keys, { data: bad }), "DATA_INVALID", /^data:row 3: /);
    await refused(train(keys, { data: [1] as never }), "DATA_INVALID", /^data:row 0: expected an object/);
    await refused(train(keys, { data: [] }), "DATA_INVALID", /^data: expected rows .* found none/);
    await refused(train(keys), "CONFIG_INVALID", /^dataset_mixer: missing: .* or the option data/);
    await refused(
      train({ ...keys, dataset_mixer: { x: 1 }, do_eval: true }, { data: ROWS }),
      "CONFIG_INVALID",
      /^dataset_mixer: there is the option data too: keep one\ndata: expected \{train, test\}/,
    );
    const stop = new AbortController();
    {
      await using run = await train(defineConfig(keys), {
        data: ROWS,
        signal: stop.signal,
        onStep: () => stop.abort(),
      });
      assert.ok(run.isStopped);
    }
    await refused(
      train(keys, { data: ROWS.slice(1) }),
      "OUTPUT_REFUSED",
      /the data of the train split are others/,
    );
    const run = await train(keys, { data: ROWS });
    assert.equal(run.steps, 3);
    await run[Symbol.asyncDispose]();
    await refused(run.save(), "DISPOSED", /was disposed of/);
  }));

Deno.test("what a script gives is checked as a run file is: unknown options, parts that are no rows, keys that are no object", async () => {
  // Whatever a script without types may give.
  const given = (keys: unknown, options?: unknown) => train(keys as RunKeys, options as TrainOptions);
  await refused(
    given(null),
    "CONFIG_INVALID",
    /^train: expected the keys of a run file as an object, .*found null$/,
  );
  await refused(given("run.yaml"), "CONFIG_INVALID", /found "run\.yaml"$/);
  await refused(given(KEYS, null), "CONFIG_INVALID", /^train: expected options as an object, found null$/);
  await refused(
    given(KEYS, { data: "abc", losss: SIMPER }),
    "CONFIG_INVALID",
    /^losss: unknown option of train: did you mean loss\?\ndata: expected rows, or \{train, test\} of rows, found "abc"$/,
  );
  await refused(
    given(KEYS, { data: { tests: ROWS } }),
    "CONFIG_INVALID",
    /^data\.train: expected rows .*, found nothing\ndata\.tests: unknown part of data: did you mean data\.test\?$/,
  );
  await refused(
    given(KEYS, { data: ROWS, loss: null }),
    "LOSS_INVALID",
    /^loss: expected \{name, wgsl\} .*found null$/,
  );
  await refused(
    given(KEYS, { data: ROWS, signal: 5, gpu: {}, onStep: 5 }),
    "CONFIG_INVALID",
    /^signal: expected an AbortSignal, found 5\ngpu: expected .*, found an object\nonStep: expected a function, found 5$/,
  );
  await refused(
    given({ ...defineConfig(FILE), max_steps: 1 }),
    "CONFIG_INVALID",
    /^max_steps: a configuration that was read has maxSteps: /,
  );
  await refused(
    given({ modelNameOrPath: "x" }),
    "CONFIG_INVALID",
    /^fromScratch: missing: a script gives the keys/,
  );
  await refused(
    given({ ...KEYS, learning_rate: NaN }),
    "CONFIG_INVALID",
    /learning_rate: expected .*, found NaN/,
  );
});

Deno.test("an adapter that there is not, or has no matrices that are asked for, is told before data are looked for", () =>
  withTemporaryFolder(async (folder) => {
    const keys: RunKeys = { ...KEYS, dataset_mixer: { "no/such-pairs": 1 }, output_dir: join(folder, "out") };
    const told = async (more: Partial<RunKeys>) =>
      await train({ ...keys, ...more }).then(() => "", ({ status, message }) => `${status} ${message}`);
    assert.match(await told({ gpu_id: "no such GPU" }), /^2 gpu_id: expected 0 /);
    assert.match(
      await told({ webgpu_engine: "deno", float32_matmul_precision: "medium" }),
      /^2 float32_matmul_precision: medium needs subgroup matrices/,
    );
  }));

Deno.test("a driver that blocks this thread is heard of within a step, and of what it has done alone", () =>
  withTemporaryFolder(async (folder) => {
    using driver = blockingDriver();
    const heard: string[] = [];
    const keys = { ...KEYS, max_steps: 1, per_device_train_batch_size: 2, gradient_accumulation_steps: 2 };
    await using _ = await train({ ...keys, output_dir: join(folder, "out") }, {
      data: ROWS,
      onSubmit: ({ step, pairs }) => {
        driver.isSlow = true;
        heard.push(`${step}: ${pairs ? `${pairs.done}/${pairs.total}` : "begins"}`);
      },
      onStep: () => driver.isSlow = false,
    });
    assert.equal(heard[0], "1: begins");
    // A software driver is given each pass in pieces.
    assert.ok(heard.filter((text) => text === "1: 0/4").length > 0, heard.join());
    assert.deepEqual([...new Set(heard.slice(1))], ["1: 0/4", "1: 2/4", "1: 4/4"]);
  }));

Deno.test("an abort ends a run that waits for a row, and gives its folder back", () =>
  withTemporaryFolder(async (folder) => {
    const keys = { ...KEYS, output_dir: join(folder, "out") };
    for (let times = 0; times < 2; times++) {
      const stop = new AbortController();
      const rows = async function* () {
        yield ROWS[0];
        setTimeout(() => stop.abort(new Error("enough")));
        await new Promise(() => {});
      };
      await assert.rejects(train(keys, { data: rows(), signal: stop.signal }), /enough/);
    }
  }));

Deno.test("a function that gives other values does not go on with a run, though its text is the same", () =>
  withTemporaryFolder(async (folder) => {
    const scaled = (by: number): FunctionLoss => ({
      name: "scaled",
      of: (chosen) => ({ value: -by * chosen.sum, dChosen: -by, dRejected: 0 }),
    });
    const keys = { ...KEYS, output_dir: join(folder, "out"), save_steps: 1, save_strategy: "steps" as const };
    const stop = new AbortController();
    await using run = await train({ ...keys, max_steps: 20 }, {
      data: ROWS,
      loss: scaled(1),
      signal: stop.signal,
      onStep: () => stop.abort(),
    });
    await run[Symbol.asyncDispose]();
    await refused(
      train({ ...keys, max_steps: 20 }, { data: ROWS, loss: scaled(2) }),
      "OUTPUT_REFUSED",
      /loss/,
    );
    const flat: FunctionLoss = { name: "flat", of: () => ({ value: 1, dChosen: 0, dRejected: 0 }) };
    const said: string[] = [];
    const options = {
      data: ROWS,
      loss: flat,
      onLog: (level: string, message: string) => void said.push(`${level}: ${message}`),
    };
    await using idle = await train({ ...keys, output_dir: join(folder, "flat"), max_steps: 1 }, options);
    assert.ok(said.some((line) => /^warning: loss flat: its derivatives are 0/.test(line)), said.join("\n"));
    // What is disposed of waits for what is saved.
    const saved = idle.save();
    await idle[Symbol.asyncDispose]();
    await saved;
    await refused(idle.save(), "DISPOSED", /disposed/);
    const huge: FunctionLoss = { name: "huge", of: () => ({ value: 1e300, dChosen: 0, dRejected: 0 }) };
    await refused(
      train(keys, { data: ROWS, loss: huge }),
      "LOSS_INVALID",
      /finite numbers of float32 .* value: 1e\+300/,
    );
  }));
