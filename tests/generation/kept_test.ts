/**
 * What the reference of drawing keeps is what transformers keeps: tests/golden/sampling/make.py made what it is
 * compared with.
 */
import assert from "node:assert/strict";
import { GREEDY, type Sampling } from "../../lib/generation/request.ts";
import { kept } from "../reference/sampling.ts";

const golden: {
  sampling: Partial<Sampling>;
  prompt: number[];
  logits: number[];
  probabilities: Record<string, number>;
}[] = JSON.parse(await Deno.readTextFile("tests/golden/sampling/kept.json"));

for (const { sampling, prompt, logits, probabilities } of golden) {
  Deno.test(`the tokens that are kept, and their shares, are transformers': ${JSON.stringify(sampling)}`, () => {
    const seen = logits.map((_, token) => ({ inPrompt: prompt.includes(token), count: 0 }));
    const found = kept(logits, { ...GREEDY, ...sampling }, seen);
    const expected = Object.keys(probabilities).map(Number);
    assert.deepEqual(found.tokens.toSorted((a, b) => a - b), expected);
    for (const [i, token] of found.tokens.entries()) {
      assert.ok(Math.abs(found.probabilities[i] - probabilities[token]) < 1e-6, `token ${token}`);
    }
  });
}
