import assert from "node:assert/strict";
import type { TokenizerPool } from "../../lib/data/pool.ts";
import { answerTo } from "../../lib/generation/answer.ts";
import { AnswerText, type TextsOfTokens } from "../../lib/generation/answer_text.ts";
import { Generation } from "../../lib/generation/pieces.ts";
import type { Generator } from "../../lib/generation/request.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { GOLDEN } from "../golden_run.ts";

const decoding = (decode: (ids: number[]) => string): TextsOfTokens => ({
  texts: (lists) => Promise.resolve(lists.map(decode)),
});

async function piecesOf(tokenizer: TextsOfTokens, ids: readonly number[], stops: readonly string[] = []) {
  const text = new AnswerText(tokenizer, stops);
  const pieces: string[] = [];
  for (const id of ids) pieces.push(await text.next(id));
  return [...pieces, await text.last()];
}

/** The pieces of an answer of these tokens, and the whole. */
async function answered(tokenizer: TextsOfTokens, ids: readonly number[], stop: readonly string[] = []) {
  const answerer = {
    pool: { ...tokenizer, promptIds: () => Promise.resolve([0]) } as unknown as TokenizerPool,
    generator: {
      positions: 100,
      async *tokens() {
        for (const id of ids) yield { id, logProbability: 0, top: [] };
      },
    } as unknown as Generator,
    generationConfig: { doSample: false, sampling: {}, eosTokenIds: [] },
    eosTokenIds: [],
    vocabSize: 1000,
  };
  const make = () => new Generation(() => answerTo("?", { stop }, answerer));
  return { pieces: await Array.fromAsync(make()), whole: await make() };
}

/** Tokens that stand for words, as a decoder with a clean-up of spaces joins them. */
const words = (list: readonly string[]) =>
  decoding((ids) => ids.map((id) => list[id]).join("").replaceAll(" 's", "'s").replaceAll(" .", "."));
/** Tokens that stand for bytes. */
const bytes = (list: readonly number[]) =>
  decoding((ids) => new TextDecoder().decode(Uint8Array.from(ids, (id) => list[id])));
const all = (list: readonly unknown[]) => list.map((_, i) => i);

Deno.test("pieces of byte tokens join to the text and split no character", async () => {
  const tokenizer = await loadTokenizer(`${GOLDEN}/untied`);
  const text = "Zürich 👩‍🚀 東京, naïve — done";
  const ids = tokenizer.encode(text);
  assert.ok(ids.length > [...text].length);
  const pieces = await piecesOf(decoding((ids) => tokenizer.decode(ids)), ids);
  assert.equal(pieces.join(""), text);
  for (const piece of pieces) assert.ok(!piece.includes("\ufffd") && piece.isWellFormed(), piece);
});

Deno.test("what a decoder changes afterwards costs nothing of what follows, and the whole is as it decodes all", async () => {
  const list = ["It", " '", "s", " a fine day", " ."];
  const found = await answered(words(list), all(list));
  assert.ok(found.pieces.join("").includes(" a fine day"), found.pieces.join("|"));
  assert.equal(found.whole, "It's a fine day.");
  // A character, and a byte that begins one and is followed by none.
  const broken = [0xc3, 0xa9, 0xc3, ...new TextEncoder().encode(" and more")];
  assert.equal((await piecesOf(bytes(broken), all(broken))).join(""), "é\ufffd and more");
  assert.equal((await answered(bytes(broken), all(broken))).whole, "é\ufffd and more");
});

Deno.test("white space at the ends is no part of an answer, and that within it comes when something follows", async () => {
  const list = ["\n", " Ro", "me ", " ", "is. ", "\n"];
  const { pieces, whole } = await answered(decoding((ids) => ids.map((id) => list[id]).join("")), all(list));
  assert.deepEqual(pieces, ["Ro", "me", "  is."]);
  assert.equal(whole, "Rome  is.");
});

Deno.test("an answer ends before a stop, and what may begin one is held back until it does not", async () => {
  const list = ["Rome", ".\nQu", "iet\nQuest", "ion: more"];
  const plain = decoding((ids) => ids.map((id) => list[id]).join(""));
  const { pieces, whole } = await answered(plain, all(list), ["\nQuestion:"]);
  assert.deepEqual(pieces, ["Rome", ".", "\nQuiet"]);
  assert.equal(whole, "Rome.\nQuiet");
  assert.equal((await answered(plain, [0, 1, 2], ["\nQuestion:"])).pieces.join(""), "Rome.\nQuiet\nQuest");
});
