/**
 * Runs that the world disturbs: places that cannot be had, other runs, folders that change, logs that nobody reads,
 * signals.
 */
import assert from "node:assert/strict";
import { join, resolve } from "node:path";
import { lockFolder } from "../../lib/checkpoint/lock.ts";
import { readConfig } from "../../lib/config/parse.ts";
import type { TrainOptions } from "../../lib/run/options.ts";
import { train } from "../../lib/run/train.ts";
import { trainProcess } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { ls, refusal, run, stopAt, weightsOf, wholeCheckpoints } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const test = (name: string, body: (folder: string) => Promise<void>) =>
  Deno.test(name, () => withTemporaryFolder(body));

const readText = (...path: string[]) => Deno.readTextFile(join(...path));
const readJson = async (...path: string[]) => JSON.parse(await readText(...path));

/** Whoever asks for an adapter came too far. */
const NO_GPU: TrainOptions = {
  gpu: { requestAdapter: () => assert.fail("the GPU was asked for") } as unknown as GPU,
};

/** A copy of the golden model. */
async function modelIn(folder: string): Promise<string> {
  const model = join(folder, "model");
  await Deno.mkdir(model, { recursive: true });
  for (const name of ls(`${GOLDEN}/untied`)) {
    await Deno.copyFile(`${GOLDEN}/untied/${name}`, join(model, name));
  }
  return model;
}

test("an output folder that cannot be written to is one message, before data and GPU", async (folder) => {
  const at = (name: string) => join(folder, name);
  await Deno.writeTextFile(at("file"), "");
  await Deno.symlink(at("nowhere/out"), at("dangling"));
  await Deno.mkdir(at("report/README.md"), { recursive: true });
  await Deno.mkdir(at("weights/model-00001-of-00002.safetensors"), { recursive: true });
  await Deno.mkdir(at("taken"));
  await Deno.writeTextFile(at("taken/checkpoint-4"), "");
  const cases: [out: string, says: RegExp][] = [
    [at("file"), /is a file, expected a folder$/],
    [at("file/out"), /cannot be made: ENOTDIR/],
    [at("dangling"), /cannot be made: /],
    ["/proc/simper/out", /cannot be made: /],
    ["/dev/null/out", /cannot be made: /],
    [at("x".repeat(300)), /cannot be made: ENAMETOOLONG/],
    // Room for the folder, but not for what is in it.
    [
      at(`${"y".repeat(99)}/`.repeat(40).slice(0, 4030 - folder.length)),
      /cannot be (made|written to): ENAMETOOLONG/,
    ],
    [at("nul\0byte"), /cannot be made: .*null bytes/],
    [at("report"), /holds README\.md as a folder, where a run writes a file/],
    [at("weights"), /holds model-00001-of-00002\.safetensors as a folder/],
    [at("taken"), /holds checkpoint-4 as a file, where a run writes a folder/],
  ];
  const before = ls(folder);
  for (const [out, says] of cases) {
    const options = [`--dataset_mixer={${GOLDEN}/pairs.jsonl: 1.0}`, "--overwrite_output_dir"];
    const message = await refusal(run(out, options, NO_GPU));
    assert.ok(message.startsWith("output_dir: "), message);
    assert.match(message, says);
  }
  assert.deepEqual(ls(folder), before);
});

