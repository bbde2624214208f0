/** A comparison of two losses on the golden model: stopped, gone on with, and beside the same runs of `train`. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type CompareOptions, compareRuns } from "../../lib/comparison/compare.ts";
import { changedFiles } from "../../lib/comparison/kept.ts";
import { parseComparison } from "../../lib/config/comparison.ts";
import { UserError } from "../../lib/errors.ts";
import type { RunFacts } from "../../lib/report/run_report.ts";
import { task } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { ls, refusal, run, weightsOf } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** The golden run file with its pairs as both splits, 6 of them to train on and 4 to measure on. */
async function writeRun(folder: string): Promise<string> {
  const text = await Deno.readTextFile(`${GOLDEN}/run.yaml`);
  const rows = (await Deno.readTextFile(`${GOLDEN}/pairs.jsonl`)).trimEnd().split("\n");
  await Deno.mkdir(join(folder, "pairs"));
  await Deno.writeTextFile(join(folder, "pairs/train.jsonl"), rows.slice(0, 6).join("\n"));
  await Deno.writeTextFile(join(folder, "pairs/test.jsonl"), rows.slice(-4).join("\n"));
  return text.replace(`${GOLDEN}/pairs.jsonl`, join(folder, "pairs"))
    .replace(/^output_dir.*$/m, `output_dir: ${join(folder, "all")}`);
}

const OVERRIDES = ["--max_steps=2", "--warmup_ratio=0", "--save_strategy=no", "--max_grad_norm=1"];

Deno.test("a comparison that was stopped goes on, and its runs are those of train, byte for byte", () =>
  withTemporaryFolder(async (folder) => {
    const out = join(folder, "all");
    const file = join(folder, "run.yaml");
    const yaml = `${await writeRun(folder)}compare: {simper: {}, sft: {loss_type: sft}}
seeds: [7]
max_new_tokens: 4
prompts: [Hot?]
text: ${GOLDEN}/run.yaml
`;
    await Deno.writeTextFile(file, yaml);
    const compare = (overrides: string[] = [], options: CompareOptions = {}) =>
      compareRuns(parseComparison(yaml, file, [...OVERRIDES, ...overrides]), options);

    const stop = new AbortController();
    const told: string[] = [];
    const stopped = await compare([], {
      signal: stop.signal,
      onRun: ({ member, place, total }) => told.push(`${place}/${total} ${member}`),
      trainOptions: ({ member }) => ({ onSubmit: () => member === "sft" && stop.abort() }),
    });
    assert.ok(stopped.isStopped);
    assert.deepEqual(told, ["1/2 simper", "2/2 sft"]);
    const first = await Deno.stat(join(out, "simper/seed-7/model.safetensors"));
    assert.ok(!ls(join(out, "sft/seed-7")).includes("all_results.json"));

    const logs: string[] = [];
    const { isStopped, members, before } = await compare([], { log: (_, message) => logs.push(message) });
    assert.ok(!isStopped && logs.includes("1 of 2 runs are there and kept"));
    assert.equal(
      (await Deno.stat(join(out, "simper/seed-7/model.safetensors"))).mtime?.getTime(),
      first.mtime?.getTime(),
    );
    // The run that was stopped and went on, beside one of train's that was not.
    const alone = join(folder, "alone");
    await run(alone, [
      ...[...OVERRIDES, "--loss_type=sft", "--seed=7", "--prompts=[Hot?]"],
      `--dataset_mixer={${join(folder, "pairs")}: 1}`,
    ]);
    const made = join(out, "sft/seed-7");
    assert.deepEqual(await weightsOf(made), await weightsOf(alone));
    assert.deepEqual(ls(made).filter((file) => !file.startsWith("checkpoint")), ls(alone));
    const [measured] = members[0].runs;
    assert.equal(measured.measurement.results.length, before.results.length);
    assert.notEqual(measured.measurement.results[0].chosen, before.results[0].chosen);
    assert.equal(measured.measurement.answers.length, 1);
    assert.ok(measured.measurement.lengths.every(({ tokens }) => tokens <= 4));
    assert.ok(measured.memoryBytes! > 0 && measured.measurement.text!.perplexity > 1);

    const message = await refusal(compare(["--max_grad_norm=2"]));
    assert.match(
      message,
      /simper\/seed-7 holds a finished run of other keys:\n {2}max_grad_norm: 1 there, 2 now\n/,
    );
    assert.match(message, /sft\/seed-7 holds/);

    // All of it is there: no GPU is wanted, and the reports are made.
    const { status, stdout, stderr } = await task("compare", file, ...OVERRIDES, "--json");
    assert.equal(status, 0, stderr);
    assert.deepEqual(JSON.parse(stdout), JSON.parse(await Deno.readTextFile(join(out, "compare.json"))));
    assert.deepEqual(ls(out), ["before.json", "compare.json", "report.html", "sft", "simper"]);

    // A run that was killed while it saved has nothing to go on from, and is made again.
    await Deno.remove(join(out, "simper/seed-7/all_results.json"));
    const again = await compare();
    assert.deepEqual(again.members[0].runs[0].measurement, measured.measurement);
    await Deno.writeTextFile(join(out, "sft/seed-7/report.json"), "{}");
    assert.match(await refusal(compare()), /sft\/seed-7 is not empty \(it holds a finished run\)/);
  }));

