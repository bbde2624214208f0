/** `simper serve`, under the permissions of its task. */
import assert from "node:assert/strict";
import { task, taskWords } from "../command.ts";

Deno.test("serve says all that is wrong with its words, before a model is opened", async () => {
  const done = await task(
    "serve",
    "a",
    "a",
    "--port=http",
    "--host=0.0.0.0",
    "--max_length=1",
    "--allowed_origins=x",
  );
  assert.deepEqual([done.status, done.stdout], [2, ""]);
  for (
    const says of [
      /--port: expected an integer from 0 to 65535, found http/,
      /--max_length: expected an integer from 2/,
      /a: named twice/,
      /--host: at 0\.0\.0\.0 others reach this server: expected a key/,
      /--allowed_origins: expected origins such as/,
    ]
  ) assert.match(done.stderr, says);
  const none = await task("serve");
  assert.deepEqual([none.status, /expected: simper serve MODEL/.test(none.stderr)], [2, true]);
});

Deno.test("serve answers OpenAI's requests with a model of its own, and ends with a signal", async () => {
  const key = "a-key";
  const child = new Deno.Command(Deno.execPath(), {
    args: [...taskWords("serve"), "configs/tiny/model", "--port=0", "--log_level=debug", "--max_num_seqs=2"],
    env: { SIMPER_API_KEY: key },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  try {
    const { value = "" } = await lines.read();
    assert.match(value, /^http:\/\/127\.0\.0\.1:\d+\/\n$/, value || await stderr);
    const headers = { authorization: `Bearer ${key}` };
    const ask = async (path: string, body: object) => {
      const init = { method: "POST", headers, body: JSON.stringify(body) };
      const response = await fetch(`${value.trim()}${path}`, init);
      assert.equal(response.status, 200, await response.clone().text());
      return response.json();
    };
    const body = { prompt: "Hello", temperature: 0, max_tokens: 3, logprobs: 1 };
    const { choices: [whole] } = await ask("v1/completions", body);
    // Made by steps, and then looked at in one pass.
    const prompt = `Hello${whole.text}`;
    const { choices: [echoed] } = await ask("v1/completions", { ...body, prompt, max_tokens: 0, echo: true });
    assert.equal(echoed.text, prompt);
    for (const { token_logprobs, top_logprobs } of [whole.logprobs]) {
      token_logprobs.forEach((value: number, i: number) =>
        assert.equal(value, Math.max(...Object.values(top_logprobs[i]) as number[]))
      );
    }
    const messages = [{ role: "user", content: "What is the capital of Italy?" }];
    const chat = await ask("v1/chat/completions", { model: "configs/tiny/model", messages, max_tokens: 4 });
    assert.equal(typeof chat.choices[0].message.content, "string");
  } finally {
    child.kill("SIGTERM");
    await lines.cancel();
    assert.equal((await child.status).code, 130);
  }
  assert.match(await stderr, /^debug: POST \/v1\/completions 200 /m);
  assert.ok(!(await stderr).includes(key));
});
