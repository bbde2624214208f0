/** What cannot be had from the Hub: one message that says why and what to do, and nothing half in the cache. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { request } from "../../lib/hub/http.ts";
import { type HubSettings, resolveDataset, resolveModel } from "../../lib/hub/hub.ts";
import { file, hubTest, shardedModel, type World } from "./fixtures.ts";
import { commitOf, type Fault, hashOf, type HubOptions, type Seen } from "./server.ts";

const TOKEN = "hf_secretSecretSecret";
const repos = () => ({ repos: [shardedModel()] });
const isContent = ({ path }: Seen) => /resolve/.test(path);

/** The message of the refusal that `run` must end in; it never shows a token. */
async function refusal(run: Promise<unknown>): Promise<string> {
  const error = await run.then(() => undefined, (error) => error);
  assert.ok(error instanceof UserError, `expected a refusal, found ${error?.stack ?? "none"}`);
  assert.doesNotMatch(error.message, new RegExp(TOKEN));
  return error.message;
}

/** A test of one refusal of `org/tiny`. */
function refuses(
  name: string,
  options: () => HubOptions,
  says: RegExp[],
  { token, from = "org/tiny", then }: {
    token?: string;
    from?: string;
    then?: (world: World) => Promise<void>;
  } = {},
): void {
  hubTest(name, options, async (world) => {
    const message = await refusal(resolveModel(from, { settings: { ...world.settings, token } }));
    for (const part of says) assert.match(message, part);
    await then?.(world);
  });
}

refuses(
  "an adapter's repository, before its weights are fetched",
  () => ({
    repos: [{ ...shardedModel(), files: [...shardedModel().files, file("adapter_config.json", "{}")] }],
  }),
  [/model org\/tiny: found adapter_config.json: these are adapters \(PEFT\): name their base model/],
  {
    then: ({ hub }) => Promise.resolve(assert.ok(!hub.seen.some(({ path }) => /safetensors/.test(path)))),
  },
);

const always = (fault: Fault) => () => ({ ...repos(), fault: () => fault });
const gated = { status: 401, headers: { "x-error-code": "GatedRepo" } };

refuses("a gated model without a token: where to ask and how to log in", always(gated), [
  /model org\/tiny: gated/,
  /ask for it at http:\/\/127.0.0.1:\d+\/org\/tiny\b/,
  /HF_TOKEN/,
  /hf auth login/,
]);
refuses("a gated model with a token that has no access", always({ ...gated, status: 403 }), [
  /gated.*ask for it at/,
  /The token that was sent has no access/,
], { token: TOKEN });
refuses("a gated file of a model whose listing is open", () => ({
  ...repos(),
  fault: (seen) => isContent(seen) ? { ...gated, status: 403 } : undefined,
}), [/gated.*ask for it at/]);
refuses("a repository that is private or not there", () => ({ ...repos(), token: TOKEN }), [
  /org\/tiny: no such folder here/,
  /not found, or private/,
  /HF_TOKEN/,
]);
refuses("a token that is not valid", () => ({ ...repos(), token: TOKEN }), [/the token is refused/], {
  token: "hf_wrong",
});
refuses(
  "a repository that is not there",
  repos,
  [/no such folder here; model org\/tniy: no such repository/],
  {
    from: "org/tniy",
  },
);
refuses("a revision that is not there", repos, [
  /model org\/tiny@v9: no revision v9: .*\/org\/tiny\/tree\/main/,
], {
  from: "org/tiny@v9",
});
refuses("a revision that is no name", repos, [
  /expected a branch, tag or commit after the @, found "\.\.\/x"/,
], {
  from: "org/tiny@../x",
});
refuses("a Hub that stays busy", always({ status: 503 }), [
  /the Hub answers 503 \(3 attempts\)\. Try again later/,
]);
refuses("a file for which the Hub stays busy", () => ({
  ...repos(),
  fault: (seen) => isContent(seen) ? { status: 429 } : undefined,
}), [/too many requests \(5 attempts\)/]);

