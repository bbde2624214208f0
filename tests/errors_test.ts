import assert from "node:assert/strict";
import { inArea, nearest, UserError } from "../lib/errors.ts";

const KEYS = ["learning_rate", "max_steps", "max_length", "seed"];

Deno.test("a mistyped name is taken for the nearest, by letters changed, left out or put in", () => {
  const meant = ["lerning_rate", "max_stepz", "maxlength", "sed", "max_length_"].map((word) =>
    nearest(word, KEYS)
  );
  assert.deepEqual(meant, ["learning_rate", "max_steps", "max_length", "seed", "max_length"]);
});

Deno.test("a word that is none of them, a third of its letters away or more, is taken for nothing", () => {
  for (const word of ["beta", "optimizer", "x", "learn", "x".repeat(1000)]) {
    assert.equal(nearest(word, KEYS), undefined, word);
  }
  assert.equal(nearest("seed", []), undefined);
});

Deno.test("the code of a mistake is what was said of it first, by itself, by its status or by the part of the work", async () => {
  const codeOf = (error: UserError) =>
    inArea("DATA_INVALID", () => inArea("MODEL_INVALID", () => Promise.reject(error))).then(
      () => assert.fail(),
      (thrown) => {
        assert.equal(thrown, error);
        return thrown.code;
      },
    );
  assert.equal(await codeOf(new UserError("x")), "MODEL_INVALID");
  assert.equal(await codeOf(new UserError("x", 1, "NO_GPU")), "NO_GPU");
  assert.equal(await codeOf(new UserError("x", 2)), "CONFIG_INVALID");
  assert.equal(await codeOf(new UserError("x", 130)), "ABORTED");
  assert.equal(new UserError("x").code, "FAILED");
  await assert.rejects(inArea("DATA_INVALID", () => Promise.reject(new RangeError("x"))), RangeError);
});
