/** Fetching from the Hub: what lands where, and how it gets there whole. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type HubSettings, resolveModel } from "../../lib/hub/hub.ts";
import type { Progress } from "../../lib/progress/progress.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { file, hubTest, NEEDED, neededBytes, shardedModel } from "./fixtures.ts";
import { commitOf, hashOf, type Hub, type HubRepo } from "./server.ts";

const BIG = "model-00001-of-00002.safetensors";

const names = async (folder: string) =>
  (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();

/** Every file of `repo` that is needed is in `folder`, byte for byte. */
async function assertWhole(folder: string, repo: HubRepo): Promise<void> {
  assert.deepEqual(await names(folder), NEEDED);
  for (const { path, bytes } of repo.files) {
    if (NEEDED.includes(path)) assertEqualBytes(await Deno.readFile(join(folder, path)), bytes, path);
  }
}

/** Requests for the content of the large file. */
const contentRequests = (hub: Hub) =>
  hub.seen.filter(({ origin, path }) => origin === "cdn" && path.length > 1);
const bigHash = (hub: Hub) => hashOf(hub.repos[0].files.find(({ path }) => path === BIG)!);
const bigRequests = (hub: Hub) => contentRequests(hub).filter(({ path }) => path === `/${bigHash(hub)}`);

const repos = () => ({ repos: [shardedModel()] });

hubTest("a model comes with the files that training reads, in the layout of Python's cache", () => ({
  ...repos(),
  pageSize: 3,
}), async ({ hub, settings }) => {
  const [repo] = hub.repos;
  const commit = commitOf(repo);
  const folder = await resolveModel("org/tiny", { settings });
  const own = join(settings.cache, "models--org--tiny");
  assert.equal(folder, join(own, "snapshots", commit));
  await assertWhole(folder, repo);
  assert.equal(await Deno.readTextFile(join(own, "refs", "main")), commit);
  const blobs = repo.files.filter(({ path }) => NEEDED.includes(path)).map(hashOf);
  assert.deepEqual(await names(join(own, "blobs")), [...new Set(blobs)].sort());
  for (const [i, path] of ["config.json", BIG].entries()) {
    const hash = hashOf(repo.files.find((file) => file.path === path)!);
    assert.equal(hash.length, [40, 64][i]);
    assert.equal(await Deno.readLink(join(folder, path)), `../../blobs/${hash}`);
  }
});

hubTest("a lone shard comes without an index", () => {
  const repo = shardedModel();
  const others = repo.files.filter(({ path }) => !path.startsWith("model"));
  return { repos: [{ ...repo, files: [...others, file("model-00001-of-00001.safetensors", 1000, true)] }] };
}, async ({ hub, settings }) => {
  const folder = await resolveModel("org/tiny", { settings });
  assert.ok((await names(folder)).includes("model-00001-of-00001.safetensors"));
  const sent = hub.bytesSent;
  assert.equal(await resolveModel("org/tiny", { settings }), folder);
  assert.equal(hub.bytesSent, sent);
});

hubTest("what is in the cache is not fetched again", repos, async ({ hub, settings }) => {
  const folder = await resolveModel("org/tiny", { settings });
  const sent = hub.bytesSent;
  assert.equal(await resolveModel("org/tiny", { settings }), folder);
  assert.equal(hub.bytesSent, sent);
});

hubTest("a new commit fetches only the files that changed", repos, async ({ hub, settings }) => {
  const before = await resolveModel("org/tiny", { settings });
  const sent = hub.bytesSent;
  const changed = hub.repos[0].files[0] = file("config.json", '{"model_type": "mistral"}');
  const after = await resolveModel("org/tiny", { settings });
  assert.notEqual(after, before);
  assert.equal(hub.bytesSent - sent, changed.bytes.length);
  await assertWhole(after, hub.repos[0]);
});

hubTest("a revision is a branch, a tag or a commit", () => ({
  repos: [{ ...shardedModel(), revisions: ["refs/pr/1", "v2"] }],
}), async ({ hub, settings }) => {
  const commit = commitOf(hub.repos[0]);
  const folder = await resolveModel("org/tiny@refs/pr/1", { settings });
  assert.equal(await resolveModel("org/tiny", { settings, revision: "v2" }), folder);
  assert.equal(await resolveModel(`org/tiny@${commit}`, { settings }), folder);
  const refs = join(settings.cache, "models--org--tiny", "refs");
  assert.equal(await Deno.readTextFile(join(refs, "refs", "pr", "1")), commit);
});

