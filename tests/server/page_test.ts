/** The page, in a browser where there is one; and what it asks of the server. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readRows } from "../../lib/data/read.ts";
import { describe, eventsOf, figures, surprise } from "../../lib/server/page.js";
import { withTemporaryFolder } from "../temporary_folder.ts";
import { served } from "./served.ts";

const vote = {
  messages: [{ role: "user", content: "Hi" }],
  chosen: "Hello!",
  rejected: "What?",
  chosen_model: "after",
  rejected_model: "before",
};

Deno.test("the page's files run nothing but themselves, and are there without a key", () =>
  served(
    async ({ get }) => {
      for (
        const [path, type] of [["/", "text/html"], ["/page.js", "text/javascript"], ["/page.css", "text/css"]]
      ) {
        const response = await get(path);
        assert.equal(response.status, 200);
        assert.equal(response.headers.get("content-type"), `${type}; charset=utf-8`);
        const policy = response.headers.get("content-security-policy")!;
        assert.match(policy, /^default-src 'none'; script-src 'self'; /);
        assert.doesNotMatch(await response.text(), /https?:/);
      }
    },
    {},
    { apiKey: "key" },
  ));

Deno.test("a vote is kept as a row that train reads", () =>
  withTemporaryFolder(async (folder) => {
    const path = `${folder}/votes.jsonl`;
    await served(
      async ({ ask }) => {
        const { row, kept } = await ask("/preferences", vote);
        assert.equal(kept, true);
        assert.equal(await Deno.readTextFile(path), `${row}\n`);
      },
      {},
      { keep: (row) => Deno.writeTextFile(path, `${row}\n`, { append: true }) },
    );
    const [{ row }] = await Array.fromAsync(readRows(path));
    const turn = (content: string) => [vote.messages[0], { role: "assistant", content }];
    assert.deepEqual([row.chosen, row.rejected], [turn("Hello!"), turn("What?")]);
    await served(async ({ ask, post }) => {
      assert.equal((await ask("/preferences", vote)).kept, false);
      for (
        const wrong of [{ messages: [] }, { messages: [{ role: 1 }] }, { chosen: 1 }, { rejected: "Hello!" }]
      ) {
        assert.equal((await post("/preferences", { ...vote, ...wrong })).status, 400);
      }
    });
  }));

Deno.test("the page reads events in whatever parts they come", async () => {
  const bytes = new TextEncoder().encode('data: {"a":"é"}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n');
  for (const size of [1, 3, 100]) {
    const parts = Array.from(
      { length: Math.ceil(bytes.length / size) },
      (_, i) => bytes.slice(i * size, (i + 1) * size),
    );
    assert.deepEqual(await Array.fromAsync(eventsOf(ReadableStream.from(parts))), [{ a: "é" }, { b: 2 }]);
  }
  const failed = ReadableStream.from([
    new TextEncoder().encode('data: {"error":{"message":"too late"}}\n\n'),
  ]);
  await assert.rejects(Array.fromAsync(eventsOf(failed)), /too late/);
  assert.deepEqual([0, -2.5, -50].map(surprise), [0, 0.5, 1]);
  const token = {
    token: " a\n",
    logprob: Math.log(0.25),
    top_logprobs: [{ token: "b", logprob: Math.log(0.5) }],
  };
  assert.equal(describe(token), '" a\\n" 25.0 % (-1.386); likeliest: "b" 50.0 %');
  const answer = { model: "", text: "", tokens: [token, token], isWhole: true };
  assert.equal(figures(answer, 0.5), "2 tokens · 4.0 tokens/s · mean log-probability -1.386");
});

const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const browser = BROWSERS.find((path) => existsSync(path));

/** A page of a browser without a window; `evaluate` gives the value of an expression, awaited. */
async function inBrowser(
  url: string,
  body: (evaluate: (expression: string) => Promise<unknown>) => Promise<void>,
): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const args = [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--remote-debugging-port=0",
      `--user-data-dir=${folder}`,
    ];
    const child = new Deno.Command(browser!, { args: [...args, url], stdout: "null", stderr: "piped" })
      .spawn();
    let said = "";
    const lines = child.stderr.pipeThrough(new TextDecoderStream()).getReader();
    while (!/ws:\S+\/devtools/.test(said)) said += (await lines.read()).value ?? assert.fail(said);
    const [, host] = /ws:\/\/([^/]+)\//.exec(said)!;
    const pages: { type: string; webSocketDebuggerUrl: string }[] = await (await fetch(`http://${host}/json`))
      .json();
    const socket = new WebSocket(pages.find(({ type }) => type === "page")!.webSocketDebuggerUrl);
    await new Promise((resolve) => socket.onopen = resolve);
    let id = 0;
    const call = (method: string, params: object) =>
      // deno-lint-ignore no-explicit-any
      new Promise<any>((resolve) => {
        const own = ++id;
        socket.addEventListener("message", function hear({ data }) {
          const message = JSON.parse(data);
          if (message.id !== own) return;
          socket.removeEventListener("message", hear);
          resolve(message.result ?? { exceptionDetails: message.error });
        });
        socket.send(JSON.stringify({ id: own, method, params }));
      });
    try {
      await body(async (expression) => {
        const found = await call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
        assert.ok(!found.exceptionDetails, JSON.stringify(found.exceptionDetails));
        return found.result.value;
      });
    } finally {
      const closed = new Promise((resolve) => socket.onclose = resolve);
      await call("Browser.close", {});
      await closed;
      await lines.cancel();
      await child.status;
    }
  });
}

