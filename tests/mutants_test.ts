import assert from "node:assert/strict";
import { ALL } from "./mutants/all.ts";
import { mutantsOf, problemsOf } from "./mutants/mutants.ts";

Deno.test("every edit that tests must notice can still be made: its text stands once in its file", async () => {
  const problems = await problemsOf(mutantsOf(ALL), ".");
  assert.equal(problems.length, 0, problems.join("\n"));
});
