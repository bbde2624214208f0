/** What a person sees of a run, on a terminal and elsewhere. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { task } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const RUN = [
  `${GOLDEN}/run.yaml`,
  "--max_steps=2",
  "--eval_strategy=steps",
  "--eval_steps=1",
  "--prompts=[hello]",
];

/** The words of a run into `folder`, with data to evaluate on. */
async function wordsOf(folder: string): Promise<string[]> {
  const data = join(folder, "data");
  await Deno.mkdir(data);
  for (const split of ["train", "test"]) {
    await Deno.copyFile(`${GOLDEN}/pairs.jsonl`, join(data, `${split}.jsonl`));
  }
  return [...RUN, `--dataset_mixer={${data}: 1.0}`, `--output_dir=${join(folder, "out")}`];
}

/**
 * Runs a task on a terminal of 80 columns, where Deno asks for permissions that are missing; util-linux's `script`
 * makes one.
 */
async function onTerminal(
  env: Record<string, string>,
  task: string,
  ...args: string[]
): Promise<{ code: number; text: string }> {
  const command = [Deno.execPath(), "task", "--quiet", task, ...args].map((word) => `'${word}'`).join(" ");
  const child = new Deno.Command("script", {
    args: ["-qec", `stty cols 80; ${command}`, "/dev/null"],
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "null",
    signal: AbortSignal.timeout(60_000),
  });
  const { code, stdout } = await child.output();
  return { code, text: new TextDecoder().decode(stdout) };
}

const hasScript = await new Deno.Command("script", { args: ["--version"], stdout: "null", stderr: "null" })
  .output().then(({ success }) => success, () => false);

Deno.test({
  name: "on a terminal a run asks for nothing, and draws one line within its columns",
  ignore: !hasScript,
  fn: () =>
    withTemporaryFolder(async (folder) => {
      const { code, text } = await onTerminal({ TERM: "xterm" }, "train", ...await wordsOf(folder));
      assert.equal(code, 0, text);
      assert.doesNotMatch(text, /Allow\?|Deno requests/);
      const drawn = text.replaceAll("\r\x1b[2K", "\n").split(/\r?\n/).map(stripVTControlCharacters);
      // Lines of the log may be longer: a terminal wraps them.
      const long = drawn.filter((line) => line.length > 79 && /^(\[|step |opening |tokenizing )/.test(line));
      assert.deepEqual(long, []);
      for (
        const work of [
          /^\[>.*\] {2}compiling kernels {2}0\/\d+$/,
          /^\[>.*\] {2}loading weights /,
          /^\[>.*\] {2}answering before {2}0\/1 prompts/,
          /^\[>.*\] {2}0\/2 {2}0:00$/,
          /^\[=.*\] {2}1\/2 {2}loss -?[\d.]+ {2}accuracy .* left$/,
          /^\[=.*\] {2}1\/2 {2}evaluating {2}0\/\d+ pairs/,
          /^\[=+\] {2}2\/2 {2}saving checkpoint-2 /,
          /^\[=+\] {2}2\/2 {2}answering after /,
          /saving the model /,
        ]
      ) assert.ok(drawn.some((line) => work.test(line)), `${work} in ${drawn.join("\n")}`);
    }),
});

Deno.test({
  name: "a dumb terminal gets plain lines, and NO_COLOR no colours",
  ignore: !hasScript,
  fn: () =>
    withTemporaryFolder(async (folder) => {
      const words = await wordsOf(folder);
      const dumb = await onTerminal({ TERM: "dumb" }, "train", ...words);
      assert.equal(dumb.code, 0, dumb.text);
      assert.match(dumb.text, /^step 2\/2 {2}.*loss /m);
      assert.equal(stripVTControlCharacters(dumb.text), dumb.text);

      const shown = ({ text }: { text: string }) => text.replaceAll("\r\x1b[2K", "");
      const colored = shown(await onTerminal({ TERM: "xterm", NO_COLOR: "" }, "data", ...words));
      const plain = shown(await onTerminal({ TERM: "xterm", NO_COLOR: "1" }, "data", ...words));
      assert.notEqual(stripVTControlCharacters(colored), colored);
      assert.equal(stripVTControlCharacters(plain), plain);
    }),
});

Deno.test("elsewhere a log entry and an evaluation are a line each, with the names of TRL, and nothing is hashed or counted in bytes", () =>
  withTemporaryFolder(async (folder) => {
    const words = await wordsOf(folder);
    const { status, stderr } = await task("train", ...words);
    assert.equal(status, 0, stderr);
    const lines = stderr.split("\n").filter((line) => line.startsWith("step "));
    assert.deepEqual(lines.map((line) => line.split("  ")[0]), [
      "step 1/2",
      "step 1/2",
      "step 2/2",
      "step 2/2",
    ]);
    for (const name of ["loss", "grad_norm", "learning_rate", "rewards/margins", "rewards/accuracies"]) {
      assert.match(lines[0], new RegExp(`  ${name} -?[\\d.e-]+(  |$)`));
    }
    assert.match(lines[0], / {2}\d:\d\d left {2}loss /);
    for (const line of lines) assert.ok(line.length <= 130, line);
    for (const name of ["eval_loss", "eval_rewards/accuracies", "eval_rewards/margins"]) {
      assert.match(lines[1], new RegExp(`  ${name} -?[\\d.,e-]+(  |$)`));
    }
    assert.match(stderr, /^2 steps of 4 pairs \(2 x 2\), 1 epoch: about [\d,]+ tokens of packed rows$/m);
    assert.ok(!stderr.includes("\x1b"));
    assert.doesNotMatch(stderr, /[0-9a-f]{32}|allocated|bytes/);

    const quiet = await task("train", ...words, "--overwrite_output_dir", "--log_level=warning");
    assert.equal(quiet.status, 0);
    assert.match(quiet.stderr, /^(warning: .*truncated\n){2}warning: 1 of 2 steps changes nothing: .*\n$/);
  }));