const without = (pattern: RegExp) => () => ({
  repos: [{ ...shardedModel(), files: shardedModel().files.filter(({ path }) => !pattern.test(path)) }],
});
refuses("weights that are only pickled", without(/safetensors/), [
  /only there pickled \(pytorch_model\.bin\)/,
  /can run any code/,
  /convert/,
]);
refuses("a repository without weights", without(/safetensors|bin/), [
  /expected model\.safetensors or .*, found config/,
]);
refuses("a repository that is no model", without(/^config/), [
  /expected a config\.json, found tokenizer\.json/,
]);
refuses("a shard that the index names and the repository lacks", without(/00002-of/), [
  /index\.json names model-00002-of-00002\.safetensors, which is not there \(there is model-00001-of-00002/,
]);

for (
  const path of [
    "../evil.json",
    "a/../../evil",
    "/etc/passwd",
    "a\\..\\evil",
    "C:evil",
    "a//b",
    "./config.json",
  ]
) {
  refuses(`a file named ${path}`, () => ({ repos: [{ ...shardedModel(), files: [file(path, "evil")] }] }), [
    /which would be written outside of its folder/,
  ], {
    then: async ({ hub, settings }) => {
      assert.equal(hub.bytesSent, 0);
      assert.equal(await Deno.stat(settings.cache).catch(() => "absent"), "absent");
    },
  });
}
refuses("an index that names a file outside", () => {
  const files = shardedModel().files.map((old) =>
    old.path.endsWith("index.json") ? file(old.path, '{"weight_map": {"a": "../../../evil"}}') : old
  );
  return { repos: [{ ...shardedModel(), files }] };
}, [/which would be written outside/]);

refuses(
  "a size that is none",
  () => ({ ...repos(), list: (entry) => ({ ...entry, size: -1, lfs: undefined }) }),
  [
    /expected a size and a hash from the Hub, found -1/,
  ],
);
refuses(
  "a hash that is a path",
  () => ({ ...repos(), list: (entry) => ({ ...entry, oid: "../x", lfs: undefined }) }),
  [
    /expected a size and a hash from the Hub, found \d+ and "\.\.\/x"/,
  ],
);
refuses("a commit that is a path", () => ({
  ...repos(),
  fault: ({ path }) => path.includes("/revision/") ? { json: { sha: "../../x" } } : undefined,
}), [/expected a commit from the Hub, found "\.\.\/\.\.\/x"/]);
refuses(
  "a file larger than the disk, before a byte of it is fetched",
  () => ({
    ...repos(),
    list: (entry) => entry.path === "config.json" ? { ...entry, size: 2 ** 52 } : entry,
  }),
  [/4503\.6 TB to fetch, and .* free at .*make room, or point HF_HOME/],
  {
    then: ({ hub }) => Promise.resolve(assert.equal(hub.bytesSent, 0)),
  },
);
refuses("a size that the server does not keep to", () => ({
  ...repos(),
  list: (entry) => entry.path === "config.json" ? { ...entry, size: 5 } : entry,
}), [/config\.json: expected 5 bytes as the listing says, and the server announces 23/]);
hubTest(
  "damaged content is refused by its hash, and nothing of it kept",
  repos,
  async ({ hub, settings }) => {
    const big = hub.repos[0].files.find(({ path }) => path.startsWith("model-00001"))!;
    hub.options.fault = ({ path }) =>
      path === `/${hashOf(big)}` ? { bytes: big.bytes.with(5, 99) } : undefined;
    const message = await refusal(resolveModel("org/tiny", { settings }));
    assert.match(
      message,
      /00001-of-00002\.safetensors: damaged in transit: expected SHA-256 [0-9a-f]{64}, found/,
    );
    const blobs = join(settings.cache, "models--org--tiny", "blobs");
    assert.equal((await Deno.stat(join(blobs, `${hashOf(big)}.simper.incomplete`))).size, 0);
    assert.equal(await Deno.stat(join(blobs, hashOf(big))).catch(() => "absent"), "absent");
    const small = hub.repos[0].files[0];
    hub.options.fault = ({ path }) =>
      path.endsWith(hashOf(small)) ? { bytes: small.bytes.with(5, 99) } : undefined;
    await Deno.remove(settings.cache, { recursive: true });
    assert.match(
      await refusal(resolveModel("org/tiny", { settings })),
      /expected git's SHA-1 [0-9a-f]{40}, found/,
    );
  },
);

hubTest("a server that sends more than it announced is stopped", repos, async ({ settings }) => {
  // A body without a length: only the bytes themselves tell.
  const config = shardedModel().files[0];
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
    const { pathname } = new URL(url);
    if (pathname.includes("/revision/")) return Response.json({ sha: commitOf(shardedModel()) });
    if (pathname.includes("/tree/")) {
      return Response.json([{ type: "file", path: "config.json", size: 23, oid: hashOf(config) }]);
    }
    let pieces = 0;
    return new Response(
      new ReadableStream({
        async pull(controller) {
          await new Promise((resolve) => setTimeout(resolve, 1));
          pieces++ < 1000 ? controller.enqueue(config.bytes) : controller.close();
        },
      }),
    );
  });
  const endpoint = `http://127.0.0.1:${server.addr.port}`;
  const message = await refusal(
    resolveModel("org/tiny", { settings: { ...settings, endpoint }, weights: false }),
  );
  assert.match(message, /config\.json: expected 23 bytes as the listing says, and the server sends more/);
});

