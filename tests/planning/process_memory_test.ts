import assert from "node:assert/strict";
import { join } from "node:path";
import { task, trainProcess } from "../command.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** A model of 67 million random weights, whose run takes 1.1 GB on the device, with the tokenizer of configs/tiny. */
async function writeModel(folder: string): Promise<void> {
  const tiny = "configs/tiny/model";
  await Deno.mkdir(folder);
  const config = JSON.parse(await Deno.readTextFile(join(tiny, "config.json")));
  const sizes = { hidden_size: 1024, intermediate_size: 4096, head_dim: 64, num_attention_heads: 16 };
  await Deno.writeTextFile(
    join(folder, "config.json"),
    JSON.stringify({ ...config, ...sizes, num_key_value_heads: 16 }),
  );
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
    await Deno.copyFile(join(tiny, name), join(folder, name));
  }
}

Deno.test({
  name: "on a driver on the processor, the process takes what the plan says, within a tenth",
  // /proc tells the most that a process has taken.
  ignore: Deno.build.os !== "linux",
  fn: () =>
    withTemporaryFolder(async (folder) => {
      const model = join(folder, "model");
      await writeModel(model);
      const words = [
        `--model_name_or_path=${model}`,
        "--from_scratch",
        `--output_dir=${join(folder, "out")}`,
        "--max_steps=1",
        "--per_device_train_batch_size=1",
        "--do_eval=false",
        "--eval_on_start=false",
        "--prompts=[]",
      ];
      const { status, stdout, stderr } = await task("plan", "--data", ...words);
      assert.equal(status, 0, stderr);
      const found = stdout.match(/^fits: the process takes ([\d.]+) ([MG])B of .* \(llvmpipe/m);
      if (!found && !stdout.includes("llvmpipe")) return;
      const [, figure, unit] = found ?? assert.fail(stdout);
      const planned = Number(figure) * (unit === "G" ? 1e9 : 1e6);

      const process = trainProcess(words).spawn();
      // Deno itself reads nothing of /proc unless it may do everything.
      const loop = `while grep VmHWM /proc/${process.pid}/status; do sleep 0.1; done 2>/dev/null`;
      const watch = new Deno.Command("sh", { args: ["-c", loop], stderr: "null" }).output();
      const { code, stderr: said } = await process.output();
      assert.equal(code, 0, new TextDecoder().decode(said));
      const figures = new TextDecoder().decode((await watch).stdout).matchAll(/(\d+) kB/g);
      const most = Math.max(...[...figures].map(([, kilobytes]) => 1024 * Number(kilobytes)));
      assert.ok(Math.abs(most / planned - 1) < 0.1, `planned ${planned}, took ${most}`);
    }),
});
