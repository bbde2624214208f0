/** Many who ask, who go away, who stall. */
import assert from "node:assert/strict";
import type { ServerOptions } from "../../lib/server/app.ts";
import type { FakeOptions } from "./fake_generator.ts";
import { type Served, served } from "./served.ts";

const slow = { prompt: "Hello", max_tokens: 200, temperature: 0 };

/** The same on a port of the loopback. */
const listening = (
  body: (base: string, served: Served) => Promise<void>,
  fake: FakeOptions,
  options: Partial<ServerOptions> = {},
) =>
  served(
    async (one) => {
      const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, one.app);
      try {
        await body(`http://127.0.0.1:${server.addr.port}`, one);
      } finally {
        await server.shutdown();
      }
    },
    fake,
    options,
  );

const post = (base: string, body: object, signal?: AbortSignal) =>
  fetch(`${base}/v1/completions`, { method: "POST", body: JSON.stringify(body), signal });

/** Waits until something is so. */
async function until(isSo: () => boolean): Promise<void> {
  for (let i = 0; !isSo(); i++) {
    assert.ok(i < 200, "it never was");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const inHand = async ({ get }: Served) =>
  / ?simper_requests_in_hand (\d+)/.exec(await (await get("/metrics")).text())![1];

Deno.test("who goes away frees the place, before and after the first token", () =>
  listening(async (base, served) => {
    const { generator } = served;
    for (const stream of [false, true]) {
      const leaves = new AbortController();
      const response = post(base, { ...slow, stream }, leaves.signal);
      response.catch(() => {});
      await until(() => generator.load.running === 1);
      if (stream) {
        const reader = (await response).body!.getReader();
        await reader.read();
        await reader.cancel();
      }
      leaves.abort();
      await until(() => generator.load.running === 0);
      assert.equal(await inHand(served), "0");
    }
  }, { pause: 10 }));

Deno.test("one request past the bound is refused at once, and told when to come again", () =>
  served(
    async ({ post, generator }) => {
      const first = post("/v1/completions", { ...slow, max_tokens: 20 });
      await until(() => generator.load.running === 1);
      const refused = await post("/v1/completions", slow);
      assert.deepEqual([refused.status, refused.headers.get("retry-after")], [429, "1"]);
      const { error } = await refused.json();
      assert.deepEqual([error.type, error.code], ["rate_limit_error", "rate_limit_exceeded"]);
      assert.equal((await first).status, 200);
      assert.equal((await post("/v1/completions", { ...slow, max_tokens: 1 })).status, 200);
    },
    { pause: 5 },
    { limits: { requests: 1 } },
  ));

Deno.test("an answer that takes too long ends, whole or in a stream", () =>
  served(
    async ({ post, generator }) => {
      const whole = await post("/v1/completions", slow);
      assert.deepEqual([whole.status, (await whole.json()).error.code], [504, "timeout"]);
      const stream = await (await post("/v1/completions", { ...slow, stream: true })).text();
      const events = stream.split("\n\n").slice(0, -1);
      assert.match(events.at(-2)!, /^data: \{"error":\{"message":"not answered within 0.1 s/);
      assert.equal(events.at(-1), "data: [DONE]");
      assert.equal(generator.load.running, 0);
    },
    { pause: 10 },
    { limits: { seconds: 0.1 } },
  ));

Deno.test("a body that is too large or does not come is refused", () =>
  listening(
    async (base, { app }) => {
      assert.equal((await post(base, { prompt: "x".repeat(2000) })).status, 413);
      // Without a length, and without an end.
      let pulls = 0;
      const endless = new ReadableStream({
        pull: (controller) => controller.enqueue(new Uint8Array(100).fill(pulls++ ? 32 : 123)),
      });
      const url = `${base}/v1/completions`;
      assert.equal((await app(new Request(url, { method: "POST", body: endless }))).status, 413);
      assert.ok(pulls < 20);
      const stalled = new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(10)) });
      assert.equal((await app(new Request(url, { method: "POST", body: stalled }))).status, 408);
    },
    {},
    { limits: { bodyBytes: 1000, bodySeconds: 0.2 } },
  ));

Deno.test("who does not read a stream keeps nobody waiting", () =>
  listening(async (base, served) => {
    const { generator } = served;
    const response = await post(base, { ...slow, stream: true });
    await until(() => generator.requests.length === 1 && generator.load.running === 0);
    assert.equal(await inHand(served), "0");
    assert.match(await response.text(), /\[DONE\]/);
  }, {}));

Deno.test("a generator that fails is told as a defect, without its words, and the next request is answered", async () => {
  const told: string[] = [];
  await served(
    async ({ post, generator }) => {
      const { tokens } = generator;
      generator.tokens = () => {
        throw new Error("the device is lost");
      };
      const response = await post("/v1/completions", slow);
      const { error } = await response.json();
      assert.deepEqual([response.status, error.type], [500, "server_error"]);
      assert.doesNotMatch(error.message, /lost/);
      assert.match(told.join(), /the device is lost/);
      generator.tokens = tokens;
      assert.equal((await post("/v1/completions", slow)).status, 200);
    },
    {},
    { log: (level, message) => level === "error" && told.push(message) },
  );
});

Deno.test("many requests, some of which are left, leave nothing behind, and are counted", () =>
  served(
    async (served) => {
      const { app, generator, get } = served;
      let random = 1;
      const next = (most: number) => (random = random * 48271 % 2147483647) % most;
      const statuses = await Promise.all(Array.from({ length: 200 }, async (_, i) => {
        const leaves = new AbortController();
        if (next(3) === 0) setTimeout(() => leaves.abort(), next(20));
        const body = JSON.stringify({ prompt: `${i}`, max_tokens: next(8), stream: next(2) === 0, seed: i });
        const request = new Request("http://127.0.0.1/v1/completions", {
          method: "POST",
          body,
          signal: leaves.signal,
        });
        const response = await app(request);
        // Deno's server cancels the body of who is gone.
        if (leaves.signal.aborted) await response.body?.cancel();
        else await response.text();
        return response.status;
      }));
      assert.ok(statuses.every((status) => [200, 429, 499].includes(status)), statuses.join());
      assert.ok(statuses.filter((status) => status === 200).length >= 40);
      await until(() => generator.load.running === 0);
      assert.equal(await inHand(served), "0");
      const metrics = await (await get("/metrics")).text();
      const counted = [
        ...metrics.matchAll(/^simper_requests_total\{path="\/v1\/completions",status="\d+"\} (\d+)$/gm),
      ];
      assert.equal(counted.reduce((sum, [, count]) => sum + Number(count), 0), 200);
      for (const name of ["prompt_tokens_total", "generation_tokens_total", "answers_running"]) {
        assert.match(metrics, new RegExp(`^simper_${name}\\{model="tiny"\\} \\d+$`, "m"));
      }
      assert.match(metrics, /^simper_time_to_first_token_seconds_bucket\{le="0.01",model="tiny"\} \d+$/m);
    },
    {},
    { limits: { requests: 64 } },
  ));