hubTest("a model from random weights needs none of the Hub's", repos, async ({ hub, settings }) => {
  const folder = await resolveModel("org/tiny", { settings, weights: false });
  assert.deepEqual(await names(folder), NEEDED.filter((name) => !/safetensors/.test(name)));
  assert.equal(contentRequests(hub).length, 0);
});

hubTest("one file of weights is taken before shards", () => ({
  repos: [{ ...shardedModel(), files: [...shardedModel().files, file("model.safetensors", 1000, true)] }],
}), async ({ settings }) => {
  const folder = await resolveModel("org/tiny", { settings });
  assert.deepEqual((await names(folder)).filter((name) => /safetensors/.test(name)), ["model.safetensors"]);
});

/** Ten places in the large file, in order, from a fixed seed. */
function tenPlaces(size: number): number[] {
  let state = 7;
  const places = Array.from({ length: 10 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 1 + state % (size - 2);
  });
  return places.sort((a, b) => a - b);
}

const cuts = tenPlaces(300_000);
hubTest("a download cut at ten random places ends whole, each byte fetched about once", () => ({
  ...repos(),
  fault: ({ origin, path, range }) => {
    if (origin === "hub" || path !== `/${hashOf(shardedModel().files.find((file) => file.path === BIG)!)}`) {
      return;
    }
    const start = Number(/\d+/.exec(range ?? "0")![0]);
    const next = cuts.find((place) => place > start);
    return next === undefined ? undefined : { cutAfter: next - start };
  },
}), async ({ hub, settings }) => {
  const folder = await resolveModel("org/tiny", { settings });
  await assertWhole(folder, hub.repos[0]);
  const requests = bigRequests(hub);
  assert.ok(requests.length > cuts.length, `${requests.length} requests`);
  const starts = requests.map(({ range }) => Number(/\d+/.exec(range ?? "0")![0]));
  assert.deepEqual(starts, starts.toSorted((a, b) => a - b));
  const sent = requests.reduce((sum, { bytes }) => sum + bytes, 0);
  // What a broken connection still held is lost: at most a few pieces at each cut.
  assert.ok(sent >= 300_000 && sent <= 300_000 * 1.25, `${sent} bytes sent of 300000`);
});

hubTest("an earlier start's bytes are kept, and counted as such", repos, async ({ hub, settings }) => {
  const stop = new AbortController();
  hub.options.fault = ({ path }) => path === `/${bigHash(hub)}` ? { stallAfter: 150_000 } : undefined;
  // When all is there but what the server keeps back.
  const onProgress = ({ done, total }: Progress) =>
    total! > 300_000 && done >= total! - 150_000 && stop.abort();
  const slow = { ...settings, stall: 10_000 };
  await assert.rejects(resolveModel("org/tiny", { settings: slow, onProgress, signal: stop.signal }), {
    name: "UserError",
    message: /stopped; what was fetched is kept/,
  });
  const partial = join(settings.cache, "models--org--tiny", "blobs", `${bigHash(hub)}.simper.incomplete`);
  const { size } = await Deno.stat(partial);
  assert.ok(size > 0 && size <= 150_000);
  hub.options.fault = undefined;
  const fetched: Progress[] = [];
  const folder = await resolveModel("org/tiny", {
    settings,
    onProgress: (progress) => fetched.push(progress),
  });
  await assertWhole(folder, hub.repos[0]);
  const missing = { what: "fetching org/tiny", done: 300_000 - size, total: 300_000 - size, unit: "bytes" };
  assert.deepEqual(fetched.at(-1), missing);
  assert.deepEqual(bigRequests(hub).map(({ range }) => range), [null, `bytes=${size}-`]);
});

/** A file that has begun to grow with these bytes. */
async function leftBehind(settings: HubSettings, hub: Hub, bytes: Uint8Array): Promise<void> {
  const blobs = join(settings.cache, "models--org--tiny", "blobs");
  await Deno.mkdir(blobs, { recursive: true });
  await Deno.writeFile(join(blobs, `${bigHash(hub)}.simper.incomplete`), bytes);
}