test("a run does not write where it reads, however the places are named", async (folder) => {
  const model = await modelIn(folder);
  const data = join(folder, "data");
  await Deno.mkdir(data);
  await Deno.copyFile(`${GOLDEN}/pairs.jsonl`, join(data, "train.jsonl"));
  await Deno.symlink(model, join(folder, "link"));
  const start = join(folder, "start");
  await run(start, ["--max_steps=2", "--save_steps=1"]);
  await Deno.mkdir(join(folder, "used"));
  await Deno.rename(join(start, "checkpoint-1"), join(folder, "used", "checkpoint-1"));
  await Deno.copyFile(`${GOLDEN}/pairs.jsonl`, join(folder, "used", "metrics.jsonl"));

  const used = join(folder, "used");
  const cases: [out: string, model: string, data: string, more: string, says: RegExp][] = [
    [model, model, data, "", /is the same as model_name_or_path/],
    [join(folder, "link"), model, data, "", /is the same as model_name_or_path/],
    [join(folder, "data", "..", "model"), model, data, "", /is the same as model_name_or_path/],
    [join(model, "a", "b"), model, data, "", /is inside model_name_or_path/],
    [join(folder, "link", "a"), model, data, "", /is inside model_name_or_path/],
    [data, model, data, "", /is the same as dataset_mixer/],
    [join(data, "out"), model, data, "", /is inside dataset_mixer/],
    [
      used,
      join(used, "checkpoint-1"),
      data,
      "",
      /holds model_name_or_path .* in a place where the run writes/,
    ],
    [used, model, join(used, "metrics.jsonl"), "", /holds dataset_mixer .* in a place where the run writes/],
    [
      join(used, "checkpoint-1"),
      model,
      data,
      `--resume_from_checkpoint=${used}/checkpoint-1`,
      /is the same as resume/,
    ],
    [
      join(used, "checkpoint-1", "a"),
      model,
      data,
      `--resume_from_checkpoint=${used}/checkpoint-1`,
      /is inside resume/,
    ],
  ];
  const before = ls(model).length + ls(data).length + ls(used).length + ls(join(used, "checkpoint-1")).length;
  for (const [out, from, pairs, more, says] of cases) {
    const words = [
      `--model_name_or_path=${from}`,
      `--dataset_mixer={${pairs}: 1.0}`,
      "--overwrite_output_dir",
      ...more ? [more] : [],
    ];
    assert.match(await refusal(run(out, words, NO_GPU)), says);
  }
  assert.equal(
    ls(model).length + ls(data).length + ls(used).length + ls(join(used, "checkpoint-1")).length,
    before,
  );
  // A model beside the result is in nobody's way, and what is gone on from is not removed with the rest.
  const out = join(folder, "out");
  await Deno.mkdir(out);
  await Deno.rename(model, join(out, "base"));
  await Deno.rename(join(used, "checkpoint-1"), join(out, "checkpoint-1"));
  await run(out, [
    `--model_name_or_path=${out}/base`,
    `--resume_from_checkpoint=${out}/checkpoint-1`,
    "--overwrite_output_dir",
    "--max_steps=2",
    "--save_steps=1",
  ]);
  assert.deepEqual(await wholeCheckpoints(out), [1, 2]);
  assert.deepEqual(
    await Deno.readFile(join(out, "base", "config.json")),
    await Deno.readFile(`${GOLDEN}/untied/config.json`),
  );
});

test("a second run in an output folder is refused at once, naming the first; a killed one is in nobody's way", async (folder) => {
  const out = join(folder, "out");
  const args = [`${GOLDEN}/run.yaml`, `--output_dir=${out}`, "--max_steps=100000", "--save_steps=1"];
  const first = trainProcess(args).spawn();
  const stdout = first.stdout.cancel();
  let log = "";
  for await (const text of first.stderr.pipeThrough(new TextDecoderStream())) {
    const isNew = !log.includes("saved ");
    log += text;
    if (!isNew || !log.includes("saved ")) continue;
    const since = new Date().toISOString().slice(0, 10);
    const refused = new RegExp(
      `^output_dir: \\S+ is in use by another run \\(process ${first.pid} on ${Deno.hostname()}, since ${since}T`,
    );
    assert.match(await refusal(run(out, [], NO_GPU)), refused);
    assert.match(await refusal(run(out, ["--overwrite_output_dir"], NO_GPU)), refused);
    first.kill("SIGKILL");
  }
  await stdout;
  await first.status;
  assert.ok(ls(out).includes(".simper-lock"), "the killed run left its lock behind");
  const last = (await wholeCheckpoints(out)).at(-1)!;
  const stop = new AbortController();
  await run(out, ["--max_steps=100000", "--save_steps=1"], {
    signal: stop.signal,
    onStep: () => stop.abort(),
  });
  assert.ok((await wholeCheckpoints(out)).at(-1)! > last);
  assert.deepEqual(ls(out).filter((name) => /^\.|^tmp-|\.tmp$/.test(name)), []);
});

test("of many that ask for a folder at once one gets it, in one process too", async (folder) => {
  for (let round = 0; round < 10; round++) {
    const asked = await Promise.allSettled(
      Array.from({ length: 8 }, () => lockFolder(folder, assert.fail)),
    );
    const got = asked.filter(({ status }) => status === "fulfilled");
    assert.equal(got.length, 1);
    for (const one of asked) if (one.status === "fulfilled") await one.value.release();
    assert.deepEqual(ls(folder), []);
  }
});

