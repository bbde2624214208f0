/**
 * Special tokens around a text: ids that transformers 5.17 gives (`tok("Hi")`) for tests/golden/data/tokenizer with
 * these changes.
 */
import assert from "node:assert/strict";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const SOURCE = "tests/golden/data/tokenizer";
const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
const begins = {
  type: "TemplateProcessing",
  single: [special("<|endoftext|>"), { Sequence: { id: "A", type_id: 0 } }],
  pair: [],
  special_tokens: {
    "<|endoftext|>": { id: "<|endoftext|>", ids: [0], tokens: ["<|endoftext|>"] },
    "<|im_end|>": { id: "<|im_end|>", ids: [2], tokens: ["<|im_end|>"] },
  },
};
const frames = { ...begins, single: [...begins.single, special("<|im_end|>")] };
const bytes = { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true };

const CASES: [name: string, postProcessor: unknown, config: object, ids: number[]][] = [
  ["none", null, {}, [43, 76]],
  ["a template", frames, {}, [0, 43, 76, 2]],
  ["as Llama 3 has it", { type: "Sequence", processors: [bytes, begins] }, {}, [0, 43, 76]],
  ["two templates", { type: "Sequence", processors: [begins, frames] }, {}, [0, 43, 76]],
  ["a configuration that wants none", frames, { add_bos_token: false }, [0, 43, 76, 2]],
  ["a configuration that wants them", null, { add_bos_token: true, add_eos_token: true }, [43, 76]],
  ["bytes", bytes, { add_bos_token: true }, [43, 76]],
  ["a class that is made anew", frames, { tokenizer_class: "LlamaTokenizer" }, [0, 43, 76, 2]],
];

Deno.test("special tokens are added as transformers adds them, where that is asked for", () =>
  withTemporaryFolder(async (folder) => {
    for (const [i, [name, post_processor, more, ids]] of CASES.entries()) {
      const copy = join(folder, String(i));
      await cp(SOURCE, copy, { recursive: true });
      for (
        const [file, changes] of [["tokenizer", { post_processor }], ["tokenizer_config", more]] as const
      ) {
        const path = join(copy, `${file}.json`);
        await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), ...changes }));
      }
      const { encode } = await loadTokenizer(copy);
      assert.deepEqual(encode("Hi", { addSpecialTokens: true }), ids, name);
      assert.deepEqual(encode("Hi"), [43, 76], name);
    }
  }));

Deno.test("a post-processor that is not known hinders nobody who adds no tokens", () =>
  withTemporaryFolder(async (folder) => {
    await cp(SOURCE, folder, { recursive: true });
    const path = join(folder, "tokenizer.json");
    const json = JSON.parse(await readFile(path, "utf8"));
    await writeFile(path, JSON.stringify({ ...json, post_processor: { type: "Other" } }));
    const { encode } = await loadTokenizer(folder);
    assert.deepEqual(encode("Hi"), [43, 76]);
    assert.throws(
      () => encode("Hi", { addSpecialTokens: true }),
      /post_processor\.type: "Other" is not supported/,
    );
  }));