hubTest(
  "a disk that takes no more is said, and what was fetched is kept",
  repos,
  async ({ hub, folder, settings }) => {
    // A limit on the size of files, in blocks of 512 bytes, stands for a full disk: the kernel refuses the write.
    const { code, stderr } = await new Deno.Command("sh", {
      args: [
        "-c",
        'trap "" XFSZ; ulimit -f 400; exec "$0" "$@"',
        Deno.execPath(),
        ...["run", "--no-check", "--no-code-cache", "-A", "lib/cli/main.ts", "fetch", "org/tiny"],
      ],
      env: { HF_ENDPOINT: hub.endpoint, HF_HOME: folder, HF_HUB_CACHE: settings.cache, HF_TOKEN: "" },
    }).output();
    const message = new TextDecoder().decode(stderr);
    assert.equal(code, 1, message);
    assert.match(
      message,
      /^error: .*00001-of-00002\.safetensors: the disk is full.*HF_HOME.*same command again/m,
    );
    const big = hub.repos[0].files.find(({ path }) => path.startsWith("model-00001"))!;
    const partial = join(settings.cache, "models--org--tiny", "blobs", `${hashOf(big)}.simper.incomplete`);
    assert.equal((await Deno.stat(partial)).size, 400 * 512);
    await resolveModel("org/tiny", { settings });
  },
);

hubTest("the token goes to the Hub alone, not to where it redirects", () => ({
  ...repos(),
  token: TOKEN,
  pageSize: 4,
}), async ({ hub, settings }) => {
  await resolveModel("org/tiny", { settings: { ...settings, token: TOKEN } });
  const sentTo = (origin: string) =>
    new Set(hub.seen.filter((seen) => seen.origin === origin).map(({ authorization }) => authorization));
  assert.deepEqual(sentTo("hub"), new Set([`Bearer ${TOKEN}`]));
  assert.deepEqual(sentTo("cdn"), new Set([null]));
});

hubTest("a listing whose next page is elsewhere gets no token there", repos, async ({ hub, settings }) => {
  const next = `<${hub.cdn}/api/models/org/tiny/tree>; rel="next"`;
  hub.options.fault = ({ origin, path }) =>
    origin === "hub" && path.includes("/tree/")
      ? { status: 302, headers: { location: `${hub.cdn}/tree`, link: next } }
      : undefined;
  await refusal(resolveModel("org/tiny", { settings: { ...settings, token: TOKEN } }));
  const elsewhere = hub.seen.filter(({ origin }) => origin === "cdn");
  assert.ok(elsewhere.length > 0);
  assert.ok(elsewhere.every(({ authorization }) => authorization === null));
});

hubTest("a listing that goes on elsewhere is not followed, and both are named", repos, async (world) => {
  const { hub, settings } = world;
  const listing = [{ type: "file", path: "config.json", size: 2, oid: "0".repeat(40) }];
  hub.options.fault = ({ origin, path }) =>
    origin === "hub" && path.includes("/tree/")
      ? { json: listing, headers: { link: `<${hub.cdn}/api/models/org/tiny/tree/main>; rel="next"` } }
      : undefined;
  const message = await refusal(resolveModel("org/tiny", { settings: { ...settings, token: TOKEN } }));
  assert.ok(
    message.includes(`model org/tiny: the listing of ${hub.endpoint} goes on at ${hub.cdn}: not followed`),
  );
  assert.deepEqual(hub.seen.filter(({ origin }) => origin === "cdn"), []);
});

