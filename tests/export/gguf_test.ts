/** Models as GGUF, read back by Hugging Face's reader and compared with what llama.cpp's own package makes of them. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { gguf } from "npm:@huggingface/gguf@^0.4.6";
import { exportGguf } from "../../lib/export/export_gguf.ts";
import { type GgmlType, toGgml } from "../../lib/export/ggml.ts";
import { preTokenizerName } from "../../lib/export/pre_tokenizers.ts";
import { vocabularyOf } from "../../lib/export/vocabulary.ts";
import type { TokenTable } from "../../lib/tokenizer/tokenizer.ts";
import { task } from "../command.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN } from "../golden_run.ts";
import { modelWith } from "../model_with.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

interface Golden {
  files: {
    folder: string;
    type: GgmlType;
    tensors: Record<string, [shape: number[], type: string, sha256: string]>;
    metadata?: Record<string, unknown>;
  }[];
  q8_0: { numbers: number[]; bytes: string };
}
const golden: Golden = JSON.parse(await Deno.readTextFile("tests/golden/gguf/golden.json"));

const sha256 = (data: string | Uint8Array) => createHash("sha256").update(data).digest("hex");
const NAMES: Record<number, string> = { 0: "F32", 1: "F16", 8: "Q8_0", 30: "BF16" };
const BLOCKS: Record<number, [elements: number, bytes: number]> = {
  0: [1, 4],
  1: [1, 2],
  8: [32, 34],
  30: [1, 2],
};

/** A file's tensors as the golden has them, and its metadata. */
async function readBack(path: string) {
  const { metadata, tensorInfos, tensorDataOffset } = await gguf(path, { allowLocalFile: true });
  const bytes = await Deno.readFile(path);
  let end = Number(tensorDataOffset);
  const tensors = tensorInfos.map(({ name, shape, dtype, offset }) => {
    const dimensions = shape.map(Number).toReversed();
    const [elements, size] = BLOCKS[dtype];
    const length = dimensions.reduce((product, dimension) => product * dimension, 1) / elements * size;
    const start = Number(tensorDataOffset + offset);
    assert.equal(start % 32, 0);
    end = Math.max(end, Math.ceil((start + length) / 32) * 32);
    return [name, [dimensions, NAMES[dtype], sha256(bytes.subarray(start, start + length)).slice(0, 16)]];
  });
  assert.equal(bytes.length, end);
  return { metadata: metadata as Record<string, unknown>, tensors: Object.fromEntries(tensors) };
}

/** Values as JSON has them, and long lists by their hash. */
const plain = (value: unknown): unknown =>
  Array.isArray(value)
    ? [value.length, sha256(value.join("\0"))]
    : typeof value === "bigint"
    ? Number(value)
    : value;

Deno.test("tensors, metadata and tokens of a GGUF file are those that llama.cpp's package makes", () =>
  withTemporaryFolder(async (folder) => {
    for (const { folder: model, type, tensors, metadata } of golden.files) {
      const file = join(folder, "model.gguf");
      await exportGguf({ folder: model }, file, type);
      const found = await readBack(file);
      assert.deepEqual(found.tensors, tensors, `${model} as ${type}`);
      for (const [key, value] of Object.entries(metadata ?? {})) {
        const ours = plain(found.metadata[key]);
        if (typeof value === "number") assert.equal(ours, Math.fround(value), key);
        else assert.deepEqual(ours, value, key);
      }
    }
  }));

Deno.test("a folder of adapters is exported as the model that merge makes of it", () =>
  withTemporaryFolder(async (folder) => {
    const adapter = "tests/golden/adapters/lora";
    const [file, whole] = ["a.gguf", "b.gguf"].map((name) => join(folder, name));
    const own = await task("export", `${GOLDEN}/untied`, `--adapter=${adapter}`, `--output=${file}`);
    assert.deepEqual([own.status, own.stdout], [0, `${file}\n`], own.stderr);
    const merged = join(folder, "merged");
    const { status, stderr } = await task(
      "merge",
      `${GOLDEN}/untied`,
      `--adapter=${adapter}`,
      `--output_dir=${merged}`,
    );
    assert.equal(status, 0, stderr);
    await exportGguf({ folder: merged }, whole, undefined);
    const [found, expected] = [await readBack(file), await readBack(whole)];
    assert.deepEqual(found.tensors, expected.tensors);
    assert.equal(found.metadata["general.name"], "lora");
  }));

Deno.test("q8_0 has the bytes of llama.cpp's package", () => {
  const { numbers, bytes } = golden.q8_0;
  assertEqualBytes(
    toGgml(Float32Array.from(numbers), "q8_0"),
    Uint8Array.from(bytes.match(/../g)!, (hex) => parseInt(hex, 16)),
  );
});

Deno.test("a byte-level tokenizer's way to split is told by its expression", () => {
  const split = (Regex: string, behavior = "Isolated") => ({ type: "Split", pattern: { Regex }, behavior });
  const sequence = (...pretokenizers: object[]) => ({ type: "Sequence", pretokenizers });
  const bytes = { type: "ByteLevel", add_prefix_space: false, use_regex: false };
  const digits = { type: "Digits", individual_digits: true };
  const llama3 = String
    .raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
  const gpt2 = { ...bytes, use_regex: true };
  assert.equal(preTokenizerName(gpt2, false), "gpt-2");
  assert.equal(preTokenizerName(sequence(digits, gpt2), false), "smollm");
  assert.equal(preTokenizerName(sequence(split(llama3), bytes), true), "llama-bpe");
  assert.equal(preTokenizerName(sequence(split(llama3), bytes), false), "dbrx");
  assert.equal(preTokenizerName(sequence(split(llama3.replace("{1,3}", "")), bytes), false), "qwen2");
  for (
    const other of [
      sequence(split(llama3.replace("{1,3}", "{1,2}")), bytes),
      sequence(split(llama3, "Removed"), bytes),
      sequence({ type: "Punctuation" }, gpt2),
      { ...gpt2, add_prefix_space: true },
      null,
    ]
  ) {
    assert.equal(preTokenizerName(other, false), undefined);
  }
});