Deno.test({
  name: "a browser shows two answers with their figures, as text, and keeps a vote",
  ignore: browser === undefined,
  fn: () => {
    const rows: string[] = [];
    return served(
      async ({ app }) => {
        const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app);
        await inBrowser(`http://127.0.0.1:${server.addr.port}/`, async (evaluate) => {
          const until = async (condition: string) => {
            // A page that is being loaded has no values.
            for (let i = 0; !await evaluate(condition).catch(() => false); i++) {
              assert.ok(i < 500, condition);
              await new Promise((resolve) => setTimeout(resolve, 20));
            }
          };
          const part = (id: string) => `document.getElementById("${id}")`;
          await until(`${part("model-1")}?.options.length === 1`);
          await evaluate(
            `${part("prompt")}.value = "<b>Hi</b>"; ${part("max_tokens")}.value = "12"; ${
              part("seed")
            }.value = "3";
          ${part("ask")}.requestSubmit()`,
          );
          await until(`!${part("vote")}.hidden`);
          const spans = await evaluate(`${part("answer-0")}.querySelectorAll("span").length`);
          assert.ok(Number(spans) > 3);
          assert.equal(await evaluate(`${part("answer-0")}.querySelector("span").children.length`), 0);
          assert.match(
            String(await evaluate(`${part("figures-0")}.textContent`)),
            /^12 tokens · .* log-probability -\d/,
          );
          await evaluate(`${part("answer-0")}.querySelector("span").click()`);
          assert.match(String(await evaluate(`${part("token")}.textContent`)), /^".*" .* likeliest: /);
          await evaluate(`${part("better-1")}.click()`);
          await until(`!${part("download")}.hidden`);
          const [left, right] = [
            await evaluate(`${part("answer-0")}.textContent`),
            await evaluate(`${part("answer-1")}.textContent`),
          ];
          const { chosen, rejected } = JSON.parse(rows[0]);
          assert.deepEqual([rejected, chosen].map((turns) => turns.at(-1).content), [left, right]);
          assert.equal(chosen[0].content, "<b>Hi</b>");
        });
        await server.shutdown();
      },
      {},
      { keep: (row) => Promise.resolve(void rows.push(row)) },
    );
  },
});