test("a run that fails before its first step leaves no folder behind", async (folder) => {
  const out = join(folder, "deep", "out");
  await refusal(run(out, [`--dataset_mixer={${folder}/nothing.jsonl: 1.0}`]), 1);
  assert.deepEqual(ls(folder), []);
});

test("a model's folder that is gone during the run is in the result as it was", async (folder) => {
  const model = await modelIn(folder);
  const out = join(folder, "out");
  await run(out, [`--model_name_or_path=${model}`, "--max_steps=4", "--save_steps=3"], {
    onStep: ({ step }) => step === 1 && Deno.removeSync(model, { recursive: true }),
  });
  for (const name of ls(`${GOLDEN}/untied`)) {
    if (name === "model.safetensors") continue;
    for (const written of [out, join(out, "checkpoint-3"), join(out, "checkpoint-4")]) {
      assert.equal(await readText(written, name), await readText(GOLDEN, "untied", name), name);
    }
  }
});

test("a model's folder that changes while it is being read stops the run", async (folder) => {
  const model = await modelIn(folder);
  const during = (change: () => void): TrainOptions => ({
    onLog: (_, message) => message.startsWith("memory plan") && change(),
  });
  const out = join(folder, "out");
  const from = `--model_name_or_path=${model}`;
  const cases: [change: () => void, says: RegExp][] = [
    [
      () => Deno.writeTextFileSync(join(model, "tokenizer_config.json"), "{}"),
      /tokenizer_config\.json was changed/,
    ],
    [() => Deno.removeSync(join(model, "chat_template.jinja")), /chat_template\.jinja was removed/],
    [() => Deno.writeTextFileSync(join(model, "added_tokens.json"), "{}"), /added_tokens\.json was changed/],
    [
      () => Deno.copyFileSync(`${GOLDEN}/padding/model.safetensors`, join(model, "model.safetensors")),
      /model\.safetensors/,
    ],
  ];
  for (const [change, says] of cases) {
    assert.match(await refusal(run(out, [from], during(change)), 1), says);
    await Deno.remove(model, { recursive: true });
    await modelIn(folder);
  }
  assert.deepEqual(ls(folder), ["model"]);
});

test("log and state are there from before the first step, and go on with the run", async (folder) => {
  const out = join(folder, "out");
  await run(out, ["--max_steps=1"]);
  // Of the run before.
  const old = await readJson(out, "trainer_state.json");
  assert.equal(old.global_step, 1);
  const seen: string[] = [];
  await run(out, ["--overwrite_output_dir", "--max_steps=3", "--save_strategy=no"], {
    onSubmit: ({ step }) => {
      const state = JSON.parse(Deno.readTextFileSync(join(out, "trainer_state.json")));
      seen.push(
        `${step}: ${state.max_steps} ${
          Deno.readTextFileSync(join(out, "metrics.jsonl")).split("\n").length - 1
        }`,
      );
      if (step === 1) {
        assert.deepEqual([state.global_step, state.log_history], [0, []]);
        assert.ok(!ls(out).includes("all_results.json"), "the folder would be taken for a finished run's");
      }
    },
    onStep: ({ step }) => {
      // The line of this step comes after what is told of it.
      const lines = Deno.readTextFileSync(join(out, "metrics.jsonl")).trim().split("\n").filter(Boolean);
      assert.equal(lines.length, step - 1);
    },
  });
  assert.equal(seen[0], "1: 3 0");
  const lines = (await readText(out, "metrics.jsonl")).trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines, (await readJson(out, "trainer_state.json")).log_history);
  assert.equal(lines.length, 3);
});

test("a run that was killed before its first checkpoint begins anew; what else is there is not touched", async (folder) => {
  const out = join(folder, "out");
  await Deno.mkdir(out);
  await Deno.writeTextFile(join(out, "metrics.jsonl"), '{"step": 1}\n');
  await Deno.writeTextFile(join(out, "trainer_state.json"), '{"global_step": 1, "max_steps": 2}');
  await Deno.writeTextFile(join(out, "README.md.tmp"), "");
  await run(out, ["--max_steps=1"]);
  assert.equal((await readText(out, "metrics.jsonl")).split("\n").length, 2);
  assert.ok(!ls(out).includes("README.md.tmp"));
  // A finished run, of this version or of one before, is refused.
  assert.match(
    await refusal(run(out, ["--max_steps=1"], NO_GPU)),
    /is not empty \(it holds a finished run\)/,
  );
  // A result that was not written to its end is none.
  await Deno.remove(join(out, "all_results.json"));
  const messages: string[] = [];
  await run(out, ["--max_steps=1"], { onLog: (_, message) => messages.push(message) });
  assert.ok(messages.some((message) => message.startsWith("going on from ")));

  await Deno.remove(join(out, "checkpoint-1"), { recursive: true });
  await Deno.remove(join(out, "all_results.json"));
  assert.match(await refusal(run(out, [], NO_GPU)), /is not empty/);
});