/** A SentencePiece tokenizer as tokenizer.json has it. */
function table(merges: string[], parts: Record<string, unknown> = {}): TokenTable {
  const texts = ["<unk>", "<s>", "<0x41>", "▁", "a", "b", "ab", "▁ab", "<x>"];
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  const added = (content: string, special: boolean) => ({ content, special, ...flags });
  return {
    path: "tokenizer.json",
    json: {
      normalizer: {
        type: "Sequence",
        normalizers: [{ type: "Prepend", prepend: "▁" }, {
          type: "Replace",
          pattern: { String: " " },
          content: "▁",
        }],
      },
      pre_tokenizer: null,
      model: { type: "BPE", merges },
      ...parts,
    },
    tokens: new Map(texts.map((text, id) => [id, {
      text,
      ...(id < 2 && { added: added(text, true) }),
      ...(text === "<x>" && { added: added(text, false) }),
    }])),
    idOf: (name) => ({ unk_token: 0, bos_token: 1 })[name],
    frame: { before: [1], after: [] },
  };
}

Deno.test("a SentencePiece tokenizer has kinds, and scores in the order of its merges", () => {
  const metadata = vocabularyOf(table(["a b", "▁ ab"]), 11);
  const value = (key: string) => metadata.get(`tokenizer.ggml.${key}`)?.value;
  assert.equal(value("model"), "llama");
  assert.deepEqual((value("tokens") as string[]).slice(8), ["<x>", "[PAD9]", "[PAD10]"]);
  assert.deepEqual(value("token_type"), [2, 3, 6, 1, 1, 1, 1, 1, 4, 5, 5]);
  const scores = value("scores") as number[];
  assert.ok(scores[6] > scores[7] && scores[7] > scores[4]);
  assert.deepEqual([value("add_space_prefix"), value("add_bos_token"), value("add_eos_token")], [
    true,
    true,
    false,
  ]);
  assert.deepEqual([value("bos_token_id"), value("unknown_token_id")], [1, 0]);
});

Deno.test("what llama.cpp has no equal of is refused by name", async () => {
  const refused = (of: TokenTable, says: RegExp, rows = 11) =>
    assert.throws(() => vocabularyOf(of, rows), { name: "UserError", message: says });
  refused(table(["▁ ab"], { model: { type: "Unigram" } }), /tokenizer of type "Unigram"/);
  refused(
    table(["a b", "▁ ab"], { normalizer: { type: "Lowercase" } }),
    /pre_tokenizer: .*how the text is split|normalizer "Lowercase"/,
  );
  refused(table(["▁ ab"]), /a lack of merges to "ab"/);
  refused(table(["a b", "▁ ab"]), /id 8, and the model's embedding only 8 rows/, 8);
  refused({ ...table(["a b", "▁ ab"]), frame: { before: [5], after: [] } }, /ids 5 around a text/);
  await assert.rejects(
    exportGguf({ folder: "tests/golden/models/persimmon" }, "nowhere.gguf", "f32"),
    /model_type persimmon cannot be exported to GGUF; those that can: llama, /,
  );
  await assert.rejects(
    exportGguf({ folder: "tests/golden/models/gemma2" }, "nowhere.gguf", "f32"),
    /gemma2 has no equal of what config.json says:\n {2}query_pre_attn_scalar: 7/,
  );
  await assert.rejects(
    exportGguf({ folder: "tests/golden/models/llama-yarn" }, "nowhere.gguf", "f32"),
    /hidden_act: gelu/,
  );
});

Deno.test("simper export writes a whole file or none, and prints its name", () =>
  withTemporaryFolder(async (folder) => {
    const file = join(folder, "a.gguf");
    const done = await task("export", `${GOLDEN}/untied`, "--type=q8_0", `--output=${file}`);
    assert.deepEqual([done.status, done.stdout], [0, `${file}\n`], done.stderr);
    assert.match(done.stderr, /^warning: .* 16 matrices are in f16: their rows are no multiples of 32$/m);
    const words = await task(
      "export",
      `${GOLDEN}/untied`,
      "--type=q4_0",
      "--output=model.safetensors",
      "--format=onnx",
    );
    assert.deepEqual([words.status, words.stdout], [2, ""]);
    for (
      const says of [
        /--type: expected one of f32, f16, bf16, q8_0, found q4_0/,
        /--output: expected a name that ends with .gguf/,
        /--format: expected gguf, found onnx/,
      ]
    ) {
      assert.match(words.stderr, says);
    }
    const model = await modelWith(folder, ({ name, values }) => {
      if (name === "lm_head.weight") values[7] = 1e6;
    });
    const large = await task(
      "export",
      model,
      "--type=f16",
      "--log_level=error",
      `--output=${join(folder, "b.gguf")}`,
    );
    assert.deepEqual([large.status, large.stdout], [1, ""]);
    assert.match(
      large.stderr,
      /lm_head.weight has a number that is too large for f16: take --type=bf16 or f32\n$/,
    );
    assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), ["a.gguf", "model"]);
  }));
