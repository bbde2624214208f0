import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { readRows } from "../../lib/data/read.ts";
import { render } from "../../lib/data/render.ts";
import { tokenizePair, type Truncation } from "../../lib/data/tokenize.ts";
import { loadTokenizer, type Tokenizer } from "../../lib/tokenizer/tokenizer.ts";

const GOLDEN = new URL("../golden/data/", import.meta.url).pathname;
const rows = (await Array.fromAsync(readRows(`${GOLDEN}rows.jsonl`))).map(({ row }) => row);
const golden = JSON.parse(await readFile(`${GOLDEN}pairs.json`, "utf8"));
const options = { autoInsertEmptySystemMsg: true, usesRejected: true };

for (const setting of golden.settings) {
  const truncation: Truncation = {
    maxLength: setting.max_length,
    maxPromptLength: setting.max_prompt_length,
    truncationMode: setting.truncation_mode,
  };
  const name = `${setting.template}, ${Object.values(truncation).join(", ")}`;
  Deno.test(`every token and label equals seed_rules.py's: ${name}`, async () => {
    const chatTemplate = golden.templates[setting.template];
    const tokenizer = await loadTokenizer(`${GOLDEN}tokenizer`, { chatTemplate });
    assert.equal(setting.rows.length, rows.length);
    rows.forEach((row, i) => {
      const { prompt, chosen, rejected } = render(row, tokenizer, options);
      const pair = tokenizePair(prompt, chosen, rejected, tokenizer, truncation);
      const found = [pair.chosen, pair.rejected!].map((
        { ids, promptLength },
      ) => [ids.join(" "), promptLength]);
      assert.deepEqual(found, setting.rows[i], JSON.stringify(row));
    });
  });
}

/** A tokenizer of characters: a text's ids are its code points, with "^" for BOS and "$" for EOS. */
const characters: Tokenizer = {
  tokenOf: (id) => String.fromCodePoint(id),
  encode: (text) => Array.from(text, (character) => character.codePointAt(0)!),
  decode: (ids) => String.fromCodePoint(...ids),
  vocabSize: 0x110000,
  bosToken: "^",
  bosTokenId: 94,
  eosToken: "$",
  eosTokenId: 36,
  fingerprint: "characters",
  applyChatTemplate: () => "",
};

/** Tokenizes with `characters`, as text with a bar before the first label. */
function cut(
  [prompt, chosen, rejected]: [string, string, string?],
  [maxLength, maxPromptLength]: [number, number],
  truncationMode: Truncation["truncationMode"] = "keep_end",
  tokenizer = characters,
) {
  const pair = tokenizePair(prompt, chosen, rejected, tokenizer, {
    maxLength,
    maxPromptLength,
    truncationMode,
  });
  const texts = [pair.chosen, pair.rejected].filter((sequence) => sequence !== undefined)
    .map(({ ids, promptLength: n }) =>
      `${tokenizer.decode(ids.slice(0, n))}|${tokenizer.decode(ids.slice(n))}`
    );
  return [...texts, pair.truncated];
}

Deno.test("BOS and EOS are added once, and kept where the text has them", () => {
  assert.deepEqual(cut(["ab", "c", "de"], [99, 50]), ["^ab|c$", "^ab|de$", false]);
  assert.deepEqual(cut(["^ab", "c$", ""], [99, 50]), ["^ab|c$", "^ab|$", false]);
  const { bosToken: _, bosTokenId: __, ...withoutBos } = characters;
  assert.deepEqual(cut(["ab", "c"], [99, 50], "keep_end", withoutBos), ["ab|c$", false]);
  assert.deepEqual(cut(["", "c"], [99, 50]), ["^|c$", false]);
});

Deno.test("the longer response decides on the prompt's truncation, and both responses are cut", () => {
  assert.deepEqual(cut(["abcdef", "x", "yy"], [10, 4]), ["^abcdef|x$", "^abcdef|yy$", false]);
  assert.deepEqual(cut(["abcdef", "x", "yyy"], [10, 4]), ["cdef|x$", "cdef|yyy$", "prompt"]);
  assert.deepEqual(cut(["abcdef", "x", "yyy"], [10, 4], "keep_start"), ["^abc|x$", "^abc|yyy$", "prompt"]);
  assert.deepEqual(cut(["abcdef", "x", "yyyyyyyy"], [10, 4]), ["cdef|x$", "cdef|yyyyyy", "response"]);
  assert.deepEqual(cut(["abcdef", "x"], [8, 4]), ["cdef|x$", "prompt"]);
});

Deno.test("a prompt whose last token merges with the response gives that token to the response", () => {
  const merging = { ...characters, encode: (text: string) => characters.encode(text.replace(" c", "C")) };
  assert.deepEqual(cut(["ab ", "cd", "ed"], [99, 50], "keep_end", merging), ["^ab|Cd$", "^ab |ed$", false]);
  // As TRL cuts: at the prompt's own length.
  const { chosen } = tokenizePair("ab ", "cd", "ed", merging, {
    maxLength: 99,
    maxPromptLength: 50,
    truncationMode: "keep_end",
    labelGenerationPrompt: false,
  });
  assert.deepEqual([merging.decode(chosen.ids), chosen.promptLength], ["^abCd$", 4]);
});

Deno.test("tokenizePair() refuses what would train on nothing or on two BOS tokens", () => {
  const refuses = (run: () => unknown, message: RegExp) => assert.throws(run, { name: "UserError", message });
  refuses(() => cut(["^^a", "b"], [99, 50]), /expected one \^ in front, found two/);
  refuses(() => cut(["", "^b"], [99, 50]), /expected one \^ in front, found two/);
  refuses(
    () => cut(["abc", "b"], [4, 4]),
    /no token of the response is left .*4 tokens of prompt, 0 of response/,
  );
  const { bosToken: _, bosTokenId: __, ...withoutBos } = characters;
  refuses(() => cut(["", ""], [99, 50], "keep_end", withoutBos), /no token of the response is left/);
  const { eosToken: ___, eosTokenId: ____, ...withoutEos } = characters;
  refuses(() => cut(["a", "b"], [99, 50], "keep_end", withoutEos), /has no eos_token/);
  const reversing = {
    ...characters,
    encode: (text: string) => {
      const ids = characters.encode(text);
      return text.endsWith("!") ? ids.reverse() : ids;
    },
  };
  refuses(() => cut(["abc", "d", "e!"], [99, 50], "keep_end", reversing), /prompt to have the same tokens/);
});
