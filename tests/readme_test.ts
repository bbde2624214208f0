/** What README.md shows, run. */
import assert from "node:assert/strict";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ARCHITECTURES } from "../lib/models/models.ts";
import { configReference, keyTypes } from "../lib/config/reference.ts";
import { task } from "./command.ts";
import { GOLDEN } from "./golden_run.ts";
import { withTemporaryFolder } from "./temporary_folder.ts";

const readme = await Deno.readTextFile("README.md");
const blocks = (language: string) =>
  [...readme.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map((m) => m[1]);

/** README's run file and data, on the golden model and in `folder`. */
async function writeRun(folder: string): Promise<string> {
  const data = join(folder, "pairs");
  await Deno.mkdir(data);
  for (const split of ["train", "test"]) {
    await Deno.writeTextFile(join(data, `${split}.jsonl`), blocks("json")[0]);
  }
  const run = join(folder, "run.yaml");
  const text = blocks("yaml")[0]
    .replace("HuggingFaceTB/SmolLM2-135M-Instruct", `${GOLDEN}/untied`)
    .replace("data/pairs", data)
    .replace("out/my-run", join(folder, "out"));
  await Deno.writeTextFile(run, text);
  return run;
}

Deno.test("the tables of keys in configs/README.md are the program's", async () => {
  // The formatter pads cells.
  const plain = (table: string) => table.trim().replaceAll(/ *\| */g, "|").replaceAll(/-{3,}/g, "---");
  assert.ok(
    plain(await Deno.readTextFile("configs/README.md")).includes(plain(configReference())),
    "write them anew: deno task keys",
  );
});

Deno.test("the types of keys are those of the program's table", async () => {
  // The formatter breaks lines.
  const plain = (module: string) => module.replaceAll(/[\s|]+/g, " ").replaceAll(": ", ":");
  const written = await Deno.readTextFile("lib/config/key_types.ts");
  assert.equal(plain(written), plain(keyTypes()), "write them anew: deno task keys");
});

Deno.test("README names every architecture, and no other", () => {
  const section = readme.slice(readme.indexOf("### Models\n"));
  const [list] = section.slice(0, section.indexOf("; each")).match(/`.*`/s)!;
  assert.deepEqual(
    [...list.matchAll(/`(\w+)`/g)].map(([, name]) => name).slice(1),
    [...ARCHITECTURES.keys()].sort(),
  );
});

Deno.test("README's run on one's own data works as it is written", () =>
  withTemporaryFolder(async (folder) => {
    const run = await writeRun(folder);
    const [, , command] = blocks("sh");
    const [program, name, task_, file, ...overrides] = command.trim().split(" ");
    assert.deepEqual([program, name, task_, file], ["deno", "task", "train", "run.yaml"]);
    const { status, stderr, stdout } = await task("train", run, ...overrides);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /eval_rewards\/accuracies .* -> /);
  }));

Deno.test("README's run with checkpoints works as it is written, and is finished when it is run again", () =>
  withTemporaryFolder(async (folder) => {
    const run = await writeRun(folder);
    const command = blocks("sh").find((block) => block.includes("--save_steps"))!;
    const [, , , , ...overrides] = command.trim().split(" ");
    const first = await task("train", run, ...overrides);
    assert.equal(first.status, 0, first.stderr);
    assert.match(first.stderr, /^saved .*checkpoint-1$/m);
    const second = await task("train", run, ...overrides);
    assert.equal(second.status, 2);
    assert.match(second.stderr, /is not empty.*--overwrite_output_dir/);
  }));

Deno.test("README's script works as it is written", () =>
  withTemporaryFolder(async (folder) => {
    await writeRun(folder);
    const script = join(folder, "script.ts");
    const module = pathToFileURL(resolve("mod.ts")).href;
    await Deno.writeTextFile(
      script,
      blocks("ts")[0].replace("./mod.ts", module).replace("run.yaml", join(folder, "run.yaml"))
        .replace("out/scripted", join(folder, "scripted")),
    );
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", script] })
      .output();
    const text = new TextDecoder();
    assert.equal(code, 0, text.decode(stderr));
    assert.match(text.decode(stdout), /^1 -?\d/);
    assert.ok((await Deno.stat(join(folder, "scripted", "model.safetensors"))).isFile);
  }));

Deno.test("README's two commands are those that CI and users run", async () => {
  const [train, ok] = blocks("sh");
  assert.ok((await Deno.readTextFile(".ci/run")).includes(ok.trim()));
  const { tasks } = JSON.parse(await Deno.readTextFile("deno.json"));
  for (const [, name] of (readme + train).matchAll(/\bdeno(?:@[\d.]+)? task ([a-z:]+)/g)) {
    assert.ok(name in tasks, `no task ${name}`);
  }
});