Deno.test("https that redirects to http is not followed, at the first hop or a later one", async () => {
  const settings: HubSettings = {
    endpoint: "https://hub.test",
    cache: "",
    token: TOKEN,
    offline: false,
    stall: 1000,
    backoff: 1,
  };
  const hops: Record<string, string> = {
    "https://hub.test/one": "http://hub.test/plain",
    "https://hub.test/two": "https://cdn.test/two",
    "https://cdn.test/two": "http://cdn.test/plain",
  };
  const asked: string[] = [];
  const real = globalThis.fetch;
  globalThis.fetch = (input, init) => {
    const headers = new Headers(init?.headers);
    asked.push(`${input} ${headers.get("authorization")}`);
    const location = hops[String(input)];
    return Promise.resolve(new Response(null, location ? { status: 302, headers: { location } } : {}));
  };
  try {
    for (
      const [url, says] of [
        ["https://hub.test/one", "https://hub.test redirects to http://hub.test/plain: not followed"],
        ["https://hub.test/two", "https://cdn.test redirects to http://cdn.test/plain: not followed"],
        ["http://hub.test/three", "https://hub.test names http://hub.test: not followed"],
      ]
    ) assert.equal(await refusal(request(settings, url)), says);
  } finally {
    globalThis.fetch = real;
  }
  assert.deepEqual(asked, [
    `https://hub.test/one Bearer ${TOKEN}`,
    `https://hub.test/two Bearer ${TOKEN}`,
    "https://cdn.test/two null",
  ]);
});

for (const location of ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"]) {
  refuses(`a redirect to ${location}`, always({ status: 302, headers: { location } }), [
    /redirects to .*: not followed/,
  ]);
}
refuses("redirects without end", always({ status: 302, headers: { location: "/again" } }), [
  /more than 8 times/,
]);

hubTest("offline with a cold cache", repos, async ({ hub, settings }) => {
  const offline = { ...settings, offline: true };
  const model = await refusal(resolveModel("org/tiny@v2", { settings: offline }));
  assert.match(model, /org\/tiny@v2: no such folder here, and HF_HUB_OFFLINE is set while the cache/);
  assert.match(
    model,
    /has nothing of model org\/tiny@v2: unset it, or fetch with `simper fetch org\/tiny@v2`/,
  );
  const data = await refusal(resolveDataset("org/pairs", { settings: offline }));
  assert.match(data, /`simper fetch org\/pairs --repo_type=dataset`/);
  assert.equal(hub.seen.length, 0);
});

hubTest("offline with a part of a model", repos, async ({ settings }) => {
  const folder = await resolveModel("org/tiny", { settings });
  const offline = { ...settings, offline: true };
  assert.equal(await resolveModel("org/tiny", { settings: offline }), folder);
  await Deno.remove(await Deno.realPath(join(folder, "model-00002-of-00002.safetensors")));
  assert.match(
    await refusal(resolveModel("org/tiny", { settings: offline })),
    /lacks model-00002-of-00002\.safetensors of model org\/tiny/,
  );
});

hubTest("a Hub that cannot be reached: the cache stands in, with a warning", repos, async ({ settings }) => {
  const closed = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  closed.close();
  const gone = { ...settings, endpoint: `http://127.0.0.1:${closed.addr.port}` };
  assert.match(
    await refusal(resolveModel("org/tiny", { settings: gone })),
    /no such folder here; model org\/tiny: cannot reach 127\.0\.0\.1:\d+: .*refused.* \(3 attempts\)/i,
  );
  const folder = await resolveModel("org/tiny", { settings });
  const warnings: string[] = [];
  const log = (level: string, message: string) => void warnings.push(`${level}: ${message}`);
  assert.equal(await resolveModel("org/tiny", { settings: gone, log }), folder);
  assert.match(
    warnings.join("\n"),
    /^warning: .*cannot reach 127\.0\.0\.1:\d+.*going on with the copy in the cache$/,
  );
});

hubTest(
  "what is a folder, a file or no name of the Hub is left as it is",
  repos,
  async ({ hub, folder, settings }) => {
    for (
      const name of [
        folder,
        "./org/tiny",
        "../tiny",
        "tiny",
        "a/b/c",
        "data/train.jsonl",
        "data/x.parquet",
        "~/tiny",
      ]
    ) {
      assert.equal(await resolveModel(name, { settings }), name);
    }
    assert.equal(hub.seen.length, 0);
  },
);
