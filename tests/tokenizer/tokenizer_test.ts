import assert from "node:assert/strict";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const GOLDEN = new URL("../golden/data/", import.meta.url).pathname;
const HELLO = [{ role: "user", content: "Hello" }];

/** A copy of the golden tokenizer, without its chat template, with changes to its configuration. */
async function withTokenizer(
  changes: Record<string, unknown>,
  body: (folder: string) => Promise<void>,
): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    await cp(join(GOLDEN, "tokenizer"), folder, { recursive: true });
    await rm(join(folder, "chat_template.jinja"));
    const path = join(folder, "tokenizer_config.json");
    await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), ...changes }));
    await body(folder);
  });
}

const rejects = (promise: Promise<unknown>, message: RegExp) =>
  assert.rejects(promise, { name: "UserError", message });

Deno.test("encode() gives the ids of transformers for white space, numbers and scripts of every kind", async () => {
  const texts = JSON.parse(await readFile(join(GOLDEN, "texts.json"), "utf8"));
  for (const name of ["tokenizer", "digits"]) {
    const { encode } = await loadTokenizer(join(GOLDEN, name));
    for (const golden of texts) assert.equal(encode(golden.text).join(" "), golden[name], golden.text);
  }
});

Deno.test("decode() gives the text back, and leaves special tokens out on demand", async () => {
  const tokenizer = await loadTokenizer(join(GOLDEN, "tokenizer"));
  const text = "<|im_start|>It 's , well , 日本 ½ 👨‍👩‍👧 .<|im_end|>";
  const ids = tokenizer.encode(text);
  assert.equal(tokenizer.decode(ids), text);
  assert.equal(
    tokenizer.decode(new Set(tokenizer.encode("<|im_start|>ab")), { skipSpecialTokens: true }),
    "ab",
  );
  assert.equal(tokenizer.decode([]), "");
});

Deno.test("loadTokenizer() reads the special tokens and the size of the vocabulary", async () => {
  const tokenizer = await loadTokenizer(join(GOLDEN, "tokenizer"));
  assert.deepEqual(
    [tokenizer.bosToken, tokenizer.bosTokenId, tokenizer.eosToken, tokenizer.eosTokenId, tokenizer.vocabSize],
    ["<|endoftext|>", 0, "<|im_end|>", 2, 415],
  );
});

Deno.test("special tokens may be objects, null, or in transformers 4's special_tokens_map.json", async () => {
  await withTokenizer({ bos_token: null, eos_token: { content: "<|pad|>" } }, async (folder) => {
    const tokenizer = await loadTokenizer(folder);
    assert.deepEqual([tokenizer.bosToken, tokenizer.bosTokenId], [undefined, undefined]);
    assert.deepEqual([tokenizer.eosToken, tokenizer.eosTokenId], ["<|pad|>", 3]);
    await writeFile(join(folder, "special_tokens_map.json"), '{"eos_token": {"content": "<|im_end|>"}}');
    assert.equal((await loadTokenizer(folder)).eosTokenId, 2);
  });
  await withTokenizer({ added_tokens_decoder: {} }, async (folder) => {
    await writeFile(join(folder, "special_tokens_map.json"), '{"eos_token": "<|pad|>"}');
    assert.equal((await loadTokenizer(folder)).eosTokenId, 2);
  });
});

Deno.test("a token that only the configuration names is added behind all others, as transformers does", async () => {
  await withTokenizer({ bos_token: "<s>" }, async (folder) => {
    const tokenizer = await loadTokenizer(folder);
    assert.deepEqual([tokenizer.bosTokenId, tokenizer.vocabSize], [415, 416]);
    assert.deepEqual(tokenizer.encode("<s>"), [415]);
  });
});

Deno.test("a chat template comes from the caller, else chat_template.jinja, else the configuration", async () => {
  const named = [{ name: "tool_use", template: "tool" }, { name: "default", template: "listed" }];
  await withTokenizer({ chat_template: named }, async (folder) => {
    assert.equal((await loadTokenizer(folder)).applyChatTemplate(HELLO), "listed");
    await writeFile(join(folder, "chat_template.jinja"), "file\n");
    assert.equal((await loadTokenizer(folder)).applyChatTemplate(HELLO), "file");
    assert.equal((await loadTokenizer(folder, { chatTemplate: "own" })).applyChatTemplate(HELLO), "own");
  });
  await withTokenizer({ chat_template: "config" }, async (folder) => {
    assert.equal((await loadTokenizer(folder)).applyChatTemplate(HELLO), "config");
  });
});

