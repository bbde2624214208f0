import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ALL } from "./mutants/all.ts";
import { type Edits, mutantsOf, type Outcome, problemsOf, tryMutants } from "./mutants/mutants.ts";
import { withTemporaryFolder } from "./temporary_folder.ts";

Deno.test("every edit that tests must notice can still be made: its text stands once in its file", async () => {
  const problems = await problemsOf(mutantsOf(ALL), ".");
  assert.equal(problems.length, 0, problems.join("\n"));
});

const FILES = {
  "lib.ts": "export const one = 1;\nexport const two = 2;\n",
  "one_test.ts": 'import { one } from "./lib.ts";\nDeno.test("one", () => { if (one !== 1) throw one; });\n',
  "red_test.ts": 'Deno.test("red", () => { throw 1; });\n',
};

/** A tree of its own that git knows of. */
async function inTree(body: (root: string) => Promise<void>): Promise<void> {
  await withTemporaryFolder(async (root) => {
    execFileSync("git", ["init", "-q", root]);
    for (const [name, text] of Object.entries(FILES)) await writeFile(join(root, name), text);
    await mkdir(join(root, "tests/dawn"), { recursive: true });
    await writeFile(join(root, "tests/dawn/main.ts"), 'console.log("not run: no driver");\n');
    await body(root);
  });
}

const edits = (change: Partial<Edits>, ...edits: Edits["edits"]): Edits => ({
  file: "lib.ts",
  tests: ["one_test.ts"],
  edits,
  ...change,
});

Deno.test("an edit is noticed, or not, or nobody knows since its tests fail without it; the tree stays as it is", () =>
  inTree(async (root) => {
    const outcomes: Outcome[] = [];
    const one = ["one is two", "one = 1", "one = 2"] as const;
    await tryMutants(
      mutantsOf([
        edits({}, one, ["two is three", "two = 2", "two = 3"]),
        edits({ tests: ["red_test.ts"] }, one),
        edits({ filter: "none is called this" }, one),
        edits({ isOnDawn: true }, one),
      ]),
      root,
      { limit: 60, report: (outcome) => outcomes.push(outcome) },
    );
    assert.deepEqual(outcomes.map(({ mutant: { name }, verdict }) => [name, verdict]), [
      ["lib.ts: one is two", "noticed"],
      ["lib.ts: two is three", "NOT NOTICED"],
      ["lib.ts: one is two", "tests fail without it"],
      ["lib.ts: one is two", "tests fail without it"],
      ["lib.ts: one is two", "not tried, without Dawn"],
    ]);
    assert.equal(await readFile(join(root, "lib.ts"), "utf8"), FILES["lib.ts"]);
  }));

Deno.test("edits that cannot be made are named, each for what is wrong with it", () =>
  inTree(async (root) => {
    const problems = await problemsOf(
      mutantsOf([
        edits({}, ["fine", "one", "1"], ["fine", "two", "2"]),
        edits({}, ["not once", "const", "let"], ["nowhere", "three", "3"], ["nothing", "one", "one"]),
        edits({ file: "none.ts" }, ["no file", "one", "1"]),
        edits({ tests: ["none_test.ts"] }, ["no test file", "one", "1"]),
        edits({ tests: [] }, ["no tests", "one", "1"]),
      ]),
      root,
    );
    assert.deepEqual(problems, [
      "lib.ts: fine: comes twice",
      "lib.ts: not once: its text stands there 2 times: const",
      "lib.ts: nowhere: its text stands there 0 times: three",
      "lib.ts: nothing: changes nothing",
      "none.ts: no file: there is no such file",
      "lib.ts: no test file: there is no none_test.ts",
      "lib.ts: no tests: names no tests",
    ]);
  }));

Deno.test("names that no edit and no file of tests has are refused in a line", async () => {
  for (
    const [script, word, code] of [
      ["tests/mutants/main.ts", "lib/nosuch", 1],
      ["tests/bounds/main.ts", "tests/kernels/nothing_test.ts", 2],
      ["tests/bounds/main.ts", "tests/kernels", 2],
      ["tests/bounds/main.ts", "--help", 2],
    ] as const
  ) {
    const found = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", "--allow-read", "--allow-env", script, word],
    }).output();
    const said = new TextDecoder().decode(found.stderr).trim();
    assert.equal(found.code, code, said);
    assert.ok(said.startsWith(`${word}: `) && !said.includes("\n"), said);
  }
});
