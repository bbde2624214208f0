/** Answers of a Hub that no Hub gives, found by fuzzing: each ends in one message. */
import assert from "node:assert/strict";
import { UserError } from "../../lib/errors.ts";
import { request } from "../../lib/hub/http.ts";
import { resolveDataset, resolveModel } from "../../lib/hub/hub.ts";
import { checkFileName, isPortable, type Repo } from "../../lib/hub/repo.ts";
import { checkToken, type HubSettings } from "../../lib/hub/settings.ts";
import { taskWith } from "../command.ts";
import { file, hubTest, shardedModel } from "./fixtures.ts";
import { commitOf, type Fault, type HubOptions } from "./server.ts";

const REPO: Repo = { type: "model", name: "org/tiny", revision: "main" };

function refuses(name: string, options: () => HubOptions, says: RegExp, from = "org/tiny"): void {
  hubTest(name, options, async ({ settings }) => {
    const run = from === "org/tiny"
      ? resolveModel(from, { settings })
      : resolveDataset("org/pairs", { settings });
    const error = await run.then(() => undefined, (error) => error);
    assert.ok(error instanceof UserError, `expected a refusal, found ${error?.stack ?? "none"}`);
    assert.match(error.message, says);
    assert.ok(error.message.length < 1000);
  });
}

const answering = (part: string, fault: Fault) => () => ({
  repos: [shardedModel()],
  fault: ({ path }: { path: string }) => path.includes(part) ? fault : undefined,
});
const NOT_EXPECTED = /model org\/tiny: the Hub's answer is not as expected/;

refuses(
  "a commit in a list",
  answering("/revision/", { json: { sha: ["0".repeat(40)] } }),
  /expected a commit .* found \["0+"\]/,
);
refuses("an answer that is a number", answering("/tree/", { json: 5 }), NOT_EXPECTED);
refuses("a listing with an entry that is null", answering("/tree/", { json: [null] }), NOT_EXPECTED);
refuses("a listing that is no list", answering("/tree/", { json: { a: 1 } }), NOT_EXPECTED);
refuses(
  "a file whose name is a list",
  answering("/tree/", { json: [{ type: "file", path: ["../evil"], size: 1, oid: "0".repeat(40) }] }),
  /lists a file named \["\.\.\/evil"\], which would be written outside/,
);
refuses(
  "a hash in a list",
  answering("/tree/", { json: [{ type: "file", path: "config.json", size: 1, oid: ["0".repeat(40)] }] }),
  /expected a size and a hash from the Hub, found 1 and \["0+"\]/,
);

hubTest("an answer that is no JSON", () => ({ repos: [shardedModel()] }), async ({ settings }) => {
  for (const text of ["{", "", '"\u0007', "<html>"]) {
    await using server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      () => new Response(text),
    );
    const endpoint = `http://127.0.0.1:${server.addr.port}`;
    await assert.rejects(resolveModel("org/tiny", { settings: { ...settings, endpoint } }), {
      name: "UserError",
      message: NOT_EXPECTED,
    });
  }
});

for (
  const [name, entries] of [["empty pages", []], ["pages of folders", [{
    type: "directory",
    path: "a",
    size: 0,
    oid: "",
  }]]] as const
) {
  hubTest(`a listing of ${name} without end`, () => ({ repos: [shardedModel()] }), async ({ settings }) => {
    let pages = 0;
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
      if (url.includes("/revision/")) return Response.json({ sha: commitOf(shardedModel()) });
      return Response.json(entries, {
        headers: { link: `<${url.split("?")[0]}?cursor=${pages++}>; rel="next"` },
      });
    });
    const endpoint = `http://127.0.0.1:${server.addr.port}`;
    await assert.rejects(resolveModel("org/tiny", { settings: { ...settings, endpoint } }), {
      name: "UserError",
      message: /lists more than 2000 pages of files/,
    });
  });
}

refuses("a next page in 9,000 characters", () => ({
  repos: [shardedModel()],
  fault: ({ path }) =>
    path.includes("/tree/") ? { status: 200, headers: { link: "<http://x".repeat(1000) } } : undefined,
}), /names a next page in more than 4096 characters/);

