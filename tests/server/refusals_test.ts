/** What the server does not do, and whom it does not answer. */
import assert from "node:assert/strict";
import { served } from "./served.ts";

const chat = "/v1/chat/completions";
const messages = [{ role: "user", content: "Hello" }];
const deep = `{"prompt": ${"[".repeat(1e5)}${"]".repeat(1e5)}}`;

/** Endpoint, body, status, what the message says, and the field or code that the error names. */
const WRONG: [string, unknown, number, RegExp, string | null][] = [
  ["/v1/completions", "{", 400, /expected a body of JSON: /, "invalid_json"],
  ["/v1/completions", deep, 400, /more than 256 levels/, "invalid_json"],
  ["/v1/completions", "[]", 400, /expected an object of JSON, found \[\]/, null],
  ["/v1/completions", "", 400, /expected a body of JSON/, "invalid_json"],
  ["/v1/completions", {}, 400, /prompt: expected a text, token ids, or a list .*found nothing/, "prompt"],
  ["/v1/completions", { prompt: "" }, 400, /the prompt is empty/, "prompt"],
  ["/v1/completions", { prompt: [] }, 400, /found \[\]/, "prompt"],
  ["/v1/completions", { prompt: [[]] }, 400, /the prompt is empty/, "prompt"],
  ["/v1/completions", { prompt: [1, "a"] }, 400, /found \[1, "a"\]/, "prompt"],
  ["/v1/completions", { prompt: "\ud800" }, 400, /half of a surrogate pair/, "prompt"],
  ["/v1/completions", { prompt: [1008] }, 400, /token ids from 0 to 1007, found 1008/, "prompt"],
  ["/v1/completions", { prompt: [[1, -1]] }, 400, /found -1/, "prompt"],
  ["/v1/completions", { prompt: [1.5] }, 400, /found 1\.5/, "prompt"],
  [
    "/v1/completions",
    { prompt: Array(257).fill(5) },
    400,
    /has 256 tokens, and 273 tokens.* 257 of/,
    "prompt",
  ],
  ["/v1/completions", { prompt: [5], max_tokens: 256 }, 400, /has 256 tokens, and 257 tokens/, "prompt"],
  [
    "/v1/completions",
    { prompt: "x".repeat(1e5) },
    400,
    /has 256 tokens, and the prompt has 100000 ch/,
    "prompt",
  ],
  ["/v1/completions", { prompt: "a", max_tokens: -1 }, 400, /max_tokens: expected .*found -1/, "max_tokens"],
  ["/v1/completions", { prompt: "a", max_tokens: 1.5 }, 400, /max_tokens: .*found 1\.5/, "max_tokens"],
  ["/v1/completions", { prompt: "a", n: 129 }, 400, /n: expected .*128, found 129/, "n"],
  ["/v1/completions", { prompt: "a", n: 0 }, 400, /n: .*found 0/, "n"],
  ["/v1/completions", { prompt: Array(100).fill("a"), n: 100 }, 400, /at most 2048 choices/, null],
  ["/v1/completions", { prompt: "a", best_of: 3 }, 400, /best_of: not supported/, "best_of"],
  ["/v1/completions", { prompt: "a", suffix: "b" }, 400, /suffix: not supported/, "suffix"],
  ["/v1/completions", { prompt: "a", temperature: -1 }, 400, /temperature: .*found -1/, "temperature"],
  ["/v1/completions", { prompt: "a", temperature: [] }, 400, /temperature: /, "temperature"],
  ["/v1/completions", { prompt: "a", top_p: 2 }, 400, /top_p: .*found 2/, "top_p"],
  ["/v1/completions", { prompt: "a", logprobs: 21 }, 400, /logprobs: .*20, found 21/, "logprobs"],
  ["/v1/completions", { prompt: "a", stop: [""] }, 400, /stop: /, "stop"],
  ["/v1/completions", { prompt: "a", stop: Array(65).fill("a") }, 400, /at most 64/, "stop"],
  ["/v1/completions", { prompt: "a", seed: "x" }, 400, /seed: /, "seed"],
  ["/v1/completions", { prompt: "a", model: "other" }, 404, /model: expected "tiny", found "other"/, "model"],
  ["/v1/completions", { prompt: "a", model: "../tiny" }, 404, /found "\.\.\/tiny"/, "model"],
  [chat, {}, 400, /messages: expected a list of messages, found nothing/, "messages"],
  [chat, { messages: [] }, 400, /messages: /, "messages"],
  [chat, { messages: ["Hi"] }, 400, /messages\[0\]: expected a message/, "messages"],
  [chat, { messages: [{ role: "user" }] }, 400, /content: expected text/, "messages"],
  [chat, { messages: [{ role: "user", content: "x ".repeat(300) }] }, 400, /has 256 tokens/, "messages"],
  [chat, { messages, top_logprobs: 2 }, 400, /expected logprobs: true/, "top_logprobs"],
  [chat, { messages, tools: [{ type: "function" }] }, 400, /tools: not supported/, "tools"],
  [chat, { messages, response_format: { type: "json_object" } }, 400, /response_format/, "response_format"],
  [chat, { messages, logit_bias: { 5: 100 } }, 400, /logit_bias/, "logit_bias"],
  ["/tokenize", { prompt: 1 }, 400, /prompt: expected text, found 1/, "prompt"],
  ["/detokenize", { tokens: "a" }, 400, /tokens: /, "tokens"],
  ["/detokenize", { tokens: [99999] }, 400, /from 0 to 1007/, "tokens"],
  ["/v1/embeddings", {}, 404, /there is no such endpoint/, null],
  ["/../../etc/passwd", {}, 404, /there is no such endpoint/, null],
];