for (
  const [what, length] of [["damaged bytes", 1000], ["as many bytes, but others,", 300_000], [
    "too many",
    400_000,
  ]] as const
) {
  hubTest(`${what} of an earlier start are noticed and fetched again`, repos, async ({ hub, settings }) => {
    await leftBehind(settings, hub, new Uint8Array(length));
    await assertWhole(await resolveModel("org/tiny", { settings }), hub.repos[0]);
  });
}

hubTest("a server that knows no ranges sends the whole again", () => ({
  ...repos(),
  fault: () => ({ ignoreRange: true }),
}), async ({ hub, settings }) => {
  await leftBehind(settings, hub, hub.repos[0].files.find(({ path }) => path === BIG)!.bytes.slice(0, 5000));
  await assertWhole(await resolveModel("org/tiny", { settings }), hub.repos[0]);
  assert.ok(hub.seen.some(({ range }) => range === "bytes=5000-"));
});

hubTest("a server that begins anew and breaks off each time is given up", () => ({
  ...repos(),
  fault: ({ path }) => path.length === 65 ? { ignoreRange: true, cutAfter: 100_000 } : undefined,
}), async ({ hub, settings }) => {
  await assert.rejects(resolveModel("org/tiny", { settings: { ...settings, backoff: 1 } }), {
    name: "UserError",
    message:
      /safetensors: 10 tries did not come beyond \d+ of [23]00000 bytes\. The same command tries further/,
  });
  assert.ok(hub.seen.filter(({ origin }) => origin === "cdn").length <= 24);
});

hubTest("a download that is stopped leaves nothing running, and says what was kept", () => ({
  ...repos(),
  fault: ({ path }) => path.length === 65 ? { stallAfter: 50_000 } : undefined,
}), async ({ hub, folder, settings }) => {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-code-cache", "-A", "lib/cli/main.ts", "fetch", "org/tiny"],
    env: { HF_ENDPOINT: hub.endpoint, HF_HOME: folder, HF_HUB_CACHE: settings.cache, HF_TOKEN: "" },
    stderr: "piped",
    stdout: "null",
  }).spawn();
  const stalled = () => hub.seen.filter(({ bytes }) => bytes >= 50_000).length === 2;
  while (!stalled()) await new Promise((resolve) => setTimeout(resolve, 20));
  child.kill("SIGTERM");
  const { code, stderr } = await child.output();
  assert.equal(code, 130);
  assert.match(new TextDecoder().decode(stderr), /^stopped; what was fetched is kept/m);
  assert.deepEqual(await names(join(settings.cache, ".locks", "models--org--tiny")), []);
});

hubTest("a range that the server does not have begins the file anew", repos, async ({ hub, settings }) => {
  hub.options.fault = ({ range }) => range ? { status: 416 } : undefined;
  await leftBehind(settings, hub, new Uint8Array(5000));
  await assertWhole(await resolveModel("org/tiny", { settings }), hub.repos[0]);
  assert.ok(hub.seen.some(({ range }) => range === "bytes=5000-"));
});

for (const status of [429, 500, 503]) {
  hubTest(`status ${status} is tried again, on every kind of request`, repos, async ({ hub, settings }) => {
    const refused = new Set<string>();
    hub.options.fault = ({ origin, path, range }) => {
      const key = `${origin} ${path} ${range}`;
      if (refused.has(key)) return;
      refused.add(key);
      return { status };
    };
    await assertWhole(await resolveModel("org/tiny", { settings }), hub.repos[0]);
  });
}

hubTest("Retry-After is waited for", repos, async ({ hub, settings }) => {
  let first = true;
  hub.options.fault = ({ path }) => {
    if (!first || !path.startsWith("/api/models")) return;
    first = false;
    return { status: 429, headers: { "retry-after": "1" } };
  };
  const start = performance.now();
  await resolveModel("org/tiny", { settings });
  assert.ok(performance.now() - start >= 1000);
});

hubTest("a connection on which nothing comes is given up and made anew", repos, async ({ hub, settings }) => {
  let stalls = 2;
  hub.options.fault = ({ path }) =>
    path === `/${bigHash(hub)}` && stalls-- > 0 ? { stallAfter: 50_000 } : undefined;
  await assertWhole(await resolveModel("org/tiny", { settings }), hub.repos[0]);
  assert.equal(bigRequests(hub).length, 3);
  assert.ok(hub.bytesSent < neededBytes(hub.repos[0]) * 1.3);
});
