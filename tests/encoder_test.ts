/** The encoder against the library that it stands for, on texts made to break where it cuts them. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { Tokenizer } from "npm:@huggingface/tokenizers@^0.2.0";
import { encoderOf } from "../lib/encoder.ts";
import { withUnicodeClasses } from "../lib/pre_tokenizer.ts";
import { uniform } from "../lib/random.ts";

const GOLDEN = new URL("golden/data/", import.meta.url).pathname;
type Json = Record<string, unknown>;
const golden: Json = JSON.parse(await readFile(`${GOLDEN}tokenizer/tokenizer.json`, "utf8"));
const digits: Json = JSON.parse(await readFile(`${GOLDEN}digits/tokenizer.json`, "utf8"));

const SYLLABLES = [
  "a",
  "b",
  " ",
  "  ",
  "▁",
  "▁▁",
  "\n",
  "1",
  "23",
  "é",
  "日",
  "👨‍👩‍👧",
  "'s",
  "!",
  "<",
  "<|",
  "\u0301",
  "\ufeff",
];
const ADDED = ["<s>", "<s>>", "<|x|>", "[INST]"];
const added = (changes: Json = {}) =>
  ADDED.map((content, i) => ({ content, id: 900 + i, special: true, normalized: false, ...changes }));

/** A tokenizer as SentencePiece's are written, whose words are marked by ▁. */
const pieces = [
  "<unk>",
  "▁",
  "a",
  "b",
  "1",
  "é",
  "▁a",
  "ab",
  "aa",
  "▁▁",
  "▁ab",
  "aab",
  "<0x0A>",
  "bb",
  "abb",
];
const merges = [["▁", "a"], ["a", "b"], ["a", "a"], ["▁", "▁"], ["▁a", "b"], ["aa", "b"], ["b", "b"], [
  "a",
  "bb",
]];
const sentencePiece = (changes: Json = {}, model: Json = {}): Json => ({
  normalizer: {
    type: "Sequence",
    normalizers: [{ type: "Prepend", prepend: "▁" }, {
      type: "Replace",
      pattern: { String: " " },
      content: "▁",
    }],
  },
  pre_tokenizer: null,
  post_processor: null,
  decoder: null,
  added_tokens: added(),
  model: {
    type: "BPE",
    vocab: Object.fromEntries(pieces.map((piece, i) => [piece, i])),
    merges,
    unk_token: "<unk>",
    fuse_unk: true,
    byte_fallback: true,
    ...model,
  },
  ...changes,
});
const metaspace = (prepend_scheme: string): Json =>
  sentencePiece({ normalizer: null, pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme } });

const TOKENIZERS: Record<string, Json> = {
  "byte-level": golden,
  "byte-level after numbers": digits,
  "byte-level without words": { ...golden, pre_tokenizer: { type: "ByteLevel", use_regex: false } },
  "added tokens that begin alike": { ...golden, added_tokens: added() },
  "added tokens that take the space around them": {
    ...golden,
    added_tokens: added({ lstrip: true, rstrip: true }),
  },
  "SentencePiece's": sentencePiece(),
  "SentencePiece's, unknown pieces apart": sentencePiece({}, { fuse_unk: false }),
  "SentencePiece's, whole pieces first": sentencePiece({}, { ignore_merges: true }),
  "a merge across words": sentencePiece({}, { merges: [["b", "▁a"], ...merges] }),
  "normalised added tokens": sentencePiece({ added_tokens: added({ normalized: true }) }),
  "Metaspace before every section": metaspace("always"),
  "Metaspace before the first section": metaspace("first"),
  "Unigram": sentencePiece({
    model: { type: "Unigram", unk_id: 0, vocab: pieces.map((piece, i) => [piece, -1 - (i % 5)]) },
  }),
  "WordPiece": sentencePiece({
    pre_tokenizer: { type: "BertPreTokenizer" },
    model: {
      type: "WordPiece",
      vocab: Object.fromEntries([...pieces, "##b", "##a"].map((piece, i) => [piece, i])),
      unk_token: "<unk>",
      continuing_subword_prefix: "##",
    },
  }),
};

for (const [name, json] of Object.entries(TOKENIZERS)) {
  Deno.test(`encoderOf() gives the library's ids: ${name}`, () => {
    const library = new Tokenizer({ ...json, pre_tokenizer: withUnicodeClasses(json.pre_tokenizer) }, {});
    const encode = encoderOf(library);
    const next = uniform(7);
    const alphabet = [...SYLLABLES, ...ADDED, "ab", "aab"];
    for (let i = 0; i < 3000; i++) {
      const text = Array.from(
        { length: Math.floor(next() * 24) },
        () => alphabet[Math.floor(next() * alphabet.length)],
      ).join("");
      const expected = library.encode(text, { add_special_tokens: false }).ids;
      assert.deepEqual(encode(text), expected, JSON.stringify(text));
    }
  });
}

Deno.test("encoderOf() forgets the oldest pieces and goes on", () => {
  const library = new Tokenizer({ ...golden, pre_tokenizer: withUnicodeClasses(golden.pre_tokenizer) }, {});
  const encode = encoderOf(library);
  const words = Array.from({ length: 70_000 }, (_, i) => ` w${i.toString(26).replace(/\d/g, "z")}`);
  for (let i = 0; i < words.length; i += 1000) encode(words.slice(i, i + 1000).join(""));
  for (const i of [0, 1, 35_000, 69_999]) {
    assert.deepEqual(encode(words[i]), library.encode(words[i], { add_special_tokens: false }).ids);
  }
});
