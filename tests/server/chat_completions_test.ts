/** `/v1/chat/completions`. */
import assert from "node:assert/strict";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { served } from "./served.ts";

const { encode } = await loadTokenizer("configs/tiny/model");
const messages = [{ role: "user", content: "Hello" }];
const says = [...encode("Rome is é."), 2];

Deno.test("a conversation is answered through the chat template", () =>
  served(async ({ ask, tokenizer, generator }) => {
    // As AlpacaEval and FastChat's gen_api_answer ask.
    const found = await ask("/v1/chat/completions", {
      model: "tiny",
      messages,
      n: 1,
      temperature: 0,
      max_tokens: 64,
    });
    assert.equal(found.object, "chat.completion");
    assert.deepEqual(found.choices, [{
      index: 0,
      message: { role: "assistant", content: "Rome is é.", refusal: null },
      logprobs: null,
      finish_reason: "stop",
    }]);
    const ids = await tokenizer.promptIds(messages);
    assert.deepEqual(generator.requests[0].ids, ids);
    const [prompt_tokens, completion_tokens] = [ids.length, says.length];
    assert.deepEqual(found.usage, {
      prompt_tokens,
      completion_tokens,
      total_tokens: prompt_tokens + completion_tokens,
    });
    // Without a bound the context is one.
    await ask("/v1/chat/completions", { messages, temperature: 0 });
    assert.equal(generator.requests[1].maxNewTokens, 256 - ids.length);
    await ask("/v1/chat/completions", { messages, temperature: 0, max_completion_tokens: 3, max_tokens: 9 });
    assert.equal(generator.requests[2].maxNewTokens, 3);
  }, { says }));

Deno.test("a chat's stream joins to the whole, with its figures", () =>
  served(async ({ ask, events }) => {
    const body = { messages, temperature: 0, logprobs: true, top_logprobs: 2, n: 2, seed: 3 };
    const whole = await ask("/v1/chat/completions", body);
    const told = await events("/v1/chat/completions", { ...body, stream_options: { include_usage: true } });
    assert.ok(told.every(({ object }) => object === "chat.completion.chunk"));
    assert.deepEqual(told.pop().usage, whole.usage);
    for (const { index, message, logprobs, finish_reason } of whole.choices) {
      const parts = told.flatMap((event) => event.choices).filter((choice) => choice.index === index);
      assert.deepEqual(parts[0].delta, { role: "assistant", content: "" });
      assert.equal(parts.map(({ delta }) => delta.content ?? "").join(""), message.content);
      assert.equal(parts.at(-1).finish_reason, finish_reason);
      assert.deepEqual(parts.flatMap((part) => part.logprobs?.content ?? []), logprobs.content);
      const { content } = logprobs;
      assert.equal(content.length, says.length);
      assert.equal(content.at(-1).token, "<|im_end|>");
      for (const { token, logprob, bytes, top_logprobs } of content) {
        assert.equal(top_logprobs.length, 2);
        assert.equal(logprob, top_logprobs[0].logprob);
        // Of a character in parts no part has bytes of UTF-8.
        if (token.includes("\ufffd")) assert.equal(bytes, null);
        else assert.equal(new TextDecoder().decode(Uint8Array.from(bytes)), token);
      }
    }
  }, { says }));

Deno.test("a system message goes to the user's where the template has none, and only there", async () => {
  const user = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
  const leavesOut = user.replace(
    "{{ m.role",
    "{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.role",
  );
  const refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + user;
  const asked = [{ role: "system", content: "Be brief." }, { role: "user", content: "Hi" }];
  for (
    const [chatTemplate, text] of [
      [user, "system: Be brief.\nuser: Hi\n"],
      [leavesOut, "user: Be brief.\n\nHi\n"],
      [refuses, "user: Be brief.\n\nHi\n"],
    ]
  ) {
    await served(
      async ({ ask, generator, tokenizer }) => {
        for (const role of ["system", "developer"]) {
          await ask("/v1/chat/completions", { messages: [{ ...asked[0], role }, asked[1]], max_tokens: 1 });
          const [found] = await tokenizer.texts([[...generator.requests.at(-1)!.ids]], "prompt");
          assert.equal(found, text);
        }
      },
      {},
      { chatTemplate },
    );
  }
});

Deno.test("stops end a chat's answer where they begin, across tokens", () =>
  served(async ({ ask, events }) => {
    for (const [stop, content] of [["me", "Ro"], [["s é", "zzz"], "Rome i"], [".!", "Rome is é."]]) {
      const body = { messages, temperature: 0, stop };
      const [choice] = (await ask("/v1/chat/completions", body)).choices;
      assert.equal(choice.message.content, content);
      assert.equal(choice.finish_reason, "stop");
      const told = await events("/v1/chat/completions", body);
      assert.equal(told.map((event) => event.choices[0].delta.content ?? "").join(""), content);
    }
  }, { says }));
