import assert from "node:assert/strict";
import { Generation } from "../../lib/generation/pieces.ts";

const END = { finishReason: "stop", tokens: 4, promptTokens: 2, text: "abc" } as const;

Deno.test("a generation is begun once, and ends with the loop over it", async () => {
  let begun = 0;
  let ended = false;
  const make = () =>
    new Generation(async function* () {
      begun++;
      try {
        yield* ["a", "b", "c"];
        return END;
      } finally {
        ended = true;
      }
    });
  const whole = make();
  for await (const piece of whole) {
    assert.equal(piece, "a");
    break;
  }
  assert.ok(ended);
  assert.equal(await whole, "a");
  assert.equal(whole.end, undefined);
  const other = make();
  assert.deepEqual(await Promise.all([other, other]), ["abc", "abc"]);
  assert.deepEqual(other.end, END);
  assert.equal(begun, 2);
  const failing = new Generation(async function* () {
    yield await Promise.reject(new Error("no"));
    return END;
  });
  await assert.rejects(() => Promise.resolve(failing), /no/);
});
