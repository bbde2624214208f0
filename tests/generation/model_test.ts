/** `loadModel`: what a script asks of a model. */
import assert from "node:assert/strict";
import { loadModel } from "../../mod.ts";
import { GOLDEN, readGolden } from "../golden_run.ts";

Deno.test("a loaded model's figures over pairs are PyTorch's before its first step, and its answers are text", async () => {
  const model = await loadModel(`${GOLDEN}/untied`, { maxLength: 96 });
  try {
    const rows = (await Deno.readTextFile(`${GOLDEN}/pairs.jsonl`)).trim().split("\n").map((line) =>
      JSON.parse(line)
    );
    // A step of the golden run has four pairs.
    const found = await model.evaluate(rows.slice(0, 4));
    const { log: [expected] } = await readGolden("untied");
    for (const name of ["loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies"] as const) {
      assert.ok(
        Math.abs(found[name]! - expected[name]) <= 1e-4 * Math.max(1, Math.abs(expected[name])),
        name,
      );
    }
    const prompt = "hello there";
    const answer = await model.generate(prompt, { maxNewTokens: 6 });
    assert.notEqual(answer, "");
    assert.ok(answer.startsWith(await model.generate(prompt, { maxNewTokens: 2 })));
    await assert.rejects(
      () => model.evaluate([rows[0], { chosen: "Yes." }]),
      /^UserError: evaluate:row 1: /,
    );
  } finally {
    await model[Symbol.asyncDispose]();
  }
});
