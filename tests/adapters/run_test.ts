/** Runs that train new adapters: what they leave, and that a resumed one equals an unbroken one. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { openSafetensors } from "../../lib/safetensors/read.ts";
import { readTensors } from "../golden_run.ts";
import { refusal, run, stopAt } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const OVERRIDES = [
  "--use_peft",
  "--lora_r=4",
  "--lora_dropout=0.2",
  "--lora_target_modules=[q_proj, v_proj, down_proj]",
  "--lora_modules_to_save=[lm_head]",
  "--max_steps=4",
  "--save_steps=2",
  "--warmup_ratio=0",
];

Deno.test("a resumed run of adapters with dropout is an unbroken one bit for bit, and leaves what PEFT reads", async () => {
  await withTemporaryFolder(async (folder) => {
    const [whole, parted, other] = ["whole", "parted", "other"].map((name) => join(folder, name));
    await Deno.mkdir(whole);
    // What an earlier run of all weights left.
    for (const name of ["model-00001-of-00002.safetensors", "model.safetensors"]) {
      await Deno.writeTextFile(join(whole, name), "");
    }
    await run(whole, [...OVERRIDES, "--overwrite_output_dir"]);
    await stopAt(3, parted, OVERRIDES);
    assert.ok((await readdir(parted)).includes("checkpoint-3"));
    await run(parted, OVERRIDES);
    const [expected, found] = await Promise.all(
      [whole, parted].map((out) => Deno.readFile(join(out, "adapter_model.safetensors"))),
    );
    assert.deepEqual(found, expected);
    // Dropout is drawn by the seed, as adapters' first values are.
    await run(other, [...OVERRIDES, "--seed=7"]);
    assert.notDeepEqual(await Deno.readFile(join(other, "adapter_model.safetensors")), expected);

    const names = await readdir(whole);
    for (
      const name of [
        "adapter_config.json",
        "config.json",
        "tokenizer.json",
        "report.html",
        "trainer_state.json",
      ]
    ) {
      assert.ok(names.includes(name), name);
    }
    assert.ok(!names.some((name) => /^model.*safetensors/.test(name)), `${names}`);
    const tensors = await readTensors(join(whole, "adapter_model.safetensors"));
    const modules = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"];
    assert.deepEqual(
      [...tensors.keys()].sort(),
      [0, 1].flatMap((layer) =>
        modules.flatMap((module) =>
          ["A", "B"].map((factor) => `base_model.model.model.layers.${layer}.${module}.lora_${factor}.weight`)
        )
      ).concat("base_model.model.lm_head.weight").sort(),
    );
    // All of them have moved: second factors away from 0.
    for (const [name, values] of tensors) assert.ok(values.some((value) => value !== 0), name);
    const config = JSON.parse(await Deno.readTextFile(join(whole, "adapter_config.json")));
    assert.deepEqual(
      [config.peft_type, config.r, config.lora_alpha, config.base_model_name_or_path, config.modules_to_save],
      ["LORA", 4, 32, "tests/golden/llama/untied", ["lm_head"]],
    );
    const card = await Deno.readTextFile(join(whole, "README.md"));
    assert.match(card, /^library_name: peft$/m);
    assert.match(card, /^ {2}- lora$/m);

    const checkpoint = join(whole, "checkpoint-2");
    const kept = await readdir(checkpoint);
    assert.ok(kept.includes("adapter_config.json") && !kept.includes("model.safetensors"), `${kept}`);
    const optimizer = await openSafetensors(join(checkpoint, "optimizer.safetensors"));
    // Moments of what is trained, and no weight twice.
    assert.equal(optimizer.tensors.size, 2 * tensors.size);
    await optimizer.close();
    assert.match(
      await refusal(run(parted, [...OVERRIDES, "--lora_r=8", `--resume_from_checkpoint=${checkpoint}`])),
      /lora_r: 4 there, 8 now/,
    );
  });
});
