/** Runs under other losses than SimPER, beside PyTorch's: see tests/golden/losses/steps.py. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { GOLDEN, readTensors, relativeDifference } from "../golden_run.ts";
import { run } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

interface Steps {
  keys: Record<string, number>;
  log: Record<string, number>[];
  /** Of each tensor, the norm of the difference of its last from its first values. */
  changes: Record<string, number>;
}

const golden: Record<string, Steps> = JSON.parse(await Deno.readTextFile("tests/golden/losses/steps.json"));

for (const [name, { keys, log, changes }] of Object.entries(golden)) {
  Deno.test(`eight steps of ${name} have PyTorch's log and weights`, () =>
    withTemporaryFolder(async (folder) => {
      const out = join(folder, "out");
      await run(out, [
        `--loss_type=${name}`,
        ...Object.entries(keys).map(([key, value]) => `--${key}=${value}`),
        "--max_steps=8",
        "--save_strategy=no",
      ]);
      const { log_history: found } = JSON.parse(await Deno.readTextFile(join(out, "trainer_state.json")));
      assert.equal(found.length, log.length);
      for (const key of new Set(log.flatMap((entry) => Object.keys(entry)))) {
        // A step of judged responses may have none of a kind.
        const series = (entries: Record<string, number>[]) => entries.map((entry) => entry[key] ?? 0);
        const difference = relativeDifference(series(found), series(log));
        assert.ok(difference < 1e-4, `${key}: ${difference}`);
      }
      const start = await readTensors(`${GOLDEN}/untied/model.safetensors`);
      for (const [tensor, values] of await readTensors(join(out, "model.safetensors"))) {
        const before = start.get(tensor)!;
        const change = Math.sqrt(values.reduce((sum, value, i) => sum + (value - before[i]) ** 2, 0));
        assert.ok(
          Math.abs(change / changes[tensor] - 1) < 1e-3,
          `${tensor}: ${change} and ${changes[tensor]}`,
        );
      }
    }));
}

Deno.test("a loss weighted by the policy has PyTorch's value at the first step", () =>
  withTemporaryFolder(async (folder) => {
    const out = join(folder, "out");
    const keys = ["--loss_type=sigmoid", "--use_weighting", "--max_steps=1", "--save_strategy=no"];
    const { history } = await run(out, keys);
    // ln 2 times the mean over the first four pairs of the product, over both responses, of exp(mean(logp - log(sum
    // of p^2))); as steps.py reads model and tokens, with logp = logits.log_softmax(-1) and torch.logsumexp(2 * logp,
    // -1).
    assert.ok(Math.abs(history[0].loss / 0.2732715998 - 1) < 1e-5, `${history[0].loss}`);
  }));
