import assert from "node:assert/strict";
import { task } from "../command.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const { tasks, permissions } = JSON.parse(await Deno.readTextFile("deno.json"));
const commands = Object.entries(tasks as Record<string, { command: string }>);

Deno.test("no task has all permissions", () => {
  for (const [name, { command }] of commands) {
    assert.doesNotMatch(command, /(^|\s)(-A|--allow-all)(\s|$)/, name);
  }
  for (const [name, set] of Object.entries(permissions as Record<string, object>)) {
    assert.ok(!("all" in set), name);
  }
});

Deno.test("training starts no program, and SECURITY.md names each of its permissions and variables", async () => {
  const page = await Deno.readTextFile("SECURITY.md");
  const section = page.slice(page.indexOf("## Permissions"), page.indexOf("It starts no program"));
  assert.deepEqual(Object.keys(permissions.train).sort(), ["env", "net", "read", "sys", "write"]);
  for (const [name, values] of Object.entries(permissions.train)) {
    for (const word of [`--allow-${name}`, ...Array.isArray(values) ? values : []]) {
      assert.ok(section.includes(word), word);
    }
  }
});

Deno.test("the default training runs under the permissions of its task", () =>
  withTemporaryFolder(async (folder) => {
    const { status, stderr } = await task(
      "train",
      `--output_dir=${folder}`,
      "--max_steps=2",
      "--save_steps=1",
    );
    assert.equal(status, 0, stderr);
  }));
