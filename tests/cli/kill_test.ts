/**
 * Runs that are killed at random moments and started again by the same command end with the bytes of an unbroken run.
 * Few of them here; `deno task test:kills` makes 25 of each kind.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { listCheckpoints } from "../../lib/checkpoint/names.ts";
import { readSavedRun } from "../../lib/checkpoint/state.ts";
import { createHash } from "node:crypto";
import { uniform } from "../../lib/random.ts";
import { trainProcess } from "../command.ts";
import { assertSame } from "../equal_bytes.ts";
import { GOLDEN } from "../golden_run.ts";
import { ls, wholeCheckpoints } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const KILLS = Number(Deno.env.get("SIMPER_KILLS") ?? 1);
const SEED = Number(Deno.env.get("SIMPER_SEED") ?? Date.now() % 2 ** 31);
const next = uniform(SEED);

/** Runs of 40 steps over 77 pairs. */
const SETUPS: Record<string, { model: string; overrides: string[] }> = {
  plain: {
    model: "untied",
    overrides: ["--max_steps=40", "--gradient_accumulation_steps=1", "--save_steps=3"],
  },
  // The last step of an epoch has one pair. The model's files are bfloat16, in shards.
  "accumulation, an odd last batch, two epochs, evaluation": {
    model: "tied-llama3-bf16-sharded",
    overrides: [
      "--num_train_epochs=2",
      "--gradient_accumulation_steps=2",
      "--train_sampling_strategy=random",
      "--eval_strategy=steps",
      "--eval_steps=4",
      "--eval_on_start",
      "--save_steps=4",
      "--save_total_limit=2",
      "--load_best_model_at_end",
      "--logging_steps=3",
      "--prompts=[hello]",
    ],
  },
};

for (const [name, { model, overrides }] of Object.entries(SETUPS)) {
  Deno.test(`killed runs end as unbroken ones: ${name}`, () =>
    withTemporaryFolder(async (folder) => {
      const data = await writeData(folder);
      const run = (out: string) => [
        `${GOLDEN}/run.yaml`,
        `--model_name_or_path=${GOLDEN}/${model}`,
        `--dataset_mixer={${data}: 1.0}`,
        `--output_dir=${join(folder, out)}`,
        "--per_device_train_batch_size=2",
        ...overrides,
      ];
      const start = performance.now();
      const unbroken = await trainProcess(run("unbroken")).output();
      const duration = performance.now() - start;
      assert.equal(unbroken.code, 0, new TextDecoder().decode(unbroken.stderr));
      const expected = await resultOf(join(folder, "unbroken"));
      assert.equal(expected.state.global_step, 40);

      for (const signal of ["SIGKILL", "SIGTERM"] as const) {
        const landed = { "in the writing of a checkpoint": 0, "before one": 0, "after the end": 0 };
        for (let kill = 0; kill < KILLS; kill++) {
          const about = `${signal} ${kill + 1} of ${KILLS}, seed ${SEED}`;
          const out = join(folder, `${signal}-${kill}`);
          const child = trainProcess(run(`${signal}-${kill}`)).spawn();
          if ((kill + (signal === "SIGKILL" ? 1 : 0)) % 2) {
            await writingBegins(out, Math.ceil(next() * 9), next() * 12);
          } else await pause(next() * duration);
          try {
            child.kill(signal);
          } catch {
            // It had ended.
          }
          const { code } = await child.output();
          const names = ls(out);
          if (
            names.some((name) => name.startsWith("tmp-"))
          ) landed["in the writing of a checkpoint"]++;
          if (!names.some((name) => name.startsWith("checkpoint-"))) landed["before one"]++;
          await wholeCheckpoints(out);
          if (names.includes("all_results.json")) landed["after the end"]++;
          else {
            assert.notEqual(code, 0, about);
            const again = await trainProcess(run(`${signal}-${kill}`)).output();
            assert.equal(again.code, 0, `${about}: ${new TextDecoder().decode(again.stderr)}`);
          }
          const result = await resultOf(out);
          // A signal that is obeyed leaves a checkpoint where it came.
          if (signal === "SIGTERM") result.checkpoints = expected.checkpoints;
          assertSame(result, expected, about);
          assert.ok(!ls(out).some((name) => name.startsWith("tmp-")), about);
          await Deno.remove(out, { recursive: true });
        }
        if (KILLS > 1) console.log(`${name}: ${signal}: ${KILLS} of ${KILLS} equal; landed`, landed);
      }
    }));
}

/** A folder of 77 training and 7 test pairs. */
async function writeData(folder: string): Promise<string> {
  const data = join(folder, "data");
  await Deno.mkdir(data);
  const pairs = await Deno.readTextFile(`${GOLDEN}/pairs.jsonl`);
  await Deno.writeTextFile(join(data, "train.jsonl"), pairs.repeat(11));
  await Deno.writeTextFile(join(data, "test.jsonl"), pairs);
  return data;
}

/** All that a run leaves that does not depend on the clock or on the name of its folder. */
async function resultOf(out: string) {
  const last = join(out, "checkpoint-40");
  const bytes: Record<string, string> = {};
  for (const folder of [out, last]) {
    for (const name of ls(folder)) {
      if (name.endsWith(".safetensors")) {
        bytes[join(folder === out ? "" : "last", name)] = createHash("sha256").update(
          await Deno.readFile(join(folder, name)),
        ).digest("hex");
      }
    }
  }
  const state = JSON.parse(await Deno.readTextFile(join(out, "trainer_state.json")));
  const results = JSON.parse(await Deno.readTextFile(join(out, "all_results.json")));
  const lines = (await Deno.readTextFile(join(out, "metrics.jsonl"))).split("\n");
  assert.equal(lines.pop(), "");
  const metrics = lines.map((line) => JSON.parse(line));
  // All of it: what is new in it tomorrow too.
  const saved = await readSavedRun(last);
  const run: Record<string, unknown> = { ...saved.state.run.config, output_dir: "" };
  const runState = { ...saved.state, run: { ...saved.state.run, config: run } };
  const { figures } = runState;
  for (const entry of [...state.log_history, ...metrics, results, figures, figures.window]) {
    for (const key of Object.keys(entry)) {
      if (/per_second$|runtime$|seconds$/.test(key)) delete entry[key];
    }
  }
  assert.deepEqual(metrics, state.log_history);
  if (state.best_model_checkpoint) {
    state.best_model_checkpoint = state.best_model_checkpoint.slice(out.length);
  }
  const checkpoints = (await listCheckpoints(out)).map(({ step }) => step);
  return { bytes, state, results, runState, checkpoints };
}

/** Waits for the `count`-th checkpoint to be begun, and some milliseconds more. */
async function writingBegins(out: string, count: number, more: number): Promise<void> {
  const seen = new Set<string>();
  for (let waited = 0; waited < 60_000 && seen.size < count; waited++) {
    for (const name of ls(out)) if (name.startsWith("tmp-checkpoint-")) seen.add(name);
    if (seen.size < count) await pause(1);
  }
  await pause(more);
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
