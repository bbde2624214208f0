/** What the encoder keeps, and where it cuts, changes no ids: texts made to break it, in one order and another. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { encoderOf, type Parts } from "../../lib/tokenizer/encoder.ts";
import { uniform } from "../../lib/random.ts";
import { AddedTokens } from "../../lib/tokenizer/added_tokens.ts";
import { Fields } from "../../lib/tokenizer/fields.ts";
import { readModel } from "../../lib/tokenizer/models.ts";
import { readNormalizer } from "../../lib/tokenizer/normalizers.ts";
import { readPreTokenizer } from "../../lib/tokenizer/pre_tokenizers.ts";
import { addedToken } from "../../lib/tokenizer/special_tokens.ts";

type Json = Record<string, unknown>;
const vocabularies: Record<string, Json> = JSON.parse(
  await readFile(new URL("../golden/tokenizers/vocabularies.json", import.meta.url), "utf8"),
);

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
  "the",
  "aa",
];
const ADDED = ["<s>", "<s>>", "<|x|>", "[INST]"];

const PREPEND = {
  type: "Sequence",
  normalizers: [{ type: "Prepend", prepend: "▁" }, {
    type: "Replace",
    pattern: { String: " " },
    content: "▁",
  }],
};
const PIECES = { unk_token: "<unk>", fuse_unk: true, byte_fallback: true };
const metaspace = (prepend_scheme: string, split = false) => ({
  type: "Metaspace",
  replacement: "▁",
  prepend_scheme,
  split,
});

interface Made {
  model: string;
  keys?: Json;
  normalizer?: Json;
  preTokenizer?: Json;
  flags?: Json;
}

const TOKENIZERS: Record<string, Made> = {
  "byte-level": {
    model: "bytes",
    preTokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
  },
  "byte-level, a space in front": {
    model: "bytes",
    preTokenizer: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true },
  },
  "byte-level without words": {
    model: "bytes",
    preTokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
  },
  "SentencePiece's": { model: "pieces", keys: PIECES, normalizer: PREPEND },
  "SentencePiece's, unknown pieces apart": {
    model: "pieces",
    keys: { unk_token: "<unk>" },
    normalizer: PREPEND,
  },
  "SentencePiece's, unknown pieces left out": { model: "pieces", normalizer: PREPEND },
  "SentencePiece's, whole pieces first": {
    model: "pieces",
    keys: { ...PIECES, ignore_merges: true },
    normalizer: PREPEND,
  },
  "a merge across words": {
    model: "pieces",
    keys: {
      ...PIECES,
      merges: [["a", "▁"], ...vocabularies.pieces.merges as string[][]],
      vocab: { ...vocabularies.pieces.vocab as Json, "a▁": 9999 },
    },
    normalizer: PREPEND,
  },
  "normalized added tokens": {
    model: "pieces",
    keys: PIECES,
    normalizer: PREPEND,
    flags: { normalized: true },
  },
  "Metaspace before every section": { model: "pieces", keys: PIECES, preTokenizer: metaspace("always") },
  "Metaspace before the first section": { model: "pieces", keys: PIECES, preTokenizer: metaspace("first") },
  "Unigram": { model: "unigram", preTokenizer: metaspace("always", true) },
};

function partsOf({ model, keys, normalizer, preTokenizer, flags }: Made, wordsApart = true): Parts {
  const read = readModel(Fields.of({ ...vocabularies[model], ...keys }, "model"));
  const normalize = normalizer && readNormalizer(Fields.of(normalizer, "normalizer"));
  const added = new AddedTokens(read, normalize, { split: false, where: "tokenizer.json" });
  added.add(ADDED.map((content) => addedToken({ content, special: true, ...flags }, content)));
  return {
    added,
    normalizer: normalize,
    preTokenizer: preTokenizer && readPreTokenizer(Fields.of(preTokenizer, "pre_tokenizer")),
    model: { ...read, wordsApart: wordsApart && read.wordsApart },
  };
}

function randomTexts(count: number): string[] {
  const next = uniform(7);
  const alphabet = [...SYLLABLES, ...ADDED, "ab", "aab"];
  return Array.from(
    { length: count },
    () =>
      Array.from({ length: Math.floor(next() * 24) }, () => alphabet[Math.floor(next() * alphabet.length)])
        .join(""),
  );
}

for (const [name, made] of Object.entries(TOKENIZERS)) {
  Deno.test(`encoderOf() gives the same ids whatever it has seen, and word by word: ${name}`, () => {
    const texts = randomTexts(1500);
    const forwards = encoderOf(partsOf(made));
    const expected = texts.map((text) => forwards(text));
    const backwards = encoderOf(partsOf(made, false));
    for (let i = texts.length - 1; i >= 0; i--) {
      assert.deepEqual(backwards(texts[i]), expected[i], JSON.stringify(texts[i]));
    }
    assert.equal(
      partsOf(made).model.wordsApart ?? false,
      name.startsWith("SentencePiece's") && !/left out|first/.test(name) ||
        /normalized|Metaspace/.test(name),
    );
  });
}

Deno.test("merging many parts by the queue is merging the best of all, again and again", () => {
  const { model } = partsOf(TOKENIZERS["SentencePiece's"]);
  const merges = new Map(
    (vocabularies.pieces.merges as string[][]).map(([a, b], rank) => [`${a} ${b}`, rank]),
  );
  const next = uniform(3);
  const letters = ["a", "b", "c", "d", "e", "h", "s", "t", "▁"].filter((letter) => model.vocab.has(letter));
  for (let round = 0; round < 300; round++) {
    const parts = Array.from(
      { length: 20 + Math.floor(next() * 60) },
      () => letters[Math.floor(next() * letters.length)],
    );
    const text = parts.join("");
    for (;;) {
      let best = -1;
      let rank = Infinity;
      for (let i = 0; i + 1 < parts.length; i++) {
        const found = merges.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (found < rank) [best, rank] = [i, found];
      }
      if (best < 0) break;
      parts.splice(best, 2, parts[best] + parts[best + 1]);
    }
    assert.deepEqual(model.idsOf(text), parts.map((part) => model.vocab.get(part)), text);
  }
});

Deno.test("encoderOf() forgets the oldest pieces and goes on", () => {
  const encode = encoderOf(partsOf(TOKENIZERS["byte-level"]));
  const words = Array.from({ length: 70_000 }, (_, i) => ` w${i.toString(26).replace(/\d/g, "z")}`);
  for (let i = 0; i < words.length; i += 1000) encode(words.slice(i, i + 1000).join(""));
  for (const i of [0, 1, 35_000, 69_999]) {
    assert.deepEqual(encode(words[i]), encoderOf(partsOf(TOKENIZERS["byte-level"]))(words[i]));
  }
});
