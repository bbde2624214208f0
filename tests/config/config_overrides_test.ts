import assert from "node:assert/strict";
import { splitArguments } from "../../lib/config/overrides.ts";
import { BASE, mistakes, parsed } from "../run_file.ts";

Deno.test("the command line wins over the file, in each of its forms", () => {
  const { config } = parsed(
    "learning_rate: wrong, but replaced\n",
    "--learning_rate=2e-6",
    "--max_steps",
    "-1",
    "--evaluation_strategy=epoch",
    "--overwrite_output_dir",
    "--run_name=12: #3",
    "--dataset_splits=[train_prefs, test_prefs]",
    "--seed=1",
    "--seed=2",
  );
  assert.deepEqual([config.learningRate, config.maxSteps, config.seed], [2e-6, -1, 2]);
  assert.deepEqual([config.evalStrategy, config.overwriteOutputDir, config.runName], [
    "epoch",
    true,
    "12: #3",
  ]);
  assert.deepEqual(config.datasetSplits, ["train_prefs", "test_prefs"]);
  assert.deepEqual(mistakes(BASE, "--run_name"), [
    "--run_name: expected text, found no value",
  ]);
});

Deno.test("an option sets one share of the mixer, whatever signs its path has", () => {
  const { config } = parsed("", "--dataset_mixer.b=c/1.5.jsonl=0.25", "--dataset_mixer.data/a.jsonl=0");
  assert.deepEqual(config.datasetMixer, [{ path: "data/a.jsonl", share: 0 }, {
    path: "b=c/1.5.jsonl",
    share: 0.25,
  }]);
  assert.deepEqual(parsed("", "--dataset_mixer={x: 0.5}").config.datasetMixer, [{ path: "x", share: 0.5 }]);
  assert.deepEqual(mistakes(BASE, "--dataset_mixer.a=1.5"), [
    '--dataset_mixer.a: expected a number from 0 to 1, found "1.5"',
  ]);
});

Deno.test("words of a command line part into positionals and overrides", () => {
  assert.deepEqual(
    splitArguments(["--do_eval", "run.yaml", "--seed", "1", "--eval_on_start", "no", "--prompts=[a]"]),
    {
      positionals: ["run.yaml"],
      overrides: ["--do_eval", "--seed=1", "--eval_on_start=no", "--prompts=[a]"],
    },
  );
});
