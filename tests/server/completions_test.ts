/** `/v1/completions`, and the tokenizer's endpoints. */
import assert from "node:assert/strict";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { served } from "./served.ts";

const { encode } = await loadTokenizer("configs/tiny/model");
/** The tokens of some texts, one after the other. */
const idsOf = (...texts: string[]) => texts.flatMap((text) => encode(text));

const greedy = { temperature: 0 };

Deno.test("a prompt may be a text, some, tokens, or lists of them", () =>
  served(async ({ ask, tokenizer }) => {
    const texts = ["What is the capital of Italy?", "Hello"];
    const lists = await tokenizer.idsOf(texts, "");
    const whole = await ask("/v1/completions", { prompt: texts, max_tokens: 4, ...greedy });
    assert.equal(whole.object, "text_completion");
    assert.equal(whole.model, "tiny");
    assert.deepEqual(whole.choices.map(({ index }: { index: number }) => index), [0, 1]);
    const prompt_tokens = lists[0].length + lists[1].length;
    assert.deepEqual(whole.usage, { prompt_tokens, completion_tokens: 8, total_tokens: prompt_tokens + 8 });
    assert.deepEqual(
      (await ask("/v1/completions", { prompt: lists, max_tokens: 4, ...greedy })).choices,
      whole.choices,
    );
    for (const prompt of [texts[1], lists[1]]) {
      const [choice] = (await ask("/v1/completions", { prompt, max_tokens: 4, ...greedy })).choices;
      assert.deepEqual({ ...choice, index: 1 }, whole.choices[1]);
    }
    assert.equal(whole.choices[0].finish_reason, "length");
    assert.equal(whole.choices[0].logprobs, null);
    // OpenAI's default.
    assert.equal((await ask("/v1/completions", { prompt: "Hello", ...greedy })).usage.completion_tokens, 16);
  }));

Deno.test("lm-evaluation-harness's requests for log-probabilities get what it reads", () =>
  served(async ({ ask, tokenizer, generator }) => {
    const context = await tokenizer.idsOf(["The capital of Italy is", "What is"], "");
    const rows = [[...context[0], 300, 301, 302], [...context[1], 400]];
    const { choices } = await ask("/v1/completions", {
      model: "tiny",
      prompt: rows,
      temperature: 0,
      max_tokens: 1,
      logprobs: 1,
      seed: 1234,
      echo: true,
    });
    for (const [i, { index, logprobs }] of choices.entries()) {
      assert.equal(index, i);
      const { tokens, token_logprobs, top_logprobs, text_offset } = logprobs;
      for (const list of [tokens, token_logprobs, top_logprobs, text_offset]) {
        assert.equal(list.length, rows[i].length + 1);
      }
      assert.equal(token_logprobs[0], null);
      assert.equal(top_logprobs[0], null);
      const [from, to] = [context[i].length, -1];
      assert.equal(token_logprobs.slice(from, to).length, rows[i].length - context[i].length);
      for (const [j, top] of top_logprobs.slice(1).entries()) {
        const value = token_logprobs[j + 1];
        const most = Math.max(...Object.values(top) as number[]);
        assert.ok(value <= most && Object.values(top).includes(value));
      }
      // The token that was made is the likeliest one.
      assert.equal(token_logprobs.at(-1), Math.max(...Object.values(top_logprobs.at(-1)) as number[]));
    }
    const [text] = await tokenizer.texts([rows[0]], "row");
    assert.ok(choices[0].text.startsWith(text));
    assert.equal(choices[0].logprobs.tokens.join(""), choices[0].text);
    // A row of greedy tokens is greedy: the harness compares the figures for equality.
    const likely: number[] = [];
    for await (
      const { id } of generator.tokens({
        ...generator.requests[0],
        ids: context[0],
        maxNewTokens: 3,
        echo: false,
      })
    ) {
      likely.push(id);
    }
    const again = await ask("/v1/completions", {
      prompt: [[...context[0], ...likely]],
      max_tokens: 1,
      logprobs: 1,
      echo: true,
      ...greedy,
    });
    const { token_logprobs, top_logprobs } = again.choices[0].logprobs;
    token_logprobs.slice(context[0].length, -1).forEach((value: number, i: number) => {
      assert.equal(value, Math.max(...Object.values(top_logprobs[context[0].length + i]) as number[]));
    });
  }));

Deno.test("the end token is told with its figure, and is no text", () =>
  served(async ({ ask }) => {
    const { choices, usage } = await ask("/v1/completions", {
      prompt: "Hello",
      max_tokens: 9,
      logprobs: 2,
      ...greedy,
    });
    assert.equal(choices[0].finish_reason, "stop");
    assert.equal(choices[0].text, "Yes");
    assert.equal(choices[0].logprobs.tokens.join(""), "Yes<|im_end|>");
    assert.equal(usage.completion_tokens, idsOf("Yes").length + 1);
  }, { says: [...idsOf("Yes"), 2] }));

Deno.test("lm-evaluation-harness's requests for texts stop at its stops", () =>
  served(async ({ ask, generator, tokenizer }) => {
    const [ids] = await tokenizer.idsOf(["Hello"], "");
    const body = {
      prompt: [ids],
      model: "tiny",
      max_tokens: 32,
      temperature: 0,
      stop: ["</s>", "Q:", "Question:", "<|im_end|>", "\n\n"],
      seed: 1234,
      do_sample: false,
    };
    const { choices } = await ask("/v1/completions", body);
    assert.equal(choices[0].text, " one two");
    assert.equal(choices[0].finish_reason, "stop");
    // It was left as soon as the stop was there, which two tokens make.
    assert.equal(generator.load.running, 0);
    assert.deepEqual(generator.requests[0].sampling.seed, 1234);
  }, { says: idsOf(" one two", "Q", ":", " three") }));

