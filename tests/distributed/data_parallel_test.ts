/** Runs of several ranks, all in the process of the test. */
import { blockingDriver } from "../blocking_driver.ts";
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Communicator } from "../../lib/distributed/communicator.ts";
import type { TrainOptions } from "../../lib/run/options.ts";
import type { TrainRun } from "../../lib/run/outcome.ts";
import { openSafetensors } from "../../lib/safetensors/read.ts";
import { assertSame } from "../equal_bytes.ts";
import { GOLDEN, readGolden, readTensors, relativeDifference } from "../golden_run.ts";
import { ls } from "../in_process.ts";
import { trainAs } from "../ranks.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** The largest difference between two runs' figures of a name, relative. */
const differenceIn = (
  key: string,
  a: readonly Record<string, unknown>[],
  b: readonly Record<string, unknown>[],
) => {
  const series = (log: typeof a) => log.map((entry) => entry[key] as number);
  return relativeDifference(series(a), series(b));
};

const WHOLE = ["--max_steps=-1", "--save_strategy=no"];
const SIZES: [size: number, overrides: string[]][] = [
  [2, ["--zero_stage=1"]],
  [2, ["--zero_stage=2"]],
  // The second step of an epoch has three pairs: one rank has nothing to do.
  [4, ["--per_device_train_batch_size=1", "--gradient_accumulation_steps=2", "--num_gpus=2"]],
];
for (const [size, keys] of SIZES) {
  Deno.test(`a run of ${size} ranks (${keys[0].slice(2)}) has PyTorch's log and weights, and the log is the same on each`, () =>
    withTemporaryFolder(async (folder) => {
      const said: string[] = [];
      const bytes: string[] = [];
      const [first, ...others] = await trainAs(size, folder, [...WHOLE, ...keys], () => ({
        onLog(level, message) {
          if (level !== "debug") said.push(message);
          bytes.push(...message.match(/^allocated (\d+) bytes, planned (\d+)$/)?.slice(1) ?? []);
        },
      }));
      assert.equal(bytes.length, 2);
      assert.equal(bytes[0], bytes[1]);
      assert.equal(said.filter((message) => message.startsWith(`${size} ranks: `)).length, 1);
      assert.equal(new Set(said).size, said.length, `said twice: ${said.join("\n")}`);
      const { log } = await readGolden("untied");
      assert.equal(first.history.length, log.length);
      for (const key of Object.keys(log[0])) {
        const difference = differenceIn(key, first.history, log);
        assert.ok(difference < 1e-4, `${key}: ${difference}`);
        for (const { history } of others) assert.equal(differenceIn(key, history, first.history), 0);
      }
      const [start, end] = [`${GOLDEN}/untied`, `${GOLDEN}/untied-golden/model`].map((model) =>
        readTensors(join(model, "model.safetensors"))
      );
      const found = await readTensors(join(folder, "model.safetensors"));
      for (const [name, values] of await end) {
        const before = (await start).get(name)!;
        const change = (to: Float32Array) => to.map((value, i) => value - before[i]);
        const difference = relativeDifference(change(found.get(name)!), change(values));
        assert.ok(difference < 2e-3, `${name}: ${difference}`);
      }
    }));
}

Deno.test("a rank that its driver blocks tells how much of the whole step is done", () =>
  withTemporaryFolder(async (folder) => {
    using driver = blockingDriver();
    const heard = new Set<string>();
    await trainAs(2, folder, ["--max_steps=1", "--save_strategy=no"], ({ rank }) => ({
      onSubmit: ({ pairs }) => {
        driver.isSlow = true;
        if (rank === 0 && pairs) heard.add(`${pairs.done}/${pairs.total}`);
      },
      onStep: () => driver.isSlow = false,
    }));
    assert.deepEqual([...heard], ["0/4", "4/4"]);
  }));

/** DPO on adapters with dropout, whose reference the first rank computes; all of it evaluated by halves. */
const ADAPTED = [
  "--loss_type=sigmoid",
  "--use_peft",
  "--lora_dropout=0.1",
  "--do_eval",
  "--eval_strategy=steps",
  "--eval_steps=2",
  "--per_device_eval_batch_size=2",
  "--max_steps=4",
  "--save_steps=2",
  "--save_total_limit=1",
];