test("a log that can no longer be written is said once, and the run goes on", async (folder) => {
  const out = join(folder, "out");
  const warnings: string[] = [];
  await run(out, ["--max_steps=4", "--warmup_ratio=0"], {
    onLog: (level, message) =>
      level === "warning" && !message.startsWith("train: ") && warnings.push(message),
    onStep: ({ step }) => {
      if (step !== 2) return;
      for (const name of ["metrics.jsonl", "trainer_state.json"]) {
        Deno.removeSync(join(out, name));
        Deno.mkdirSync(join(out, name, "in the way"), { recursive: true });
      }
      // What a finished run leaves can be written again.
      setTimeout(() => Deno.removeSync(join(out, "trainer_state.json"), { recursive: true }));
    },
  });
  assert.equal(warnings.length, 1, warnings.join("\n"));
  assert.match(
    warnings[0],
    /^the log in \S+ cannot be written: .*metrics\.jsonl.*; the run goes on without it$/,
  );
  assert.ok(ls(out).includes("all_results.json"));
});

test("a resumed run has the log and the state of an unbroken one", async (folder) => {
  const [out, unbroken] = [join(folder, "out"), join(folder, "unbroken")];
  const args = ["--max_steps=7", "--save_steps=7", "--logging_steps=2", "--gradient_accumulation_steps=1"];
  await run(unbroken, args);
  await stopAt(3, out, [...args, "--logging_steps=2"]);
  // Steps that a killed run did after its last checkpoint.
  await Deno.writeTextFile(join(out, "metrics.jsonl"), '{"step": 99}\n', { append: true });
  await run(out, args);
  /** Without what the clock says, and names. */
  const timeless = (value: unknown) =>
    JSON.parse(
      JSON.stringify(value),
      (key, inner) => /per_second$|seconds$|runtime$|^output_dir$/.test(key) ? 0 : inner,
    );
  const all = async (folder: string) =>
    timeless([
      (await readText(folder, "metrics.jsonl")).trimEnd().split("\n").map((line) => JSON.parse(line)),
      await readJson(folder, "trainer_state.json"),
      await readJson(folder, "all_results.json"),
      await readJson(folder, "checkpoint-7", "run_state.json"),
    ]);
  const [found, expected] = [await all(out), await all(unbroken)];
  assert.deepEqual(found, expected);
  const { collapse } = expected[3];
  assert.ok(collapse.start.pairs > 0 && collapse.start.chosen < 0, "there is something of the alarm to lose");
});

test("what a run goes on from is kept until a newer checkpoint is whole, and age is time", async (folder) => {
  const out = join(folder, "out");
  await run(out, ["--max_steps=6", "--save_steps=1", "--overwrite_output_dir"]);
  for (const step of [3, 4, 5]) await Deno.remove(join(out, `checkpoint-${step}`), { recursive: true });
  await Deno.rename(join(out, "checkpoint-6"), join(out, "checkpoint-600"));
  // The clock says nothing of what this run writes: it may have been set back.
  await Deno.utime(join(out, "checkpoint-2"), new Date("2099-01-01"), new Date("2099-01-01"));
  const seen: string[] = [];
  await run(out, [
    "--max_steps=6",
    "--save_steps=2",
    "--save_total_limit=2",
    `--resume_from_checkpoint=${resolve(out)}/checkpoint-2`,
  ], {
    onLog: (_, message) =>
      message.startsWith("saved ") && seen.push(ls(out).filter((name) => /^checkpoint/.test(name)).join()),
  });
  assert.deepEqual(seen, [
    "checkpoint-1,checkpoint-2,checkpoint-4,checkpoint-600",
    "checkpoint-2,checkpoint-4,checkpoint-6",
  ]);
  assert.deepEqual(await wholeCheckpoints(out), [4, 6]);
});

