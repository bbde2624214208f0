import assert from "node:assert/strict";
import { nearest } from "../lib/errors.ts";

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
