import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { readConfig } from "../../lib/config/parse.ts";
import { BASE, mistakes } from "../run_file.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

Deno.test("text that is no run file is refused with its place", () => {
  assert.match(mistakes("")[0], /^run.yaml:1:1: expected a mapping of keys to values, found nothing$/);
  assert.match(mistakes("- a\n- b")[0], /found a list$/);
  assert.match(mistakes("just words")[0], /found a single value$/);
  assert.match(mistakes(BASE + "prompts: [a, b\nseed: 1")[0], /^run.yaml:4:1: not valid YAML: /);
  assert.match(mistakes(BASE + "prompts: *nowhere")[0], /^run.yaml:3:10: .*not valid YAML: /);
  assert.match(mistakes(BASE + "---\na: 1")[0], /not valid YAML: /);
  assert.deepEqual(mistakes(BASE + "seed: 1\nseed: 2"), [
    "run.yaml:4:1: this key is written twice: keep one",
  ]);
  assert.match(mistakes(BASE + "? [a]\n: 1")[0], /^run.yaml:3:3: expected a key that is text$/);
  assert.match(mistakes("prompts: " + "[".repeat(50_000))[0], /not valid YAML/);
  assert.match(
    mistakes("__proto__: 1\n" + BASE)[0],
    /__proto__: unknown key: configs.README.md and --help list all$/,
  );
});

Deno.test("an alias that unfolds without end is refused", () => {
  const lines = ["a: &a0 [x, x, x, x, x, x, x, x, x]"];
  for (let i = 1; i < 9; i++) lines.push(`b${i}: &a${i} [${Array(9).fill(`*a${i - 1}`).join(", ")}]`);
  assert.ok(mistakes(lines.join("\n")).some((line) => /not valid YAML: Excessive alias count/.test(line)));
});

Deno.test("a run file that cannot be read is one clear message", async () => {
  await withTemporaryFolder(async (folder) => {
    const path = join(folder, "run.yaml");
    await assert.rejects(readConfig(path), {
      name: "UserError",
      status: 2,
      message: /run.yaml: .*no such file/,
    });
    await assert.rejects(readConfig(folder), { name: "UserError", status: 2 });
    await writeFile(path, BASE);
    assert.equal((await readConfig(path, ["--seed=3"])).config.seed, 3);
  });
});