Deno.test("a signal to one of two ranks stops both; the run that goes on has the unbroken one's bytes, though each rank has half of the moments and sums", () =>
  withTemporaryFolder(async (folder) => {
    // Evaluated on what is trained on.
    for (const split of ["train", "test"]) {
      await Deno.mkdir(join(folder, "pairs"), { recursive: true });
      await Deno.copyFile(`${GOLDEN}/pairs.jsonl`, join(folder, "pairs", `${split}.jsonl`));
    }
    const keys = [...ADAPTED, `--dataset_mixer={${JSON.stringify(join(folder, "pairs"))}: 1}`];
    const train = (size: number, out: string, options?: (own: Communicator) => TrainOptions) =>
      trainAs(size, join(folder, out), [...keys, `--zero_stage=${out === "broken" ? 2 : 0}`], options);
    const [whole] = await train(2, "whole");
    const stop = new AbortController();
    const stopped = await train(2, "broken", ({ rank }) => ({
      ...rank === 1 && {
        signal: stop.signal,
        onStep: ({ step }: { step: number }) => step === 3 && stop.abort(),
      },
    }));
    assert.deepEqual(stopped.map(({ isStopped, steps }) => [isStopped, steps]), [[true, 3], [true, 3]]);
    assert.ok(ls(join(folder, "broken")).includes("checkpoint-3"));
    const [resumed] = await train(2, "broken");
    for (const file of ["adapter_model.safetensors", "checkpoint-4/optimizer.safetensors"]) {
      const [found, expected] = ["broken", "whole"].map((out) => readTensors(join(folder, out, file)));
      assert.deepEqual([...(await found).keys()].sort(), [...(await expected).keys()].sort());
      for (const [name, values] of await expected) assertSame((await found).get(name), values, name);
    }
    const lossOf = (entries: readonly Record<string, unknown>[]) =>
      entries.map(({ step, loss, eval_loss }) => ({ step, loss, eval_loss }));
    assert.deepEqual(lossOf(resumed.history), lossOf(whole.history));

    const [alone] = await train(1, "alone");
    for (const key of ["eval_loss", "eval_rewards/margins", "eval_entropy"]) {
      const entries = ({ history }: TrainRun) => history.filter((entry) => key in entry);
      assert.equal(entries(alone).length, 2);
      const difference = differenceIn(key, entries(whole), entries(alone));
      assert.ok(difference < 1e-4, `${key}: ${difference}`);
    }
  }));

/** The tensors of a file as they are stored, moments in bytes too. */
async function storedTensors(path: string): Promise<Map<string, Uint8Array>> {
  const file = await openSafetensors(path);
  try {
    const read = async (name: string) => [name, await file.readBytes(name)] as const;
    return new Map(await Promise.all([...file.tensors.keys()].sort().map(read)));
  } finally {
    await file.close();
  }
}

/** A run's optimizer, and how many passes each of its two ranks makes of a step. */
const OPTIMIZERS: [optim: string, passes: number][] = [["adamw_torch", 2], ["adamw_8bit", 1], [
  "lion_32bit",
  1,
]];
for (const [optim, passes] of OPTIMIZERS) {
  Deno.test(`ranks that share out moments or gradients of ${optim} leave what ranks with all of them leave`, () =>
    withTemporaryFolder(async (folder) => {
      const keys = [
        `--optim=${optim}`,
        "--max_steps=2",
        "--save_steps=2",
        `--per_device_train_batch_size=${2 / passes}`,
        `--num_gpus=${passes}`,
      ];
      for (const stage of [0, 1, 2]) {
        await trainAs(2, join(folder, `${stage}`), [...keys, `--zero_stage=${stage}`]);
      }
      for (const file of ["model.safetensors", "optimizer.safetensors"]) {
        const [kept, ...others] = await Promise.all(
          [0, 1, 2].map((stage) => storedTensors(join(folder, `${stage}/checkpoint-2`, file))),
        );
        for (const shared of others) assertSame(shared, kept, file);
      }
    }));
}
