/** The cache, shared with Python's huggingface_hub and between processes; data sets and their splits. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { hubSettings, resolveDataset, resolveModel } from "../../lib/hub/hub.ts";
import { withLock } from "../../lib/hub/lock.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { file, hubTest, neededBytes, shardedModel } from "./fixtures.ts";
import type { HubRepo } from "./server.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** Writes a snapshot as huggingface_hub's guide of its cache lays it out. */
async function pythonCache(cache: string, name: string, files: Record<string, string>): Promise<string> {
  const folder = join(cache, name);
  const snapshot = join(folder, "snapshots", COMMIT);
  await Deno.mkdir(join(folder, "refs"), { recursive: true });
  await Deno.mkdir(join(folder, "blobs"), { recursive: true });
  await Deno.writeTextFile(join(folder, "refs", "main"), COMMIT);
  for (const [i, [path, text]] of Object.entries(files).entries()) {
    await Deno.mkdir(join(snapshot, dirname(path)), { recursive: true });
    await Deno.writeTextFile(join(folder, "blobs", `blob${i}`), text);
    const up = "../".repeat(2 + path.split("/").length - 1);
    await Deno.symlink(`${up}blobs/blob${i}`, join(snapshot, path));
  }
  return snapshot;
}

hubTest("what Python fetched is found offline", () => ({}), async ({ hub, settings }) => {
  const offline = { ...settings, offline: true };
  const model = await pythonCache(settings.cache, "models--org--tiny", {
    "config.json": "{}",
    "tokenizer.json": "{}",
    "model.safetensors": "weights",
    "README.md": "# A model",
  });
  const data = await pythonCache(settings.cache, "datasets--org--pairs", {
    "data/train_prefs-00000-of-00001.parquet": "rows",
  });
  assert.equal(await resolveModel("org/tiny", { settings: offline }), model);
  assert.equal(await resolveModel(`org/tiny@${COMMIT}`, { settings: offline }), model);
  assert.equal(await resolveDataset("org/pairs", { settings: offline, splits: ["train_prefs"] }), data);
  await assert.rejects(
    resolveDataset("org/pairs", { settings: offline, splits: ["train_prefs", "test_prefs"] }),
    /lacks test_prefs of dataset org\/pairs/,
  );
  assert.equal(hub.seen.length, 0);
});

hubTest("a blob of the cache that was cut short is fetched again, linked or not", () => ({
  repos: [shardedModel()],
}), async ({ hub, settings }) => {
  const folder = await resolveModel("org/tiny", { settings });
  const path = join(folder, "model-00001-of-00002.safetensors");
  const whole = await Deno.readFile(path);
  const blob = await Deno.realPath(path);
  for (const isLinked of [true, false]) {
    await Deno.truncate(blob, whole.length - 1);
    if (!isLinked) await Deno.remove(path);
    const sent = hub.bytesSent;
    await resolveModel("org/tiny", { settings });
    assert.equal(hub.bytesSent - sent, whole.length);
    assert.deepEqual(await Deno.readFile(path), whole);
  }
});

hubTest("what Python fetched of the same commit is not fetched again", () => ({
  repos: [shardedModel()],
}), async ({ hub, settings }) => {
  // Python names blobs as the Hub does, so the cache that is left here is one that Python would have left.
  const folder = await resolveModel("org/tiny", { settings });
  const sent = hub.bytesSent;
  await Deno.remove(join(folder, "config.json"));
  await resolveModel("org/tiny", { settings });
  assert.equal(hub.bytesSent, sent);
  assert.equal(await Deno.readTextFile(join(folder, "config.json")), '{"model_type": "llama"}');
});

function dataset(): HubRepo {
  const paths = [
    "train_prefs-00000-of-00002",
    "train_prefs-00001-of-00002",
    "test_prefs-00000-of-00001",
    "train_sft",
  ];
  return {
    type: "dataset",
    name: "org/pairs",
    files: [
      ...paths.map((path, i) => file(`data/${path}.parquet`, 1000 + i, true)),
      file("README.md", "# Pairs"),
      file(".gitattributes", "*.parquet lfs"),
    ],
  };
}

