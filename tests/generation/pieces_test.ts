import assert from "node:assert/strict";
import { Generation, Pieces } from "../../lib/generation/pieces.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { GOLDEN } from "../golden_run.ts";

/** The pieces of a text whose beginnings are decoded one after the other. */
function piecesOf(texts: readonly string[]): string[] {
  const pieces = new Pieces();
  return [...texts.map((text) => pieces.next(text)), pieces.last(texts.at(-1)!)];
}

Deno.test("pieces are held back until nothing can change them any more", () => {
  assert.deepEqual(piecesOf([" ", " Ro", " Ro\ufffd", " Ro\ufffd\ufffd", " Roé ", " Roé!", " Roé! "]), [
    "",
    "Ro",
    "",
    "",
    "é",
    "!",
    "",
    "",
  ]);
  // A clean-up takes a space away, and what a token was a byte of turns out to be none.
  assert.deepEqual(piecesOf(["it ", "it."]), ["it", ".", ""]);
  assert.deepEqual(piecesOf(["a", "\ufffd\ufffd", "aé"]), ["a", "", "é", ""]);
  assert.deepEqual(piecesOf(["a\ufffd"]), ["a", "\ufffd"]);
});

Deno.test("pieces of byte tokens join to the text and split no character", async () => {
  const tokenizer = await loadTokenizer(`${GOLDEN}/untied`);
  const text = "Zürich 👩‍🚀 東京, naïve — done";
  const ids = tokenizer.encode(text);
  assert.ok(ids.length > [...text].length);
  const pieces = piecesOf(ids.map((_, i) => tokenizer.decode(ids.slice(0, i + 1))));
  assert.equal(pieces.join(""), text);
  for (const piece of pieces) assert.ok(!piece.includes("\ufffd") && piece.isWellFormed(), piece);
});

const END = { finishReason: "stop", tokens: 4, promptTokens: 2 } as const;

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
