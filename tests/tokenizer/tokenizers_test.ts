/**
 * Small tokenizers for each component, and for each way in which transformers reads a folder;
 * tests/golden/tokenizers/make.py wrote them.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadTokenizer, loadVocabulary } from "../../lib/tokenizer/tokenizer.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const GOLDEN = new URL("../golden/tokenizers/", import.meta.url).pathname;

type Json = Record<string, unknown>;
interface Case {
  name: string;
  model: string;
  model_keys?: Json;
  json?: Json;
  config?: Json;
  files?: Json;
  tokens: [string | null, number | null][];
  /** Null where Python refuses the text. */
  ids: (string | null)[];
  /** 0 where it is the text again, and of `skipped` where it is what `decoded` has; null where Python refuses it. */
  decoded?: (string | 0 | null)[];
  skipped?: (string | 0 | null)[];
}

const vocabularies: Record<string, Json> = JSON.parse(await readFile(`${GOLDEN}vocabularies.json`, "utf8"));
const { usual, texts, cases }: { usual: { json: Json; config: Json }; texts: string[]; cases: Case[] } = JSON
  .parse(
    await readFile(`${GOLDEN}tokenizers.json`, "utf8"),
  );

function modelOf({ model, model_keys }: Case): Json {
  const whole: Json = { ...vocabularies[model], ...model_keys };
  if (whole.merges === "text") {
    whole.merges = (vocabularies[model].merges as string[][]).map((pair) => pair.join(" "));
  }
  if (whole.vocab === "bytes") {
    const bytes = Array.from(
      { length: 256 },
      (_, i) => [`<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`, -12],
    );
    whole.vocab = [...vocabularies.unigram.vocab as unknown[], ...bytes];
  }
  return whole;
}

async function write(folder: string, made: Case): Promise<void> {
  const { tokenizer_class, ...config }: Json = { ...usual.config, ...made.config };
  const files: Json = {
    "tokenizer.json": { ...usual.json, ...made.json, model: modelOf(made) },
    "tokenizer_config.json": tokenizer_class === null ? config : { ...config, tokenizer_class },
    ...made.files,
  };
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(folder, name), JSON.stringify(content));
  }
}

for (const made of cases) {
  Deno.test(`ids and texts are those of transformers: ${made.name}`, () =>
    withTemporaryFolder(async (folder) => {
      await write(folder, made);
      const tokenizer = await loadTokenizer(folder);
      const [bos, eos] = made.tokens;
      assert.deepEqual([tokenizer.bosToken ?? null, tokenizer.bosTokenId ?? null], bos);
      assert.deepEqual([tokenizer.eosToken ?? null, tokenizer.eosTokenId ?? null], eos);
      for (const [i, text] of texts.entries()) {
        const expected = made.ids[i];
        if (expected === null) {
          assert.throws(() => tokenizer.encode(text), { name: "UserError" }, text);
          continue;
        }
        const ids = tokenizer.encode(text);
        assert.equal(ids.join(" "), expected, JSON.stringify(text));
        assert.equal(tokenizer.encode(text).join(" "), expected, `${JSON.stringify(text)}, again`);
        if (made.decoded?.[i] === null) continue;
        const decoded = made.decoded?.[i] ?? 0;
        const whole = decoded === 0 ? text : decoded;
        const short = made.skipped?.[i] ?? 0;
        assert.equal(tokenizer.decode(ids), whole, JSON.stringify(text));
        assert.equal(tokenizer.decode(ids, { skipSpecialTokens: true }), short === 0 ? whole : short);
      }
    }));
}