hubTest(
  "of a data set, the files of the splits are fetched",
  () => ({ repos: [dataset()] }),
  async ({ settings }) => {
    const splits = ["train_prefs", "test_prefs"];
    const folder = await resolveDataset("org/pairs", { settings, splits });
    assert.equal(dirname(dirname(folder)), join(settings.cache, "datasets--org--pairs"));
    const found = await Array.fromAsync(Deno.readDir(join(folder, "data")));
    assert.deepEqual(
      found.map(({ name }) => name).sort(),
      dataset().files.slice(0, 3).map(({ path }) => path.slice("data/".length)).sort(),
    );
    const first = dataset().files[0];
    assertEqualBytes(await Deno.readFile(join(folder, first.path)), first.bytes);
    assert.match(await Deno.readLink(join(folder, first.path)), /^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/);
  },
);

hubTest("a split that is not there: those that are", () => ({ repos: [dataset()] }), async ({ settings }) => {
  const error = await resolveDataset("org/pairs", { settings, splits: ["train_pref"] }).catch((error) =>
    error
  );
  assert.ok(error instanceof UserError);
  assert.match(error.message, /train_prefs.*test_prefs.*train_sft.*did you mean train_prefs\?/);
});

hubTest("two at once fetch every byte once", () => ({
  repos: [shardedModel()],
  fault: ({ origin }) => origin === "cdn" ? { delay: 100 } : undefined,
}), async ({ hub, settings }) => {
  const messages: string[] = [];
  const log = (_: string, message: string) => void messages.push(message);
  const folders = await Promise.all([1, 2, 3].map(() => resolveModel("org/tiny", { settings, log })));
  assert.equal(new Set(folders).size, 1);
  assert.match(messages[0], /another process is fetching it; waiting for .*simper\.lock/);
  // Two files of the same content are one.
  assert.ok(hub.bytesSent <= neededBytes(hub.repos[0]), `${hub.bytesSent} bytes`);
});

Deno.test("a lock left by a process that was killed does not hold for ever", () =>
  withTemporaryFolder(async (folder) => {
    const path = join(folder, "locks", "simper.lock");
    await Deno.mkdir(dirname(path));
    await Deno.writeTextFile(path, "");
    let waited = 0;
    const result = await withLock(path, () => Promise.resolve(7), { onWait: () => waited++, stale: 300 });
    assert.deepEqual([result, waited], [7, 1]);
    await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
  }));

Deno.test("settings are those of Python's huggingface_hub", () =>
  withTemporaryFolder(async (folder) => {
    const names = ["HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "HF_HUB_OFFLINE"];
    const before = [...names, "XDG_CACHE_HOME", "HOME"].map((name) => [name, Deno.env.get(name)] as const);
    try {
      for (const [name] of before) Deno.env.delete(name);
      Deno.env.set("HOME", "/home/someone");
      const standard = await hubSettings();
      assert.equal(standard.endpoint, "https://huggingface.co");
      assert.equal(standard.cache, "/home/someone/.cache/huggingface/hub");
      assert.deepEqual([standard.token, standard.offline], [undefined, false]);
      Deno.env.set("XDG_CACHE_HOME", "/xdg");
      assert.equal((await hubSettings()).cache, "/xdg/huggingface/hub");

      Deno.env.set("HF_HOME", folder);
      Deno.env.set("HF_ENDPOINT", "http://mirror/");
      Deno.env.set("HF_HUB_OFFLINE", "yes");
      await Deno.writeTextFile(join(folder, "token"), "hf_file\n");
      const { endpoint, cache, token, offline } = await hubSettings();
      assert.deepEqual([endpoint, cache, token, offline], [
        "http://mirror",
        join(folder, "hub"),
        "hf_file",
        true,
      ]);

      Deno.env.set("HF_TOKEN", " hf_env ");
      Deno.env.set("HF_HUB_CACHE", "~/hub");
      const changed = await hubSettings();
      assert.deepEqual([changed.token, changed.cache], ["hf_env", "/home/someone/hub"]);
    } finally {
      for (const [name, value] of before) {
        value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
      }
    }
  }));