Deno.test("a conversation with tools takes the model's template for them, as transformers does", async () => {
  const named = [{ name: "tool_use", template: "tool" }, { name: "default", template: "listed" }];
  const texts = async (folder: string, chatTemplate?: string) => {
    const { applyChatTemplate } = await loadTokenizer(folder, { chatTemplate });
    return [undefined, null, [], [{ name: "f" }]].map((tools) => applyChatTemplate(HELLO, { tools }));
  };
  await withTokenizer({ chat_template: named }, async (folder) => {
    assert.deepEqual(await texts(folder), ["listed", "listed", "tool", "tool"]);
    const before = (await loadTokenizer(folder)).fingerprint;
    assert.deepEqual(await texts(folder, "own"), ["own", "own", "own", "own"]);
    await mkdir(join(folder, "additional_chat_templates"));
    await writeFile(join(folder, "additional_chat_templates", "tool_use.jinja"), "tool file");
    await writeFile(join(folder, "chat_template.jinja"), "file");
    assert.deepEqual(await texts(folder), ["file", "file", "tool file", "tool file"]);
    assert.notEqual((await loadTokenizer(folder)).fingerprint, before);
    await rm(join(folder, "additional_chat_templates"), { recursive: true });
    assert.deepEqual(await texts(folder), ["file", "file", "file", "file"]);
  });
});

Deno.test("a chat template trims its blocks and sees what transformers gives it", async () => {
  const template = `  {% if tools is none and documents is none %}
{{ bos_token + eos_token + pad_token + ('?' if unk_token is defined else '-') }}
  {%- endif %}
  {# nothing #}
{% if add_generation_prompt %}|{{ strftime_now("%Y") | length }}{% endif %}
`;
  await withTokenizer({ chat_template: template }, async (folder) => {
    const tokenizer = await loadTokenizer(folder);
    assert.equal(tokenizer.applyChatTemplate(HELLO), "<|endoftext|><|im_end|><|pad|>-");
    assert.equal(
      tokenizer.applyChatTemplate(HELLO, { addGenerationPrompt: true }),
      "<|endoftext|><|im_end|><|pad|>-|4",
    );
  });
});

Deno.test("applyChatTemplate() says why there is no text", async () => {
  const refuse =
    "{% if messages[0].role != 'user' %}{{ raise_exception('must start with user') }}{% endif %}";
  const say = async (folder: string, roles: string[], chatTemplate?: string) => {
    const tokenizer = await loadTokenizer(folder, { chatTemplate });
    return tokenizer.applyChatTemplate(roles.map((role) => ({ role, content: "" })));
  };
  await withTokenizer({}, async (folder) => {
    await rejects(
      say(folder, ["assistant", "user"], refuse),
      /roles assistant, user, first at message 1 \(assistant\), in its line 1: must start with user/,
    );
    await rejects(say(folder, ["user"], "{% for %}"), /chat template is not valid Jinja/);
    await rejects(say(folder, [], refuse), /at least one message/);
    await rejects(say(folder, ["user"]), /has no chat template.*expected chat_template\.jinja/);
  });
});

Deno.test("loadTokenizer() names the file that is missing or broken", async () => {
  await withTokenizer({}, async (folder) => {
    await writeFile(join(folder, "tokenizer_config.json"), "{");
    await rejects(loadTokenizer(folder), /tokenizer_config\.json: not JSON/);
    await rm(join(folder, "tokenizer_config.json"));
    await rejects(loadTokenizer(folder), /tokenizer_config\.json: expected .* found no such file/);
    await writeFile(join(folder, "tokenizer.json"), '{"model": {"type": "Abacus"}}');
    await writeFile(join(folder, "tokenizer_config.json"), "{}");
    await rejects(loadTokenizer(folder), /tokenizer\.json: model: the model "Abacus" is not supported/);
    await writeFile(join(folder, "tokenizer.json"), "[]");
    await rejects(loadTokenizer(folder), /tokenizer\.json: expected a JSON object, found \[\]/);
    await rm(join(folder, "tokenizer.json"));
    await rejects(
      loadTokenizer(folder),
      /tokenizer\.json: expected the model's tokenizer, found no such file/,
    );
  });
  await withTokenizer({ eos_token: 7 }, async (folder) => {
    await rejects(loadTokenizer(folder), /eos_token: expected text or an object with "content", found 7/);
  });
  await withTokenizer({ chat_template: [{ name: "rag", template: "" }] }, async (folder) => {
    await rejects(loadTokenizer(folder), /template named "default", found the names "rag"/);
  });
});

Deno.test("encode() refuses half of a surrogate pair, which is no Unicode text", async () => {
  const { encode } = await loadTokenizer(join(GOLDEN, "tokenizer"));
  assert.throws(() => encode("\ud83d"), { name: "UserError", message: /half of a surrogate pair/ });
});