for (
  const path of [
    "train/NUL.parquet",
    "train/com1.jsonl",
    "train./a.jsonl",
    "train/a.jsonl:x.jsonl",
    "con/a.parquet",
  ]
) {
  refuses(
    `a data file named ${path}, which is none on Windows`,
    () => ({ repos: [{ type: "dataset", name: "org/pairs", files: [file(path, "{}")] }] }),
    /a file named ".*" cannot be kept on every system: nothing was fetched/,
    "org/pairs",
  );
}

hubTest("a name of Windows's devices does no harm where the file is not fetched", () => ({
  repos: [{ ...shardedModel(), files: [...shardedModel().files, file("aux/con.txt", "x")] }],
}), async ({ settings }) => void await resolveModel("org/tiny", { settings }));

refuses("an index that names a device of Windows", () => {
  const files = shardedModel().files.map((old) =>
    old.path.endsWith("index.json") ? file(old.path, '{"weight_map": {"a": "CON.safetensors"}}') : old
  );
  return { repos: [{ ...shardedModel(), files: [...files, file("CON.safetensors", "x")] }] };
}, /a file named "CON.safetensors" cannot be kept/);

hubTest("a file and a folder of the same name", () => {
  const files = [...shardedModel().files, file("train.jsonl", "{}"), file("train.jsonl/a.jsonl", "{}")];
  return { repos: [{ type: "dataset", name: "org/pairs", files }] };
}, async ({ settings }) => {
  await assert.rejects(resolveDataset("org/pairs", { settings }), { name: "UserError" });
});

Deno.test("a name of a repository stays in its folder on every system", () => {
  for (
    const name of ["a/b.json", "train-00000-of-00001.parquet", "console.json", "aux-1/x", ".gitattributes"]
  ) {
    checkFileName(name, REPO);
    assert.ok(isPortable(name), name);
  }
  for (
    const name of [
      "",
      "/a",
      "a/",
      "a//b",
      "../a",
      "a/..",
      "a\\b",
      "C:a",
      "c:/a",
      "a\0",
      "a\n",
      "./a",
      7,
      null,
      undefined,
    ]
  ) {
    assert.throws(() => checkFileName(name, REPO), { name: "UserError" }, String(name));
  }
  for (
    const name of [
      "nul",
      "NUL.txt",
      "a/Con",
      "lpt9.x",
      "COM\u00b9",
      "a.",
      "a ",
      "... ",
      "a:b",
      "a?",
      "nul .txt",
    ]
  ) {
    assert.ok(!isPortable(name), name);
  }
});

Deno.test("a token that no header can carry is refused without being shown", async () => {
  assert.equal(checkToken("hf_abc"), "hf_abc");
  const { status, stderr } = await taskWith({ HF_TOKEN: "hf_secret\nSecret" }, "fetch", "org/tiny");
  assert.equal(status, 2, stderr);
  assert.match(stderr, /^error: the token for the Hub: expected letters and digits/);
  assert.doesNotMatch(stderr, /ecret/);
});

Deno.test("an endpoint that is no address of the web is refused", async () => {
  for (const endpoint of ["nourl", "file:///etc"]) {
    const { status, stderr } = await taskWith({ HF_ENDPOINT: endpoint }, "fetch", "org/tiny");
    assert.equal(status, 2, stderr);
    assert.match(stderr, /^error: HF_ENDPOINT: expected an address such as https:\/\/huggingface.co, found /);
  }
});

Deno.test("a redirect is followed eight times and no more", async () => {
  const settings: HubSettings = {
    endpoint: "https://hub.test",
    cache: "",
    offline: false,
    stall: 1000,
    backoff: 1,
  };
  const own = globalThis.fetch;
  let requests = 0;
  globalThis.fetch = () => {
    requests++;
    return Promise.resolve(new Response(null, { status: 302, headers: { location: `/${requests}` } }));
  };
  try {
    await assert.rejects(request(settings, "https://hub.test/"), /hub\.test redirects more than 8 times/);
  } finally {
    globalThis.fetch = own;
  }
  assert.equal(requests, 9);
});
