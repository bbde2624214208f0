import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { chatRenderer } from "../../lib/tokenizer/chat_template.ts";
import { parseJson } from "../../lib/data/python_json.ts";
import { strftime } from "../../lib/tokenizer/jinja/strftime.ts";

/** Made by tests/golden/templates.py. */
const GOLDEN = parseJson(
  readFileSync(new URL("../golden/templates.json", import.meta.url), "utf8"),
) as {
  messages: { role: string }[];
  dates: [[number, number, number, number, number, number], [string, string][]][];
  cases: [string, string | null][];
};
/** What Python renders and the engine refuses by name; whatever comes to it must be thought of. */
const REFUSED = /not supported here|No filter named|not subscriptable by a slice|slice indices must be/;

Deno.test("templates of one feature each give Python's text, or are refused as Python does", () => {
  let refused = 0;
  for (const [template, expected] of GOLDEN.cases) {
    const render = () =>
      chatRenderer(template, { bos_token: "<s>", eos_token: "</s>" }, "model")(GOLDEN.messages);
    if (expected === null) {
      assert.throws(render, { name: "UserError" }, template);
      continue;
    }
    try {
      assert.equal(render(), expected, template);
    } catch (error) {
      if ((error as Error).name !== "UserError" || !REFUSED.test((error as Error).message)) throw error;
      refused++;
    }
  }
  assert.ok(GOLDEN.cases.length > 1000 && refused < 30, `${refused} are refused`);
});

Deno.test("strftime() writes what Python's does on Linux", () => {
  for (const [[year, month, ...rest], texts] of GOLDEN.dates) {
    const date = new Date(year, month - 1, ...rest);
    for (const [format, text] of texts) assert.equal(strftime(date, format), text, format);
  }
});
