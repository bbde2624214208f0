import assert from "node:assert/strict";
import { beginningIds } from "../../lib/evaluation/text.ts";

Deno.test("a text begins with the special tokens that the tokenizer puts there by itself", () => {
  const sequence = { Sequence: { id: "A", type_id: 0 } };
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const template = {
    type: "TemplateProcessing",
    single: [special("<s>"), sequence, special("</s>")],
    special_tokens: { "<s>": { id: "<s>", ids: [1] }, "</s>": { id: "</s>", ids: [2] } },
  };
  assert.deepEqual(beginningIds({ post_processor: template }), [1]);
  // As Llama 3's.
  const both = { type: "Sequence", processors: [{ type: "ByteLevel" }, template] };
  assert.deepEqual(beginningIds({ post_processor: both }), [1]);
  assert.deepEqual(
    beginningIds({ post_processor: { ...template, single: [sequence, special("</s>")] } }),
    [],
  );
  for (const other of [null, undefined, 3, [], { type: "ByteLevel" }, { ...template, single: [null, "x"] }]) {
    assert.deepEqual(beginningIds({ post_processor: other }), []);
  }
});
