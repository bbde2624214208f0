import assert from "node:assert/strict";
import { join } from "node:path";
import { trainProcess } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`${signal} ends a run after its step, with a checkpoint and status 130`, () =>
    withTemporaryFolder(async (parent) => {
      const out = join(parent, "out");
      const child = trainProcess([`${GOLDEN}/run.yaml`, `--output_dir=${out}`, "--max_steps=100000"]).spawn();
      const stdout = child.stdout.cancel();
      let told = false;
      let log = "";
      for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
        log += text;
        if (!told && /step 2\//.test(log)) {
          child.kill(signal);
          told = true;
        }
      }
      await stdout;
      assert.equal((await child.status).code, 130, log);
      assert.match(log, /stopping after this step/);
      const names = [...Deno.readDirSync(out)].map(({ name }) => name).sort();
      const [checkpoint, ...others] = names;
      assert.deepEqual(others, ["metrics.jsonl", "report.json", "trainer_state.json"]);
      const folder = join(out, checkpoint);
      const { global_step: step } = JSON.parse(await Deno.readTextFile(join(folder, "trainer_state.json")));
      assert.ok(step >= 2 && step < 100_000);
      assert.equal(checkpoint, `checkpoint-${step}`);
    }));
}
