/** `loadModel`: what a script asks of a model. */
import assert from "node:assert/strict";
import { UserError } from "../../lib/errors.ts";
import { loadModel, type PreferenceRow } from "../../mod.ts";
import { GOLDEN, readGolden } from "../golden_run.ts";

const rows: PreferenceRow[] = (await Deno.readTextFile(`${GOLDEN}/pairs.jsonl`)).trim().split("\n").map((
  line,
) => JSON.parse(line));

const near = (found: number, expected: number, name: string) =>
  assert.ok(
    Math.abs(found - expected) <= 1e-4 * Math.max(1, Math.abs(expected)),
    `${name}: ${found}, ${expected}`,
  );

Deno.test("a loaded model's figures over pairs, and of their tokens, are PyTorch's", async () => {
  await using model = await loadModel(`${GOLDEN}/untied`, { maxLength: 96 });
  // A step of the golden run has four pairs.
  const found = await model.evaluate(rows.slice(0, 4));
  const { log: [expected] } = await readGolden("untied");
  for (const name of ["loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies"] as const) {
    near(found[name]!, expected[name], name);
  }
  for (
    const [row, says] of [
      [{ prompt: "Is it?", chosen: "Yes." }, /; logProbabilities measures "chosen"$/],
      [
        { prompt: "Is it?", answer: "Yes." },
        /logProbabilities measures "answer": rename the keys: \{answer: chosen\}$/,
      ],
      [{ prompt: "Is it?", good: "Yes.", bad: "No." }, /: rename the keys: \{good: chosen, bad: rejected\}$/],
    ] as const
  ) {
    const message = await model.evaluate([rows[0], row as never]).catch(({ message }) => message);
    assert.match(message, /^evaluate:row 1: expected a key /);
    assert.match(message, says);
    assert.doesNotMatch(message, /loss_type|column_mapping/);
  }

  const golden: Record<"chosen" | "rejected", { ids: number[]; logProbabilities: number[] }>[] = JSON.parse(
    await Deno.readTextFile(`${GOLDEN}/logprobs.json`),
  );
  const asked = [rows[0], { ...rows[1], rejected: undefined }, rows[2]];
  const answers = await model.logProbabilities(asked);
  assert.deepEqual(answers.map((answer) => answer.rejected !== undefined), [true, false, true]);
  answers.forEach((answer, i) => {
    for (const name of ["chosen", "rejected"] as const) {
      const response = answer[name];
      if (!response) continue;
      assert.deepEqual(response.ids, golden[i][name].ids);
      assert.equal(response.tokens.length, response.ids.length);
      const { logProbabilities } = golden[i][name];
      response.logProbabilities.forEach((value, t) => near(value, logProbabilities[t], `${i} ${name} ${t}`));
      near(response.sum, logProbabilities.reduce((sum, value) => sum + value, 0), `${i} ${name}`);
    }
  });
});

Deno.test("answers come in pieces, whole, to messages too, and while something else is asked", async () => {
  const model = await loadModel(`${GOLDEN}/untied`, { maxLength: 96 });
  const prompt = "hello there";
  const whole = await model.generate(prompt, { maxNewTokens: 6 });
  assert.notEqual(whole, "");
  assert.ok(whole.startsWith(await model.generate(prompt, { maxNewTokens: 2 })));
  const pieces: string[] = [];
  for await (const piece of model.generate([{ role: "user", content: prompt }], { maxNewTokens: 6 })) {
    pieces.push(piece);
    // Within the loop, and with two more at once.
    if (pieces.length === 1) {
      const again = [
        model.generate(prompt, { maxNewTokens: 6 }),
        model.generate(prompt, { maxNewTokens: 6 }),
      ];
      assert.deepEqual(await Promise.all([...again, model.evaluate(rows.slice(0, 1)).then(() => "")]), [
        whole,
        whole,
        "",
      ]);
    }
  }
  assert.ok(pieces.length > 1);
  assert.equal(pieces.join(""), whole);

  const stop = new AbortController();
  stop.abort(new Error("enough"));
  await assert.rejects(() => Promise.resolve(model.generate(prompt, { signal: stop.signal })), /enough/);
  await assert.rejects(
    () => Promise.resolve(model.generate("x ".repeat(100))),
    /tokens, and maxLength is 96/,
  );
  await assert.rejects(
    () => Promise.resolve(model.generate([{ content: "no role" } as never])),
    /^UserError: .*messages\[0\]\.role/,
  );

  const last = model.generate(prompt, { maxNewTokens: 6 });
  const [first] = [await last[Symbol.asyncIterator]().next()];
  assert.ok(!first.done);
  await model[Symbol.asyncDispose]();
  for (
    const call of [
      () => Promise.resolve(last),
      () => model.evaluate(rows),
      () => model.logProbabilities(rows),
    ]
  ) {
    await assert.rejects(call, (error) => error instanceof UserError && error.code === "DISPOSED");
  }
  await model[Symbol.asyncDispose]();
});

Deno.test("what is in hand is answered though the model is disposed of, and what cannot be asked is refused", async () => {
  for (const maxLength of [0, 1, 1.5, NaN, 1e9]) {
    await assert.rejects(
      () => loadModel(`${GOLDEN}/untied`, { maxLength }),
      /maxLength: expected a whole number/,
    );
  }
  const model = await loadModel(`${GOLDEN}/untied`, { maxLength: 96 });
  const refused = (body: PromiseLike<unknown>, expected: RegExp, code = "DATA_INVALID") =>
    assert.rejects(async () => await body, (error: UserError) => {
      assert.match(String(error), expected);
      assert.equal(error.code, code);
      return true;
    });
  await refused(model.evaluate(5 as never), /^UserError: evaluate: expected rows .*found 5/);
  await refused(
    model.logProbabilities(null as never),
    /^UserError: logProbabilities: expected rows .*found null/,
  );
  await refused(model.generate([]), /UserError/);
  for (const maxNewTokens of [-1, NaN, 1.5]) {
    await refused(
      model.generate("x", { maxNewTokens }),
      /maxNewTokens: expected a whole number/,
      "CONFIG_INVALID",
    );
  }
  assert.equal(await model.generate("hello there", { maxNewTokens: 0 }).catch(() => "failed"), "");
  const asked = [model.logProbabilities(rows.slice(0, 3)), model.evaluate(rows.slice(0, 2))] as const;
  const generation = model.generate("hello there", { maxNewTokens: 90 });
  const cut = assert.rejects(async () => await generation, /disposed|closed/);
  await model[Symbol.asyncDispose]();
  const [answers, metrics] = await Promise.all(asked);
  assert.equal(answers.length, 3);
  assert.ok(Number.isFinite(metrics.loss));
  await cut;
});