const REFUSED: [
  name: string,
  changes: { json?: Json; model_keys?: Json; config?: Json; files?: Json },
  message: RegExp,
][] = [
  [
    "a component that is not known",
    { json: { normalizer: { type: "Rot13" } } },
    /tokenizer\.json: normalizer: the normalizer "Rot13"/,
  ],
  [
    "UnicodeScripts",
    { json: { pre_tokenizer: { type: "UnicodeScripts" } } },
    /pre_tokenizer: the pre-tokenizer "UnicodeScripts"/,
  ],
  [
    "a step that lacks a key",
    { json: { pre_tokenizer: { type: "Digits" } } },
    /pre_tokenizer\.individual_digits: expected true or false/,
  ],
  ["a decoder with an expression", {
    json: { decoder: { type: "Replace", pattern: { Regex: "a" }, content: "" } },
  }, /decoder: regular/],
  ["dropout", { model_keys: { dropout: 0.1 } }, /model: dropout 0\.1 is not supported/],
  [
    "a model of another kind",
    { model_keys: { type: "Abacus" } },
    /model: the model "Abacus" is not supported/,
  ],
  ["an id that is none", { model_keys: { vocab: { a: -1 } } }, /model: vocab: expected .* found "a": -1/],
  ["a huge id", { model_keys: { vocab: { a: 2 ** 40 } } }, /model: vocab: expected .* an id below/],
  [
    "a merge of what is no token",
    { model_keys: { merges: [["a", "☃"]] } },
    /merges\[0\]: "☃" is not in the vocabulary/,
  ],
  ["a merge of three", { model_keys: { merges: ["a b c"] } }, /merges\[0\]: expected two tokens/],
  [
    "scores that are none",
    { model_keys: { type: "Unigram", vocab: [["a", null]] } },
    /vocab\[0\]: expected a token and its score/,
  ],
  [
    "an unknown id that is none",
    { model_keys: { type: "Unigram", vocab: [["a", 0]], unk_id: 1 } },
    /unk_id: expected one of 1 tokens/,
  ],
  ["another version", { json: { version: "2.0" } }, /version: expected "1\.0", found "2\.0"/],
  ["added tokens that are one", {
    json: {
      normalizer: { type: "Lowercase" },
      added_tokens: ["A", "a"].map((content, id) => ({ id, content, normalized: true })),
    },
  }, /the added token "a" cannot be told from "A" in normalized text/],
  [
    "flags that are none",
    { config: { added_tokens_decoder: { "1": { content: "a", lstrip: 1 } } } },
    /added_tokens_decoder\.1\.lstrip: expected/,
  ],
  [
    "extra tokens that are none",
    { config: { extra_special_tokens: [{ content: "a" }] } },
    /extra_special_tokens\[0\]: expected a token/,
  ],
  ["Python code", {
    config: { tokenizer_class: "OwnTokenizer", auto_map: { AutoTokenizer: ["own.Own", null] } },
  }, /auto_map: .* Python code/],
  [
    "a class of its own way",
    { config: { tokenizer_class: "T5TokenizerFast" } },
    /tokenizer_class: "T5Tokenizer" makes/,
  ],
  ["a class for another model", {
    config: { tokenizer_class: "GPT2Tokenizer" },
    model_keys: { type: "WordLevel" },
  }, /model: expected BPE/],
  [
    "a map that is none",
    { json: { normalizer: { type: "Precompiled", precompiled_charsmap: "?" } } },
    /normalizer: precompiled_charsmap/,
  ],
  ["a pattern of nothing that is replaced", {
    json: { normalizer: { type: "Replace", pattern: { Regex: "^" }, content: "x" } },
  }, /matches nothing/],
];
for (
  const regex of [
    "(a)\\1",
    "\\G",
    "\\K",
    "\\X",
    "\\R",
    "(?~a)",
    "(?i)ss",
    "(?i)\\p{L}",
    "(?i)é",
    "(?i)[^a]",
    "(?:a*)*",
    "(?<=a++)b",
    "[[:print:]]",
    "(?<n>a)\\g<n>",
    "(",
    "\\p{Nonsense}",
    "a(?i)b",
  ]
) {
  const split = { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false };
  REFUSED.push([
    `the expression ${regex}`,
    { json: { pre_tokenizer: split } },
    /pre_tokenizer: pattern: the regular expression/,
  ]);
}

for (const [name, changes, message] of REFUSED) {
  Deno.test(`what cannot be had exactly is refused when the file is read: ${name}`, () =>
    withTemporaryFolder(async (folder) => {
      await write(folder, { name, model: "bytes", tokens: [], ids: [], ...changes });
      await assert.rejects(loadTokenizer(folder), { name: "UserError", message });
    }));
}

Deno.test("components nested without end are refused", () =>
  withTemporaryFolder(async (folder) => {
    await write(folder, cases[0]);
    const path = join(folder, "tokenizer.json");
    const json = await readFile(path, "utf8");
    for (
      const [levels, message] of [[50, /nested more than 32 deep/], [
        5000,
        /at most 256 levels, found more/,
      ]] as const
    ) {
      const nested = '{"type":"Sequence","pretokenizers":['.repeat(levels) + "]}".repeat(levels);
      await writeFile(path, json.replace(/"pre_tokenizer":\{[^}]*\}/, `"pre_tokenizer":${nested}`));
      await assert.rejects(loadTokenizer(folder), { name: "UserError", message });
    }
  }));

Deno.test("a vocabulary runs no expressions of the model's, and says so where it would have to", () =>
  withTemporaryFolder(async (folder) => {
    const normalizer = { type: "Replace", pattern: { Regex: "(a|a)*b" }, content: "" };
    const added_tokens = [{ id: 1, content: "<s>", normalized: true }, {
      id: 2,
      content: "</s>",
      normalized: false,
    }];
    await write(folder, { ...cases[0], json: { normalizer, added_tokens } });
    const { decode } = await loadVocabulary(folder);
    assert.equal(decode([2]), "</s>");
    assert.throws(() => decode([1]), {
      name: "UserError",
      message: /the added token "<s>" follows from a regular expression/,
    });
  }));

Deno.test("Unicode is that of Oniguruma's tables: sets that a new runtime has otherwise are noticed", () => {
  const count = (regex: RegExp) => {
    let found = 0;
    for (let code = 0; code < 0x110000; code++) if (regex.test(String.fromCodePoint(code))) found++;
    return found;
  };
  assert.deepEqual([/\p{L}/u, /\p{M}/u, /\p{N}/u, /\p{P}/u, /\p{S}/u, /\p{Alphabetic}/u].map(count), [
    141028,
    2501,
    1911,
    855,
    8514,
    142759,
  ]);
});
