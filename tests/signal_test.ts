import assert from "node:assert/strict";
import { join } from "node:path";
import { GOLDEN } from "./golden_run.ts";
import { withTemporaryFolder } from "./temporary_folder.ts";

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`${signal} ends a run after its step, saved, with status 130`, () =>
    withTemporaryFolder(async (folder) => {
      const { tasks } = JSON.parse(await Deno.readTextFile("deno.json"));
      const [, ...args] = tasks.train.command.split(" ");
      const out = join(folder, "out");
      const child = new Deno.Command(Deno.execPath(), {
        args: [...args, `${GOLDEN}/run.yaml`, `--output_dir=${out}`, "--max_steps=100000"],
        stderr: "piped",
        stdout: "null",
      }).spawn();
      let told = false;
      let log = "";
      for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
        log += text;
        if (!told && /step 2\//.test(log)) {
          child.kill(signal);
          told = true;
        }
      }
      assert.equal((await child.status).code, 130, log);
      assert.match(log, /stopping after this step/);
      const state = JSON.parse(await Deno.readTextFile(join(out, "trainer_state.json")));
      assert.ok(state.global_step >= 2 && state.global_step < 100_000);
      assert.ok((await Deno.stat(join(out, "model.safetensors"))).isFile);
    }));
}
