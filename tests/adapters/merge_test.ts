/** `simper merge`, and the words of commands that take adapters. */
import assert from "node:assert/strict";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { task } from "../command.ts";
import { readTensors, relativeDifference } from "../golden_run.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const [MODEL, ADAPTER] = ["tests/golden/llama/untied", "tests/golden/adapters/lora"];

Deno.test("a model with merged adapters has its files, and PEFT's matrices", async () => {
  await withTemporaryFolder(async (folder) => {
    const out = join(folder, "merged");
    const [beside, named] = await Promise.all([
      task("merge", MODEL, `--adapter=${ADAPTER}`, `--output_dir=${out}`),
      task("merge", ADAPTER, `--output_dir=${out}-again`),
    ]);
    assert.deepEqual([beside.status, beside.stdout], [0, `${out}\n`], beside.stderr);
    assert.deepEqual([named.status, named.stdout], [0, `${out}-again\n`], named.stderr);
    assert.deepEqual((await readdir(out)).sort(), (await readdir(MODEL)).sort());
    const [found, again, expected, adapter, base] = await Promise.all(
      [out, `${out}-again`].map((folder) => join(folder, "model")).concat(
        join(ADAPTER, "merged"),
        join(ADAPTER, "adapter_model"),
        join(MODEL, "model"),
      ).map((path) => readTensors(`${path}.safetensors`)),
    );
    assert.deepEqual(again, found);
    await writeFile(join(out, "metrics.jsonl"), "");
    const refused = await task("merge", ADAPTER, `--output_dir=${out}`, "--overwrite_output_dir");
    assert.deepEqual([refused.status, refused.stdout], [2, ""]);
    assert.match(
      refused.stderr,
      /merged holds a run \(metrics\.jsonl\), whose card and figures are not those/,
    );
    await rm(join(out, "metrics.jsonl"));
    for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
      await writeFile(join(out, name), "another's");
      const kept = await task("merge", ADAPTER, `--output_dir=${out}`, "--overwrite_output_dir");
      assert.deepEqual([kept.status, kept.stdout], [2, ""]);
      assert.ok(kept.stderr.includes(`merged holds adapters (${name}), which would go`), kept.stderr);
      assert.equal(await readFile(join(out, name), "utf8"), "another's");
      await rm(join(out, name));
    }
    for (const [name, values] of expected) {
      assert.ok(relativeDifference(found.get(name)!, values) < 1e-6, name);
    }
    assert.deepEqual(found.get("lm_head.weight"), adapter.get("base_model.model.lm_head.weight"));
    assert.deepEqual(found.get("model.norm.weight"), base.get("model.norm.weight"));
  });
});

Deno.test("what cannot be merged, or have adapters, is told", async () => {
  const cases: [string[], RegExp][] = [
    [["merge", MODEL], /expected: simper merge MODEL/],
    [["merge", MODEL, "--output_dir=out/merged"], /untied: has no adapters: name them as --adapter=DIR/],
    [
      ["merge", ADAPTER, `--output_dir=${MODEL}`, "--overwrite_output_dir"],
      /--output_dir: .* is what is read: name another folder/,
    ],
    [
      ["merge", MODEL, `--adapter=${ADAPTER}`, "--output_dir=lib"],
      /lib is not empty .*--overwrite_output_dir/,
    ],
    [
      ["merge", ADAPTER, `--adapter=${ADAPTER}`, "--output_dir=out/merged"],
      /MODEL is itself a folder of adapters: name their base model/,
    ],
    [
      ["merge", MODEL, "--adapter=a", "--adapter=b", "--output_dir=out/merged"],
      /--adapter: given twice/,
    ],
    [
      ["eval", MODEL, MODEL, "--adapter=a", "--text=README.md"],
      /--adapter: expected one MODEL with it, found 2/,
    ],
    [
      ["generate", MODEL, ADAPTER, "--adapter=a", "--prompt=Hi"],
      /--adapter: expected one MODEL with it, found 2/,
    ],
  ];
  await Promise.all(cases.map(async ([words, says]) => {
    const [name, ...rest] = words;
    const { status, stdout, stderr } = await task(name, ...rest);
    assert.deepEqual([status, stdout], [2, ""], stderr);
    assert.match(stderr, says);
    assert.doesNotMatch(stderr, /\n\s+at /);
  }));
});