Deno.test("what is wrong is told as OpenAI's clients parse it, and nothing is asked of the model", () =>
  served(async ({ post, generator }) => {
    for (const [path, body, status, says, names] of WRONG) {
      const response = await post(path, body);
      const { error } = await response.json();
      const told = `${JSON.stringify(body).slice(0, 100)}: ${response.status} ${JSON.stringify(error)}`;
      assert.equal(response.status, status, told);
      assert.match(error.message, says, told);
      assert.ok(error.message.length < 400, told);
      assert.equal(error.type, "invalid_request_error", told);
      assert.ok([error.param, error.code].includes(names), told);
      assert.deepEqual(Object.keys(error), ["message", "type", "param", "code"]);
    }
    assert.equal(generator.requests.length, 0);
  }));

Deno.test("what asks for nothing, and what is not known, is no mistake", () =>
  served(async ({ ask }) => {
    const harmless = {
      suffix: "",
      best_of: 1,
      logit_bias: {},
      user: "me",
      stop: null,
      logprobs: false,
      seed: null,
    };
    await ask("/v1/completions", { prompt: "a", max_tokens: 1, ...harmless, guided: 1 });
    const format = { response_format: { type: "text" }, tools: [], top_logprobs: 0, store: false };
    await ask(chat, { messages, max_tokens: 1, ...format });
    // A prompt that fills the context can be looked at.
    await ask("/v1/completions", { prompt: Array(256).fill(5), max_tokens: 0, echo: true, logprobs: 1 });
  }));

Deno.test("other methods than an endpoint's are refused by name", () =>
  served(async ({ get, post }) => {
    const wrong = await get("/v1/completions");
    assert.deepEqual([wrong.status, wrong.headers.get("allow")], [405, "POST"]);
    assert.deepEqual([(await post("/health", {})).status, (await get("/health")).status], [405, 200]);
  }));

Deno.test("models are told, by their names too", () =>
  served(async ({ get }) => {
    const { data } = await (await get("/v1/models")).json();
    assert.deepEqual([data.length, data[0].id, data[0].object, data[0].max_model_len], [
      1,
      "tiny",
      "model",
      256,
    ]);
    assert.deepEqual(await (await get("/v1/models/tiny")).json(), data[0]);
    assert.equal((await (await get("/v1/models/a/b")).json()).error.code, "model_not_found");
  }));

Deno.test("another host, another origin and a wrong key are refused", async () => {
  await served(async ({ app, get }) => {
    for (
      const [url, status] of [["http://evil.example/health", 403], [
        "http://localhost:1/health",
        200,
      ]] as const
    ) {
      assert.equal((await app(new Request(url))).status, status);
    }
    for (const origin of ["http://evil.example", "null", "http://127.0.0.1:1"]) {
      const response = await get("/v1/models", { origin });
      assert.equal(response.status, 403);
      assert.equal(response.headers.get("access-control-allow-origin"), null);
    }
    assert.equal((await get("/v1/models", { origin: "http://127.0.0.1:8000" })).status, 200);
  });
  await served(
    async ({ get, app }) => {
      const origin = "http://page.example";
      const allowed = await get("/v1/models", { origin });
      assert.deepEqual([allowed.status, allowed.headers.get("access-control-allow-origin")], [200, origin]);
      const before = await app(
        new Request("http://127.0.0.1:8000/v1/completions", {
          method: "OPTIONS",
          headers: { origin, "access-control-request-method": "POST" },
        }),
      );
      assert.equal(before.status, 204);
    },
    {},
    { allowedOrigins: ["http://page.example"] },
  );
  const apiKey = "secret-key";
  await served(
    async ({ app, get, post }) => {
      for (
        const authorization of [undefined, "Bearer", "Bearer secret", `Basic ${apiKey}`, `Bearer ${apiKey}x`]
      ) {
        const response = await get("/v1/models", authorization === undefined ? {} : { authorization });
        const { error } = await response.json();
        assert.deepEqual([response.status, error.code], [401, "invalid_api_key"], authorization);
        assert.doesNotMatch(error.message, /secret/);
      }
      assert.equal((await post("/v1/completions", { prompt: "a" })).status, 401);
      const authorization = `Bearer ${apiKey}`;
      assert.equal((await get("/v1/models", { authorization })).status, 200);
      assert.equal((await get("/health")).status, 200);
      // Behind a name of its own.
      const named = new Request("http://models.example/v1/models", { headers: { authorization } });
      assert.equal((await app(named)).status, 200);
    },
    {},
    { apiKey, isLoopback: false },
  );
});
