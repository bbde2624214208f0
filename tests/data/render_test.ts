import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { pairOf } from "../../lib/data/pair_of.ts";
import { readRows } from "../../lib/data/read.ts";
import { render, type RenderOptions } from "../../lib/data/render.ts";
import { loadTokenizer, type Tokenizer } from "../../lib/tokenizer/tokenizer.ts";
import type { Message } from "../../lib/tokenizer/chat_template.ts";

const FOLDER = "tests/golden/data/tokenizer";
const golden: {
  templates: Record<string, string>;
  rows: Record<string, unknown>[];
  calls: { template: string; parts: string[][] }[];
  rendered: { template: string; row: number; empty_system: boolean; parts: string[] | null }[];
} = JSON.parse(await readFile("tests/golden/chats/rendered.json", "utf8"));

const both: RenderOptions = { autoInsertEmptySystemMsg: false, usesRejected: true };
const rules = {
  ...both,
  vocabSize: 512,
  maxLength: 512,
  maxPromptLength: 256,
  truncationMode: "keep_end" as const,
};
const turn = (role: string, content: unknown, more = {}) => ({ role, content, ...more });
const [question, answer, other] = [turn("user", "Q?"), turn("assistant", "Yes."), turn("assistant", "No.")];
const PAIR = { chosen: [question, answer], rejected: [question, other] };

const withTemplate = (chatTemplate: string) => loadTokenizer(FOLDER, { chatTemplate });
const kindsOf = (row: Record<string, unknown>, tokenizer: Tokenizer, options = both) =>
  render(row, tokenizer, options).notices.map(({ kind, detail }) =>
    detail === undefined ? kind : `${kind}: ${detail}`
  );
const refuses = (run: () => unknown, message: RegExp) => assert.throws(run, { name: "UserError", message });

for (const [name, chatTemplate] of Object.entries(golden.templates)) {
  Deno.test(`prompt and responses are parted as Python's render_whole parts them: ${name}`, async () => {
    const tokenizer = await withTemplate(chatTemplate);
    for (const { row, empty_system, parts } of golden.rendered.filter(({ template }) => template === name)) {
      const run = () =>
        render(golden.rows[row], tokenizer, { ...both, autoInsertEmptySystemMsg: empty_system });
      const place = `row ${row}, ${empty_system}`;
      if (parts === null) assert.throws(run, { name: "UserError" }, place);
      else {
        const { prompt, chosen, rejected } = run();
        assert.deepEqual([prompt, chosen, rejected], parts, place);
      }
    }
  });
}

Deno.test("of Parquet a template sees null where datasets has it, and the row's tools", async () => {
  const rows = await Array.fromAsync(readRows("tests/golden/chats/calls.parquet"));
  for (const { template, parts } of golden.calls) {
    const tokenizer = await withTemplate(golden.templates[template]);
    const found = rows.map(({ row }) => {
      const { prompt, chosen, rejected } = render(row, tokenizer, {
        ...both,
        autoInsertEmptySystemMsg: true,
      });
      return [prompt, chosen, rejected];
    });
    assert.deepEqual(found, parts);
  }
});

Deno.test("no label is a system turn's, whatever a template puts before a conversation without one", async () => {
  for (const name of ["smollm2", "qwen2.5", "llama3.1", "cohere", "gemma"]) {
    const tokenizer = await withTemplate(golden.templates[name]);
    const { pair } = pairOf(PAIR, "a.jsonl:1", tokenizer, rules);
    for (const { ids, promptLength } of [pair.chosen, pair.rejected!]) {
      const [before, labels] = [ids.slice(0, promptLength), ids.slice(promptLength)].map((part) =>
        tokenizer.decode(part)
      );
      assert.equal(/system/i.test(before), name !== "gemma", before);
      assert.doesNotMatch(labels, /system|You are|Today/i);
      assert.match(labels, /Yes|No/);
      assert.equal(before.split(tokenizer.bosToken!).length, 2, "one BOS in front");
      assert.ok(!labels.includes(tokenizer.bosToken!));
    }
  }
});

Deno.test("label_generation_prompt: false leaves the header that a generation prompt writes to the prompt", async () => {
  const tokenizer = await withTemplate(golden.templates.smollm2);
  const parted = (options: Partial<RenderOptions>) => {
    const { prompt, chosen, rejected, notices } = render(PAIR, tokenizer, { ...both, ...options });
    assert.deepEqual(notices, []);
    return [prompt, chosen, rejected];
  };
  const header = "<|im_start|>assistant\n";
  const end = "<|im_end|>\n";
  assert.deepEqual(parted({}).slice(1), [`${header}Yes.${end}`, `${header}No.${end}`]);
  assert.deepEqual(parted({ labelGenerationPrompt: true }), parted({}));
  const [prompt, ...responses] = parted({ labelGenerationPrompt: false });
  assert.ok(prompt!.endsWith(`${end}${header}`));
  assert.deepEqual(responses, [`Yes.${end}`, `No.${end}`]);
});