test("a run killed between taking a checkpoint's name and giving it to another one leaves one", async (folder) => {
  const [out, unbroken] = [join(folder, "out"), join(folder, "unbroken")];
  const args = ["--max_steps=3", "--save_steps=1"];
  await run(unbroken, args);
  await run(out, args);
  await Deno.remove(join(out, "all_results.json"));
  await Deno.rename(join(out, "checkpoint-3"), join(out, "tmp-replaced-checkpoint-3-00c0ffee"));
  for (const name of ["checkpoint-1", "checkpoint-2"]) {
    await Deno.remove(join(out, name), { recursive: true });
  }
  // Whole, but beside a newer one of its name; and parts of others.
  for (const name of ["tmp-checkpoint-9-00c0ffee", "tmp-removed-checkpoint-8-00c0ffee", "tmp-checkpoint-7"]) {
    await Deno.mkdir(join(out, name));
  }
  const messages: string[] = [];
  await run(out, args, { onLog: (_, message) => messages.push(message) });
  assert.ok(messages.includes(`going on from ${out}/checkpoint-3, after 3 steps`), messages.join("\n"));
  assert.deepEqual(await wholeCheckpoints(out), [3]);
  assert.deepEqual(await weightsOf(out), await weightsOf(unbroken));
  assert.deepEqual(ls(out).filter((name) => name.startsWith("tmp-")), []);
});

test("a result whose saving a signal stops is no result, and the same command ends it", async (folder) => {
  const out = join(folder, "out");
  const { config } = await readConfig(`${GOLDEN}/run.yaml`, [`--output_dir=${out}`, "--max_steps=2"]);
  const stop = new AbortController();
  {
    await using outcome = await train(config, { signal: stop.signal });
    stop.abort();
    await assert.rejects(outcome.save({ signal: stop.signal }), (error) => error === stop.signal.reason);
  }
  assert.deepEqual(ls(out), ["checkpoint-2", "metrics.jsonl", "report.json", "trainer_state.json"]);
  await run(out, ["--max_steps=2", "--save_steps=500"]);
  assert.deepEqual(await weightsOf(out), await weightsOf(join(out, "checkpoint-2")));

  // With nothing to go on from, the result is written whatever comes.
  const unkept = join(folder, "unkept");
  const { config: other } = await readConfig(`${GOLDEN}/run.yaml`, [
    `--output_dir=${unkept}`,
    "--max_steps=1",
    "--save_strategy=no",
  ]);
  const last = await train(other);
  await last.save({ signal: stop.signal });
  // Until then the folder is this run's, for whoever flushes or reads it.
  const second = await trainProcess([`${GOLDEN}/run.yaml`, `--output_dir=${unkept}`]).output();
  await last[Symbol.asyncDispose]();
  assert.equal(second.code, 2);
  assert.match(new TextDecoder().decode(second.stderr), /is in use by another run/);
  assert.ok(ls(unkept).includes("all_results.json"));
});

test("a signal before the first step ends the run at any of its stages, and leaves nothing", async (folder) => {
  const stages = ["train: 7 pairs", "adapter: ", "allocated "];
  for (const stage of stages) {
    const stop = new AbortController();
    const out = join(folder, "out");
    const options = {
      signal: stop.signal,
      onLog: (_: string, message: string) => message.startsWith(stage) && stop.abort(),
    };
    await assert.rejects(
      run(out, ["--prompts=[hello]"], options),
      (error) => error === stop.signal.reason,
      stage,
    );
    assert.deepEqual(ls(folder), [], stage);
  }
});

test("runs beside each other end with the bytes of one alone", async (folder) => {
  const at = (name: string) => join(folder, name);
  const args = ["--max_steps=3", "--save_steps=2"];
  await run(at("alone"), args);
  await Promise.all([run(at("a"), args), run(at("b"), args)]);
  for (const name of ["a", "b"]) {
    for (const file of ["model.safetensors", "checkpoint-2/optimizer.safetensors"]) {
      const [found, expected] = [
        await Deno.readFile(at(`${name}/${file}`)),
        await Deno.readFile(at(`alone/${file}`)),
      ];
      assert.ok(
        found.length === expected.length && found.every((byte, i) => byte === expected[i]),
        `${name}/${file}`,
      );
    }
  }
});