Deno.test("a run whose numbers are not finite is told of, and the others go on", () =>
  withTemporaryFolder(async (folder) => {
    const comparison = parseComparison(await writeRun(folder), "run.yaml", [
      ...["--max_steps=2", "--warmup_ratio=0", "--max_new_tokens=2"],
      ...["--save_strategy=no", "--max_grad_norm=0", "--seed=7", "--sweep={learning_rate: [1.0e38, 1.0e-4]}"],
    ]);
    const warnings: string[] = [];
    const { members: [bad, good] } = await compareRuns(comparison, {
      log: (level, message) => level === "warning" && warnings.push(message),
    });
    assert.deepEqual([bad.runs.length, good.runs.length, good.failures], [0, 1, []]);
    assert.match(bad.failures[0].why, /^step 2: .* is not finite/);
    assert.ok(warnings.some((message) => message.startsWith("learning_rate=1e+38, seed 7: step 2: ")));
  }));

Deno.test("a finished run is kept as long as its files are the same, those of a reference too", () => {
  const file = (path: string, sha256: string) => ({ path, sha256 });
  const facts = {
    modelFiles: [file("m/model.safetensors", "a")],
    dataFiles: [file("d/train.jsonl", "b")],
    provenance: { run: { reference: { "model.safetensors": "c" } } },
  } as unknown as RunFacts;
  const now = {
    model: [file("moved/model.safetensors", "a")],
    reference: [file("r/model.safetensors", "c")],
    train: [file("d/train.jsonl", "b")],
    test: [],
  };
  assert.deepEqual(changedFiles(facts, now), []);
  assert.deepEqual(changedFiles(facts, { ...now, reference: [file("r/model.safetensors", "x")] }), [
    "ref_model: model.safetensors is another file",
  ]);
  assert.deepEqual(changedFiles(facts, { ...now, model: [], train: [file("d/train.jsonl", "x")] }), [
    "model_name_or_path: model.safetensors is another file",
    "dataset_mixer: the data are others (by SHA-256)",
  ]);
});

Deno.test("what is wrong is told before anything is begun", () =>
  withTemporaryFolder(async (folder) => {
    const text = await Deno.readTextFile(`${GOLDEN}/run.yaml`);
    const compare = (...overrides: string[]) =>
      compareRuns(
        parseComparison(text, "run.yaml", [`--output_dir=${folder}/all`, "--seeds=[1, 2]", ...overrides]),
        {},
      );
    const missing = await compare("--text=nowhere.txt").catch((error) => error);
    assert.ok(missing instanceof UserError);
    assert.match(missing.message, /^nowhere\.txt: the text cannot be read: /);
    assert.match(
      await refusal(compare(`--dataset_mixer={${GOLDEN}/pairs.jsonl: 1}`), 1),
      /pairs\.jsonl: a comparison is measured on pairs that no run trains on: expected a folder/,
    );
    await Deno.mkdir(join(folder, "all/run/seed-2"), { recursive: true });
    await Deno.writeTextFile(join(folder, "all/run/seed-2/notes.txt"), "mine");
    assert.match(await refusal(compare()), /seed-2 is not empty \(it holds notes\.txt\)/);
  }));