Deno.test("where the whole does not begin with the prompt as asked for, the other rendering is taken and said", async () => {
  const [ends, r1] = await Promise.all(["ends", "r1"].map((name) => withTemplate(golden.templates[name])));
  const withHeader = render(PAIR, ends, both);
  assert.deepEqual(withHeader, {
    prompt: "[user]Q?[assistant]",
    chosen: "Yes.",
    rejected: "No.",
    notices: [{ kind: "otherHeader" }],
  });
  assert.deepEqual(kindsOf(PAIR, ends, { ...both, labelGenerationPrompt: false }), []);
  const withoutHeader = render(PAIR, r1, { ...both, labelGenerationPrompt: false });
  assert.equal(withoutHeader.chosen, `<|Assistant|>Yes.${r1.eosToken}`);
  assert.deepEqual(withoutHeader.notices, [{ kind: "otherHeader" }]);
  assert.deepEqual(kindsOf(PAIR, r1), []);
});

Deno.test("a template that renders the prompt otherwise when a response follows is refused with the row's place", async () => {
  const tokenizer = await withTemplate(golden.templates.last);
  refuses(
    () => pairOf(PAIR, "a.jsonl:7", tokenizer, rules),
    /^a\.jsonl:7: the chat template renders the prompt otherwise .* expected " last\]Q\?" after "\[user", found "\]Q\?/,
  );
});

Deno.test("a template that refuses the empty system message is told with the key that leaves it out", async () => {
  const tokenizer = await withTemplate(golden.templates.gemma);
  refuses(
    () => render(PAIR, tokenizer, { ...both, autoInsertEmptySystemMsg: true }),
    /System role not supported \(the first message is .*--auto_insert_empty_system_msg=false leaves out\)$/,
  );
});

Deno.test("content is text, a list of text parts, or absent beside tool calls; anything else is refused with its place", async () => {
  const tokenizer = await withTemplate(golden.templates.parts);
  const chosen = (message: unknown) => () =>
    render({ ...PAIR, chosen: [question, message] }, tokenizer, both);
  const image = [{ type: "text", text: "Look" }, { type: "image_url", image_url: { url: "x" } }];
  refuses(
    chosen(turn("assistant", image)),
    /^chosen\[1\]\.content\[1\]\.type: expected "text", found "image_url": /,
  );
  refuses(
    chosen(turn("assistant", [{ type: "text" }])),
    /^chosen\[1\]\.content\[0\]\.text: expected text, found nothing/,
  );
  refuses(
    chosen(turn("assistant", ["x"])),
    /^chosen\[1\]\.content\[0\]: expected a part such as .*, found "x"/,
  );
  refuses(chosen(turn("assistant", { text: "x" })), /^chosen\[1\]\.content: expected text, found an object/);
  for (const content of [null, undefined]) {
    refuses(
      chosen(turn("assistant", content)),
      /^chosen\[1\]\.content: expected text, found (null|nothing): only/,
    );
    refuses(chosen(turn("assistant", content, { tool_calls: [], name: "x" })), /content: expected text/);
  }
});

Deno.test("tools and documents are lists of objects, or JSON text of one", async () => {
  const tokenizer = await withTemplate(golden.templates.tools);
  const given = (columns: Record<string, unknown>) => () => render({ ...PAIR, ...columns }, tokenizer, both);
  refuses(given({ tools: "[" }), /^tools: expected a list, or JSON text of one: /);
  refuses(
    given({ tools: '{"name": "x"}' }),
    /^tools: expected a list of objects, or JSON text of one, found an object/,
  );
  refuses(given({ documents: ["x"] }), /^documents: expected a list of objects, .* found \["x"\]/);
  assert.deepEqual(given({ tools: null, documents: "null" })(), given({})());
});

Deno.test("an empty prompt and an empty response are noticed", async () => {
  const tokenizer = await withTemplate(golden.templates.tools);
  const empty = {
    chosen: [turn("user", " \n"), answer],
    rejected: [turn("user", " \n"), turn("assistant", "")],
  };
  assert.deepEqual(kindsOf(empty, tokenizer), ["emptyPrompt", "emptyResponse: rejected"]);
  const calls = { tool_calls: [{ function: { name: "f", arguments: { city: "Rome" } } }] };
  assert.deepEqual(kindsOf({ ...PAIR, rejected: [question, turn("assistant", null, calls)] }, tokenizer), []);
  assert.deepEqual(
    kindsOf({ prompt: "", chosen: "a", rejected: " " }, { ...tokenizer, chatTemplate: undefined }),
    [
      "emptyPrompt",
      "emptyResponse: rejected",
    ],
  );
});

Deno.test("texts that a template is there for are noticed, unless they become messages", async () => {
  const tokenizer = await withTemplate(golden.templates.smollm2);
  assert.deepEqual(kindsOf({ prompt: "a", chosen: "b", rejected: "c" }, tokenizer), ["withoutTemplate"]);
  const transcript = (answer: string) => `\n\nHuman: Q\n\nAssistant: ${answer}`;
  assert.deepEqual(kindsOf({ chosen: transcript("a"), rejected: transcript("b") }, tokenizer), []);
});

