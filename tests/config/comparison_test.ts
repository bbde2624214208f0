import assert from "node:assert/strict";
import { type Comparison, parseComparison } from "../../lib/config/comparison.ts";
import { UserError } from "../../lib/errors.ts";
import { BASE, mistakes } from "../run_file.ts";

const read = (text: string, ...overrides: string[]): Comparison =>
  parseComparison(`${BASE}output_dir: out/all\n${text}`, "run.yaml", overrides, ["json"]);

function problems(text: string, ...overrides: string[]): string[] {
  try {
    read(text, ...overrides);
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.status, 2);
    return error.message.split("\n");
  }
  assert.fail("no error");
}

const runsOf = ({ members }: Comparison) =>
  members.flatMap(({ runs }) =>
    runs.map(({ outputDir, lossType, learningRate, seed }) => [outputDir, lossType, learningRate, seed])
  );

Deno.test("members, each with a run for every seed, differ in their own keys alone", () => {
  const found = read(
    "learning_rate: 1.0e-5\nseeds: [7, 8]\ncompare:\n  ours: {}\n  mild: {loss_type: sft, learning_rate: 1.0e-6}\n",
  );
  assert.deepEqual(runsOf(found), [
    ["out/all/ours/seed-7", "simper", 1e-5, 7],
    ["out/all/ours/seed-8", "simper", 1e-5, 8],
    ["out/all/mild/seed-7", "sft", 1e-6, 7],
    ["out/all/mild/seed-8", "sft", 1e-6, 8],
  ]);
  assert.deepEqual(found.members.map(({ keys }) => keys), [[], [["loss_type", "sft"], [
    "learning_rate",
    "1e-6",
  ]]]);
  assert.equal(found.outputDir, "out/all");
  assert.equal(found.maxNewTokens, 512 - 128);
});

Deno.test("a sweep runs each member with every value, and needs nothing but the command line", () => {
  const grid = read(
    "compare: {a: {}, b: {loss_type: sft}}\nsweep: {learning_rate: [1.0e-5, 3e-5], max_grad_norm: [0]}",
  );
  assert.deepEqual(grid.members.map(({ name }) => name), [
    "a_learning_rate=1e-5_max_grad_norm=0",
    "a_learning_rate=3e-5_max_grad_norm=0",
    "b_learning_rate=1e-5_max_grad_norm=0",
    "b_learning_rate=3e-5_max_grad_norm=0",
  ]);
  assert.deepEqual(runsOf(read("seed: 5\n", "--sweep={learning_rate: [1e-5, 0.5]}")), [
    ["out/all/learning_rate=1e-5/seed-5", "simper", 1e-5, 5],
    ["out/all/learning_rate=0.5/seed-5", "simper", 0.5, 5],
  ]);
  const seeds = read("seed: 5\n", "--seeds=[1, 2]");
  assert.deepEqual(runsOf(seeds).map(([folder]) => folder), ["out/all/run/seed-1", "out/all/run/seed-2"]);
  assert.deepEqual(seeds.ignored, ["seed: ignored: there are seeds"]);
});

Deno.test("the mistakes of all members are told at once, each with its place", () => {
  assert.deepEqual(
    problems(
      `compare:
  simper: {max_lenth: 4, learning_rate: -1}
  a/b:
    loss_type: sfd
    seed: 3
    max_length: 256
  SIMPER: 5
seeds: [1, 1]
learning_rates: 5
push_to_hub: true
max_new_tokens: 0
`,
      "--learning_rate=1e-6",
    ),
    [
      "run.yaml:11:8: seeds: expected a list of whole numbers that differ, such as [42, 43, 44], found [1, 1]",
      "run.yaml:14:17: max_new_tokens: expected an integer, 1 or more, found 0",
      "run.yaml:13:1: push_to_hub: a comparison uploads nothing: upload the folder of the run that you keep",
      "run.yaml:6:3: compare.a/b: expected a name of letters, digits and . _ + = -, since a folder is called so",
      "run.yaml:10:3: compare.SIMPER: another has this name, but for the case of its letters",
      "run.yaml:10:11: compare.SIMPER: expected the keys in which it differs, such as {loss_type: simpo, learning_rate: 1.0e-6}, found 5",
      "--learning_rate: compare.simper.learning_rate says it for itself: change it there",
      "run.yaml:8:5: compare.a/b.seed: seeds are a list beside compare, for all of them",
      "run.yaml:9:5: compare.a/b.max_length: all runs have the same max_length, or they could not be compared: it stands beside compare",
      "run.yaml:12:1: learning_rates: unknown key: did you mean learning_rate?",
      "run.yaml:5:12: compare.simper.max_lenth: unknown key: did you mean max_length?",
      "run.yaml:5:41: compare.simper.learning_rate: expected a number, 0 or from 1.2e-38 to 3.4e38 (arithmetic is float32), found -1",
    ].concat(
      problems("compare: {x: {loss_type: sfd}}").map((line) =>
        line.replace("run.yaml:4:26: compare.x", "run.yaml:7:16: compare.a/b")
      ),
    ),
  );
});

Deno.test("what cannot be compared is refused", () => {
  for (const name of ["compare.json", "before.json", "report.html", "Report.html"]) {
    assert.match(
      problems(`compare: {${name}: {}, b: {loss_type: sft}}`).join(),
      /^run\.yaml:4:\d+: compare\.\S+: a file of the comparison has this name: give it another$/,
    );
  }
  const [nothing] = problems("");
  assert.match(nothing, /^run\.yaml: there is nothing to compare: expected compare, sweep or seeds/);
  assert.deepEqual(problems("compare: {a: {learning_rate: 1}}\nsweep: {learning_rate: [1, 1]}"), [
    "run.yaml:5:24: sweep.learning_rate: expected a list of values that differ, such as [3.0e-5, 6.0e-5], found [1, 1]",
  ]);
  assert.deepEqual(problems("compare: {a: {learning_rate: 1}}\nsweep: {learning_rate: [1, 2]}"), [
    "run.yaml:5:9: sweep.learning_rate: compare.a has it too: keep one",
  ]);
  assert.deepEqual(problems("seeds: [1, 2]\nfrom_scratch: true"), [
    "run.yaml:5:1: from_scratch: a comparison begins with weights that are there, which are measured too: train them first",
  ]);
  assert.deepEqual(problems("sweep: {prompts: [[a], [b]]}"), [
    "run.yaml:4:18: sweep.prompts: expected a list of values that differ, such as [3.0e-5, 6.0e-5], found [a list, a list]",
    "run.yaml:4:9: sweep.prompts: all runs have the same prompts, or they could not be compared: it stands beside compare",
  ]);
});

Deno.test("other commands say whose the keys of a comparison are", () => {
  assert.deepEqual(mistakes(`${BASE}seeds: [1]\ncompare: {a: {}}\n`), [
    "run.yaml:3:1: seeds: of a comparison: simper compare reads it, and no other command",
    "run.yaml:4:1: compare: of a comparison: simper compare reads it, and no other command",
  ]);
});
