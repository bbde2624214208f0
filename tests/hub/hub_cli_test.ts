/** The Hub through the command line, as a user meets it: with the permissions that deno.json lists. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { taskWith } from "../command.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN } from "../golden_run.ts";
import { file, hubTest, NEEDED, neededBytes, shardedModel, type World } from "./fixtures.ts";
import { hashOf, type HubFile, type HubRepo } from "./server.ts";

const TOKEN = "hf_secretSecretSecret";

/** The variables that lead a task to the loopback Hub. */
const environment = ({ hub, folder }: World) => ({
  HF_ENDPOINT: hub.endpoint,
  HF_HOME: folder,
  HF_HUB_CACHE: "",
  HF_TOKEN: hub.options.token ?? "",
  HF_HUB_OFFLINE: "",
  SIMPER_CACHE: join(folder, "simper"),
});

const fetchTask = (world: World, ...args: string[]) => taskWith(environment(world), "fetch", ...args);

const options = () => ({ repos: [shardedModel()], token: TOKEN });

hubTest("simper fetch prints the folder, and progress beside it", options, async (world) => {
  const { status, stdout, stderr } = await fetchTask(world, "org/tiny");
  assert.equal(status, 0, stderr);
  const names = (await Array.fromAsync(Deno.readDir(stdout.trim()))).map(({ name }) => name).sort();
  assert.deepEqual(names, NEEDED);
  assert.match(stderr, /^fetched org\/tiny: 500\.0 kB, 2 files$/m);
  assert.doesNotMatch(stdout + stderr, new RegExp(TOKEN));
  const again = await fetchTask(world, "org/tiny");
  assert.deepEqual([again.stdout, again.stderr], [stdout, ""]);
});

hubTest("two processes that fetch the same repository end with one whole copy", () => ({
  ...options(),
  fault: ({ origin }) => origin === "cdn" ? { delay: 500 } : undefined,
}), async (world) => {
  const [one, two] = await Promise.all([fetchTask(world, "org/tiny"), fetchTask(world, "org/tiny")]);
  assert.deepEqual([one.status, two.status], [0, 0], one.stderr + two.stderr);
  assert.equal(one.stdout, two.stdout);
  for (const { path, bytes } of shardedModel().files.filter(({ path }) => NEEDED.includes(path))) {
    assertEqualBytes(await Deno.readFile(join(one.stdout.trim(), path)), bytes);
  }
  assert.ok(world.hub.bytesSent <= neededBytes(shardedModel()), `${world.hub.bytesSent} bytes`);
});

hubTest("wrong usage of fetch has status 2", options, async (world) => {
  for (
    const [args, says] of [
      [[], /expected: simper fetch OWNER\/NAME/],
      [["a/b/c"], /a\/b\/c: no name of the Hub/],
      [["org/tiny", "--repo_type=space"], /--repo_type: expected model or dataset, found space/],
      [["org/tiny", "--reop_type=model"], /--reop_type: unknown option: did you mean --repo_type/],
    ] as const
  ) {
    const { status, stdout, stderr } = await fetchTask(world, ...args);
    assert.deepEqual([status, stdout], [2, ""], stderr);
    assert.match(stderr, /^error: /);
    assert.match(stderr, says);
    assert.doesNotMatch(stderr, /\n\s+at /);
  }
});

hubTest("what cannot be had has status 1 and no stack trace", options, async (world) => {
  const { status, stdout, stderr } = await fetchTask(world, "org/tniy");
  assert.deepEqual([status, stdout], [1, ""]);
  assert.match(stderr, /^error: org\/tniy: no such folder here; model org\/tniy: no such repository/);
  assert.doesNotMatch(stderr, /\n\s+at /);
});

async function files(folder: string, names?: string[]): Promise<HubFile[]> {
  const found = names ?? (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
  return await Promise.all(found.map(async (path) => ({
    path,
    bytes: await Deno.readFile(join(folder, path)),
    lfs: path.endsWith(".safetensors"),
  })));
}

/** The golden model and its pairs, on the Hub. */
async function goldenRepos(): Promise<HubRepo[]> {
  const [pairs] = await files(GOLDEN, ["pairs.jsonl"]);
  return [
    { type: "model", name: "org/golden", files: await files(`${GOLDEN}/untied`) },
    {
      type: "dataset",
      name: "org/pairs",
      files: [{ ...pairs, path: "data/train.jsonl" }, file("README.md", "#")],
    },
  ];
}

hubTest("a run from the Hub trains as from folders, and its result goes to the Hub", () => ({
  token: TOKEN,
  user: "someone",
}), async (world) => {
  const { hub, folder } = world;
  hub.repos.push(...await goldenRepos());
  const train = (out: string, ...overrides: string[]) =>
    taskWith(
      environment(world),
      "train",
      `${GOLDEN}/run.yaml`,
      "--max_steps=2",
      `--output_dir=${join(folder, out)}`,
      ...overrides,
    );
  const local = await train("local");
  assert.equal(local.status, 0, local.stderr);
  assert.equal(hub.seen.length, 0);
  const remote = await train(
    "remote",
    "--model_name_or_path=org/golden@main",
    "--dataset_mixer={org/pairs: 1.0}",
    "--push_to_hub",
    "--hub_model_id=aligned",
    `--hub_token=${TOKEN}`,
  );
  assert.equal(remote.status, 0, remote.stderr);
  const weights = await Deno.readFile(join(folder, "local", "model.safetensors"));
  assertEqualBytes(await Deno.readFile(join(folder, "remote", "model.safetensors")), weights);

  const result = hub.repos.find(({ name }) => name === "someone/aligned")!.files;
  const stored = result.find(({ path }) => path === "model.safetensors")!;
  assertEqualBytes(stored.bytes, weights);
  assert.match(remote.stderr, /uploaded to http.*\/someone\/aligned/);
  const card = new TextDecoder().decode(result.find(({ path }) => path === "README.md")!.bytes);
  assert.match(card, /^base_model: org\/golden$/m);
  assert.match(card, /model_name_or_path: org\/golden@main/);
  for (const { path, bytes } of result) {
    assert.ok(!new TextDecoder().decode(bytes).includes(TOKEN), `the token is in ${path}`);
  }
  assert.doesNotMatch(remote.stdout + remote.stderr, new RegExp(TOKEN));
  assert.equal(hashOf(stored), hashOf({ ...stored, bytes: weights }));
});

hubTest("an upload that fails has status 1, and the result stays", () => ({
  token: TOKEN,
  user: "someone",
  fault: ({ path }) => path.includes("/commit/") ? { status: 500 } : undefined,
}), async (world) => {
  const out = join(world.folder, "out");
  const { status, stderr } = await taskWith(
    environment(world),
    "train",
    `${GOLDEN}/run.yaml`,
    "--max_steps=1",
    `--output_dir=${out}`,
    "--push_to_hub",
  );
  assert.equal(status, 1);
  assert.match(stderr, /error: push_to_hub: .*the result is in .*out, and `hf upload someone\/out/);
  assert.ok((await Deno.stat(join(out, "model.safetensors"))).size > 0);
});

hubTest("mistakes of a configuration come before anything is asked of the Hub", options, async (world) => {
  const { status, stderr } = await taskWith(
    environment(world),
    "train",
    `${GOLDEN}/run.yaml`,
    "--model_name_or_path=org/tiny",
    "--learning_rate=fast",
  );
  assert.equal(status, 2);
  assert.match(stderr, /learning_rate/);
  assert.equal(world.hub.seen.length, 0);
});