Deno.test("a system turn inside a response is noticed, and not one that a message quotes", async () => {
  const chatml = "{% for m in messages %}{% if m.role == 'assistant' %}REMINDER{% endif %}" +
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}";
  const reminder = "<|im_start|>system\nBe kind.<|im_end|>\n";
  const late = await withTemplate(chatml.replace("REMINDER", reminder));
  assert.deepEqual(kindsOf(PAIR, late), ["systemInResponse: chosen", "systemInResponse: rejected"]);
  const plain = await withTemplate(chatml.replace("REMINDER", ""));
  assert.deepEqual(kindsOf(PAIR, plain), []);
  assert.deepEqual(kindsOf({ ...PAIR, rejected: [question, turn("assistant", reminder)] }, plain), []);
  const own = { prompt: [question], chosen: [turn("system", "Be brief."), answer], rejected: [other] };
  assert.deepEqual(kindsOf(own, plain), ["systemInResponse: chosen"]);
  // What the published program makes of SmolLM2's template, rendering the response alone.
  const smollm2 = await withTemplate(golden.templates.smollm2);
  assert.match(smollm2.applyChatTemplate([answer as Message]), /system/);
});

Deno.test("a message that the template leaves out or changes is noticed with its place, even if its text stands elsewhere", async () => {
  const tokenizer = await withTemplate(golden.templates["qwen2.5"]);
  const history = [turn("user", "Is 2+2 4?"), turn("tool", " 4 ")];
  const row = { prompt: history, chosen: [answer], rejected: [other] };
  assert.deepEqual(kindsOf(row, tokenizer), [
    "droppedTurn: prompt[1], role tool",
    "droppedTurn: prompt[1], role tool",
  ]);
  const { notices } = pairOf(row, "a.jsonl:1", tokenizer, rules);
  assert.deepEqual(notices, [{ kind: "droppedTurn", detail: "prompt[1], role tool" }]);
  const r1 = await withTemplate(golden.templates.r1);
  const thinking = { ...PAIR, chosen: [question, turn("assistant", "<think>Hm.</think>Yes.")] };
  assert.deepEqual(kindsOf(thinking, r1), ["droppedTurn: chosen[1], role assistant"]);
  const trimming = await withTemplate(golden.templates["llama3.1"]);
  assert.deepEqual(
    kindsOf({ ...PAIR, chosen: [question, turn("assistant", "\u00a0 Yes. \x1f\u0085\n")] }, trimming),
    [],
  );
});

Deno.test("calls, tools and documents of which a template makes nothing are noticed", async () => {
  const calls = {
    tool_calls: [{ type: "function", function: { name: "clock", arguments: { city: "Rome" } } }],
  };
  const row = {
    ...PAIR,
    chosen: [question, turn("assistant", "A moment.", calls)],
    tools: [{ type: "function", function: { name: "weather", description: "Tells it" } }],
    documents: [{ title: "Rome", text: "A city" }],
  };
  assert.deepEqual(kindsOf(row, await withTemplate(golden.templates.tools)), []);
  assert.deepEqual(kindsOf(row, await withTemplate(golden.templates.smollm2)), [
    "droppedTurn: chosen[1], role assistant",
    "unusedColumn: tools",
    "unusedColumn: documents",
  ]);
  assert.deepEqual(
    kindsOf({ ...PAIR, tools: [], documents: null }, await withTemplate(golden.templates.smollm2)),
    [],
  );
});

Deno.test("a list of parts that is printed as such is noticed, and parts that are read are not", async () => {
  const row = { ...PAIR, chosen: [question, turn("assistant", [{ type: "text", text: "Yes." }])] };
  const printing = await withTemplate(
    "{% for m in messages %}[{{ m.role }}]{{ m.content | string }}{% endfor %}",
  );
  assert.deepEqual(kindsOf(row, printing), ["printedParts: chosen"]);
  assert.deepEqual(kindsOf(row, await withTemplate(golden.templates.parts)), []);
});

Deno.test("a response that ends with another special token than EOS is noticed, with the token", async () => {
  const ending = async (end: string, row: Record<string, unknown> = PAIR) => {
    const tokenizer = await withTemplate(
      `{% for m in messages %}[{{ m.role }}]{{ m.content }}${end}{% endfor %}`,
    );
    return pairOf(row, "a.jsonl:1", tokenizer, rules).notices;
  };
  assert.deepEqual(await ending("<|pad|>\n"), [{
    kind: "otherEnd",
    detail: "<|pad|>",
  }]);
  assert.deepEqual(await ending("<|im_end|>\n"), []);
  assert.deepEqual(await ending(" "), []);
  assert.deepEqual(await ending("", { ...PAIR, chosen: [question, turn("assistant", "🙂".repeat(40))] }), []);
});

Deno.test("messages before rejected's last one that are not chosen's are noticed, since they are not read", async () => {
  const tokenizer = await withTemplate(golden.templates.smollm2);
  const row = { ...PAIR, rejected: [turn("user", "Another?"), other] };
  assert.deepEqual(kindsOf(row, tokenizer), ["otherPrompt"]);
  assert.deepEqual(kindsOf({ ...PAIR, rejected: [other] }, tokenizer), []);
});