Deno.test("tokens: 0 and 1, with and without the prompt", () =>
  served(async ({ ask, generator }) => {
    const none = await ask("/v1/completions", { prompt: "Hello", max_tokens: 0, echo: true });
    assert.deepEqual([none.choices[0].text, none.choices[0].finish_reason], ["Hello", "length"]);
    assert.equal(generator.requests.length, 0);
    const figures = await ask("/v1/completions", {
      prompt: "Hello there",
      max_tokens: 0,
      echo: true,
      logprobs: 0,
    });
    const { tokens, token_logprobs, top_logprobs } = figures.choices[0].logprobs;
    assert.equal(tokens.join(""), "Hello there");
    assert.deepEqual(top_logprobs[1], { [tokens[1]]: token_logprobs[1] });
    assert.equal(figures.usage.completion_tokens, 0);
    const one = await ask("/v1/completions", { prompt: "Hello", max_tokens: 1, echo: true, ...greedy });
    assert.ok(one.choices[0].text.startsWith("Hello") && one.choices[0].text.length > 5);
  }));

Deno.test("a stream joins to the whole, with its figures", () =>
  served(async ({ ask, events }) => {
    for (const more of [{}, { logprobs: 2 }, { logprobs: 1, echo: true, n: 2 }, { stop: ["e"] }]) {
      const body = { prompt: ["Hello there", "What"], max_tokens: 12, seed: 5, ...more };
      const whole = await ask("/v1/completions", body);
      const told = await events("/v1/completions", { ...body, stream_options: { include_usage: true } });
      const last = told.pop();
      assert.deepEqual([last.choices, last.usage], [[], whole.usage]);
      for (const { index, text, logprobs, finish_reason } of whole.choices) {
        const parts = told.flatMap((event) => event.choices).filter((choice) => choice.index === index);
        assert.ok(parts.length > 1);
        assert.equal(parts.map((part) => part.text).join(""), text);
        assert.equal(parts.at(-1).finish_reason, finish_reason);
        assert.ok(parts.slice(0, -1).every((part) => part.finish_reason === null));
        for (const key of Object.keys(logprobs ?? {})) {
          assert.deepEqual(parts.flatMap((part) => part.logprobs[key]), logprobs[key], key);
        }
      }
    }
    assert.ok(
      (await events("/v1/completions", { prompt: "Hi" })).every((event) => event.choices.length === 1),
    );
  }));

Deno.test("a stream splits no character", () =>
  served(async ({ events }) => {
    const told = await events("/v1/completions", { prompt: "Hello", max_tokens: 30, ...greedy });
    const pieces = told.map((event) => event.choices[0].text);
    assert.equal(pieces.join(""), "é日本👍");
    assert.ok(pieces.every((piece) => !piece.includes("\ufffd")), pieces.join("|"));
  }, { says: [...idsOf("é日本👍"), 2] }));

Deno.test("a seed gives the same choices, and others to each of n", () =>
  served(async ({ ask }) => {
    const texts = async (body: object) =>
      (await ask("/v1/completions", { prompt: "Hello", max_tokens: 8, ...body })).choices
        .map(({ text }: { text: string }) => text);
    const three = await texts({ n: 3, seed: 11 });
    assert.equal(new Set(three).size, 3);
    assert.deepEqual(await texts({ n: 3, seed: 11 }), three);
    assert.deepEqual(await texts({ n: 1, seed: 11 }), three.slice(0, 1));
    assert.notDeepEqual(await texts({}), await texts({}));
    await texts({ seed: -1 });
  }));

Deno.test("what a request does not say, generation_config.json says", async () => {
  await served(
    async ({ ask, generator }) => {
      await ask("/v1/completions", { prompt: "Hello", max_tokens: 1 });
      await ask("/v1/completions", {
        prompt: "Hello",
        max_tokens: 1,
        temperature: 0.5,
        top_p: 0.9,
        top_k: -1,
        min_p: 0.1,
        repetition_penalty: 1.1,
        presence_penalty: 0.2,
        frequency_penalty: 0.3,
        seed: 3,
      });
      const [first, second] = generator.requests.map(({ sampling }) => sampling);
      assert.deepEqual([first.temperature, first.topP, first.topK], [1, 0.8, 40]);
      assert.deepEqual(second, {
        temperature: 0.5,
        topP: 0.9,
        topK: 0,
        minP: 0.1,
        repetitionPenalty: 1.1,
        presencePenalty: 0.2,
        frequencyPenalty: 0.3,
        seed: 3,
      });
    },
    {},
    { sampling: { topP: 0.8, topK: 40 } },
  );
});

Deno.test("lm-evaluation-harness's remote tokenizer works", () =>
  served(async ({ ask, get, tokenizer }) => {
    const info = await (await get("/tokenizer_info")).json();
    assert.equal(info.eos_token, "<|im_end|>");
    assert.equal(info.bos_token, null);
    assert.match(info.chat_template, /im_start/);
    const text = "What is the capital of Italy?";
    const { tokens } = await ask("/tokenize", { prompt: text, add_special_tokens: false });
    assert.deepEqual([tokens], await tokenizer.idsOf([text], ""));
    assert.deepEqual(await ask("/detokenize", { tokens }), { prompt: text });
    // The id of the end token is asked for by its text.
    assert.deepEqual((await ask("/tokenize", { prompt: info.eos_token, add_special_tokens: false })).tokens, [
      2,
    ]);
    const messages = [{ role: "user", content: "Hi" }];
    assert.deepEqual((await ask("/tokenize", { messages })).tokens, await tokenizer.promptIds("Hi"));
  }));
