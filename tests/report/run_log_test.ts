import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { newTrainerState } from "../../lib/checkpoint/trainer_state.ts";
import { parseConfig } from "../../lib/config/parse.ts";
import { RunLog } from "../../lib/report/run_log.ts";
import { runFacts } from "../../lib/report/run_report.ts";
import type { LogEntry } from "../../lib/training/log_entry.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

function runOf(outputDir: string, lines = "report_to: tensorboard\n") {
  const text =
    `model_name_or_path: models/a\ndataset_mixer: {data/a.jsonl: 1}\noutput_dir: ${outputDir}\n${lines}`;
  const { config } = parseConfig(text, "run.yaml");
  const warnings: string[] = [];
  const log = new RunLog(config, (message) => warnings.push(message));
  /** Begins after the steps of `history`. */
  const begin = async (history: LogEntry[]) => {
    const state = { ...newTrainerState(config, 9, 9), log_history: history };
    state.global_step = history.at(-1)?.step ?? 0;
    const about = { modelFiles: [], dataFiles: [], memoryBytes: 4096, device: "a GPU", version: "0.1.0" };
    await log.begin(state, runFacts({ config, answers: [{ prompt: "Hi", before: "no" }], ...about }));
  };
  return { log, warnings, begin };
}

const entry = (step: number, loss: number): LogEntry => ({ step, epoch: step, loss });

/**
 * What a reader of event files has of a tag after all files of a folder, in the order of their names: as TensorBoard
 * does.
 */
async function scalars(folder: string, tag: string): Promise<[step: number, value: number][]> {
  let found: [number, number][] = [];
  for (const name of (await readdir(folder)).sort()) {
    assert.match(name, /^events\.out\.tfevents\.\d{10}\./);
    const bytes = await readFile(join(folder, name));
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length;) {
      const length = Number(view.getBigUint64(at, true));
      const event = bytes.subarray(at + 12, at + 12 + length);
      at += 12 + length + 4;
      // Behind the time: a step, where it is not 0, of less than 128.
      const step = event[9] === 0x10 ? event[10] : 0;
      const content = event.subarray(event[9] === 0x10 ? 11 : 9);
      if (content[0] === 0x3a) found = found.filter(([other]) => other < step);
      if (content[0] !== 0x2a || !content.includes(`\n${String.fromCharCode(tag.length)}${tag}\x15`)) {
        continue;
      }
      found.push([step, content.readFloatLE(content.length - 4)]);
    }
  }
  return found;
}

Deno.test("metrics.jsonl and TensorBoard's file grow entry by entry, and report.json is there from the beginning", () =>
  withTemporaryFolder(async (folder) => {
    const { log, begin, warnings } = runOf(folder);
    const history: LogEntry[] = [];
    await begin(history);
    const { answers } = JSON.parse(await readFile(join(folder, "report.json"), "utf8"));
    assert.deepEqual(answers, [{ prompt: "Hi", before: "no" }]);
    const [name] = await readdir(join(folder, "runs"));
    assert.match(name, /^[A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d_./);
    for (const step of [1, 2, 3]) {
      history.push(entry(step, step / 2));
      await log.append(history);
      const lines = (await readFile(join(folder, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
      assert.deepEqual(lines.map((line) => JSON.parse(line)), history);
      const points = await scalars(join(folder, "runs", name), "train/loss");
      assert.deepEqual(points, history.map(({ step, loss }) => [step, loss]));
    }
    assert.deepEqual(warnings, []);
  }));

Deno.test("steps that a resumed run does again are in TensorBoard's files once, as they were last", () =>
  withTemporaryFolder(async (folder) => {
    const first = runOf(folder);
    await first.begin([]);
    await first.log.append([entry(0, 8)]);
    for (const step of [1, 2, 3]) await first.log.append([entry(step, step)]);
    await first.log.append([{ step: 2, epoch: 2, eval_loss: 7 }]);

    // Goes on after step 2, whose evaluation was not in the checkpoint.
    const second = runOf(folder);
    await second.begin([entry(0, 8), entry(1, 1), entry(2, 2)]);
    await second.log.append([{ step: 2, epoch: 2, eval_loss: 0.5 }]);
    await second.log.append([entry(3, 0.25)]);
    const runs = await readdir(join(folder, "runs"));
    assert.equal(runs.length, 1);
    const runFolder = join(folder, "runs", runs[0]);
    assert.deepEqual(await scalars(runFolder, "train/loss"), [[0, 8], [1, 1], [2, 2], [3, 0.25]]);
    assert.deepEqual(await scalars(runFolder, "eval/loss"), [[2, 0.5]]);
  }));

Deno.test("logging_dir is TensorBoard's folder, and a new run there takes the place of an old one", () =>
  withTemporaryFolder(async (folder) => {
    const place = join(folder, "logs");
    const lines = `report_to: [wandb, tensorboard]\nlogging_dir: ${place}\n`;
    const old = runOf(join(folder, "out"), lines);
    await old.begin([]);
    await old.log.append([entry(5, 5)]);
    const next = runOf(join(folder, "out"), lines);
    await next.begin([]);
    await next.log.append([entry(1, 1)]);
    assert.deepEqual(await scalars(place, "train/loss"), [[1, 1]]);
    assert.ok(!(await readdir(join(folder, "out"))).includes("runs"));

    // What was not there before has the whole log.
    const elsewhere = runOf(join(folder, "other"));
    await elsewhere.begin([entry(1, 1), entry(2, 2)]);
    const [name] = await readdir(join(folder, "other", "runs"));
    assert.deepEqual(await scalars(join(folder, "other", "runs", name), "train/loss"), [[1, 1], [2, 2]]);
  }));

Deno.test("TensorBoard's files that cannot be written are told of once, and the log goes on", () =>
  withTemporaryFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "file"), "");
    const lines = `report_to: all\nlogging_dir: ${join(folder, "file", "logs")}\n`;
    const { log, begin, warnings } = runOf(join(folder, "out"), lines);
    await begin([]);
    await log.append([entry(1, 1)]);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /cannot be written: .*; the run goes on without it$/s);
    assert.match(await readFile(join(folder, "out", "metrics.jsonl"), "utf8"), /"step":1/);
    const without = runOf(join(folder, "without"), "report_to: none\n");
    await without.begin([]);
    await without.log.append([entry(1, 1)]);
    assert.deepEqual((await readdir(join(folder, "without"))).sort(), [
      "metrics.jsonl",
      "report.json",
      "trainer_state.json",
    ]);
  }));
