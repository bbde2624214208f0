/** A server in the process of the test, without a port. */
import assert from "node:assert/strict";
import { promptIds } from "../../lib/data/pair_of.ts";
import type { Sampling } from "../../lib/generation/request.ts";
import { serverApp, type ServerOptions } from "../../lib/server/app.ts";
import type { ServedTokenizer } from "../../lib/server/served_model.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { FakeGenerator, type FakeOptions } from "./fake_generator.ts";

export interface Served {
  app: (request: Request) => Promise<Response>;
  generator: FakeGenerator;
  tokenizer: ServedTokenizer;
  get(path: string, headers?: HeadersInit): Promise<Response>;
  post(path: string, body: unknown, headers?: HeadersInit): Promise<Response>;
  /** The object of a response that must be one. */
  // deno-lint-ignore no-explicit-any
  ask(path: string, body: unknown): Promise<any>;
  /** The events of a stream, but the one that ends it. */
  // deno-lint-ignore no-explicit-any
  events(path: string, body: object): Promise<any[]>;
}

/** A fake model under the tiny model's name and with its tokenizer. */
export async function served(
  body: (served: Served) => Promise<void>,
  fake: FakeOptions = {},
  options: Partial<ServerOptions> & { chatTemplate?: string; sampling?: Partial<Sampling> } = {},
): Promise<void> {
  const generator = new FakeGenerator(fake);
  const tokenizer = await tinyTokenizer(options.chatTemplate);
  const model = { name: "tiny", generator, tokenizer, eosTokenIds: [2], sampling: options.sampling ?? {} };
  const app = serverApp({ models: [model], isLoopback: true, ...options });
  const url = (path: string) => `http://127.0.0.1:8000${path}`;
  const get = (path: string, headers?: HeadersInit) => app(new Request(url(path), { headers }));
  const post = (path: string, body: unknown, headers?: HeadersInit) =>
    app(
      new Request(url(path), {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        headers,
      }),
    );
  await body({
    app,
    generator,
    tokenizer,
    get,
    post,
    async ask(path, body) {
      const response = await post(path, body);
      const found = await response.json();
      assert.equal(response.status, 200, JSON.stringify(found));
      return found;
    },
    async events(path, body) {
      const response = await post(path, { ...body, stream: true });
      const text = await response.text();
      assert.equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8", text);
      const data = text.split("\n\n").slice(0, -1).map((event) => event.replace(/^data: /, ""));
      assert.equal(data.pop(), "[DONE]");
      return data.map((event) => JSON.parse(event));
    },
  });
  assert.equal(generator.load.running, 0);
}

/** The tiny model's tokenizer, in this thread. */
async function tinyTokenizer(chatTemplate?: string): Promise<ServedTokenizer> {
  const tokenizer = await loadTokenizer("configs/tiny/model", { chatTemplate });
  const soon = <T>(work: () => T) => Promise.resolve().then(work);
  return {
    vocabulary: tokenizer,
    promptIds: (prompt) => soon(() => promptIds(prompt, tokenizer)),
    idsOf: (texts, _, options) => soon(() => texts.map((text) => tokenizer.encode(text, options))),
    texts: (lists, _, options) => soon(() => lists.map((ids) => tokenizer.decode(ids, options))),
  };
}
