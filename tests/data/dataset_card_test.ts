/** Configurations in the README.md of a data set, by the rules of `datasets.load_dataset`. */
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseConfig } from "../../lib/config/parse.ts";
import { dataFilesOf } from "../../lib/data/dataset_card.ts";
import { globOf } from "../../lib/data/glob.ts";
import { readMixer } from "../../lib/data/read.ts";
import { filesOf } from "../../lib/data/splits.ts";
import { resolveDataset, resolveSources } from "../../lib/hub/hub.ts";
import { taskWith } from "../command.ts";
import { file, hubTest } from "../hub/fixtures.ts";
import type { HubRepo } from "../hub/server.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const CARD = `---
license: mit
configs:
- config_name: raw
  data_files: everything.jsonl
- config_name: english
  default: true
  data_files:
  - split: train
    path: data/en/**/part-*.jsonl
  - split: test_prefs
    path: [data/en/b.jsonl, "data/en/[!b].jsonl"]
- config_name: listed
  data_files: ["data/en/?.jsonl", everything.jsonl]
---

# Pairs
configs: nothing below the header counts
`;
const PATHS = [
  "everything.jsonl",
  "train.jsonl",
  "data/en/a.jsonl",
  "data/en/b.jsonl",
  "data/en/part-2.jsonl",
  "data/en/old/deep/part-1.jsonl",
  "data/en/.old/part-3.jsonl",
];
const header = (yaml: string) => `---\n${yaml}\n---\n`;

const rejects = (promise: Promise<unknown>, message: RegExp) =>
  assert.rejects(promise, { name: "UserError", message });

async function writeSet(folder: string, card = CARD): Promise<void> {
  for (const path of PATHS) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), `{"file": "${path}"}\n`);
  }
  await writeFile(join(folder, "README.md"), card);
}

const repo = (card = CARD): HubRepo => ({
  type: "dataset",
  name: "org/pairs",
  files: [
    ...PATHS.map((path) => file(path, `{"file": "${path}"}\n`, path.includes("part"))),
    file("README.md", card),
    file("large.parquet", 50_000, true),
  ],
});

Deno.test("a folder's splits are those of its README.md, with globs, in order", () =>
  withTemporaryFolder(async (folder) => {
    await writeSet(folder);
    const files = async (split: string, config?: string) =>
      (await filesOf(folder, split, config)).map((path) => path.slice(folder.length + 1));
    const english = {
      train: ["data/en/old/deep/part-1.jsonl", "data/en/part-2.jsonl"],
      test_prefs: ["data/en/b.jsonl", "data/en/a.jsonl"],
    };
    for (const config of [undefined, "english"]) {
      assert.deepEqual(await files("train", config), english.train);
      assert.deepEqual(await files("test_prefs", config), english.test_prefs);
    }
    assert.deepEqual(await files("train", "raw"), ["everything.jsonl"]);
    assert.deepEqual(await files("train", "listed"), [
      "data/en/a.jsonl",
      "data/en/b.jsonl",
      "everything.jsonl",
    ]);
    await rejects(
      files("test_pref"),
      /expected the split "test_pref", found the splits train, test_prefs in README\.md \(did you mean test_prefs\?\): set dataset_splits/,
    );
    await rejects(
      files("train", "englisch"),
      /expected the configuration "englisch" \(dataset_configs\), found raw, english, listed: did you mean english\?/,
    );
    const rows = readMixer([{ path: folder, share: 0.5, config: "listed" }], "train");
    assert.deepEqual((await Array.fromAsync(rows)).map(({ row }) => row.file), ["data/en/a.jsonl"]);
  }));

Deno.test("a README.md without data files leaves the splits to the names of files", () =>
  withTemporaryFolder(async (folder) => {
    const cards = [
      "# no header",
      header("license: mit"),
      header("configs:\n- config_name: default"),
      "---\nnot closed",
    ];
    for (const card of cards) {
      await writeSet(folder, card);
      assert.deepEqual(await filesOf(folder, "train", "default"), [join(folder, "train.jsonl")]);
      await rejects(
        filesOf(folder, "train", "en"),
        /expected the configuration "en" \(dataset_configs\), found none/,
      );
    }
  }));

Deno.test("without a default, the only configuration or the one named so is meant, and several must be told apart", () => {
  const one = (name: string, files = "a.jsonl") => `- config_name: ${name}\n  data_files: ${files}`;
  const splits = (yaml: string, config?: string) => dataFilesOf(header(`configs:\n${yaml}`), config, "set");
  assert.deepEqual([...splits(one("only"))!.splits], [["train", ["a.jsonl"]]]);
  assert.deepEqual([...splits(`${one("x")}\n${one("default", "b.jsonl")}`)!.splits], [["train", [
    "b.jsonl",
  ]]]);
  assert.throws(() => splits(`${one("x")}\n${one("y")}`), {
    name: "UserError",
    message: /several and none is the default: set dataset_configs to one of x, y/,
  });
});

Deno.test("a header of another form is refused with what was expected", () => {
  const refuses = (yaml: string, message: RegExp) =>
    assert.throws(() => dataFilesOf(header(yaml), undefined, "set"), { name: "UserError", message });
  refuses("configs: [", /^dataset_mixer: set: README\.md: the header is not valid YAML: /);
  refuses("configs: 7", /configs: expected a list of mappings, found 7/);
  const files = (value: string) => `configs:\n- config_name: a\n  data_files: ${value}`;
  refuses(files("7"), /configs: a: data_files: expected a path, .* found 7/);
  refuses(files("[]"), /data_files: expected a path, .* found \[\]/);
  refuses(files("[{split: train}]"), /data_files: expected a path, .* found an object/);
  refuses(files("[{split: t, path: a}, {split: t, path: b}]"), /the split "t" is given twice/);
});

Deno.test("a path that leaves the data set, or is no file of data, stands for nothing", () =>
  withTemporaryFolder(async (folder) => {
    const set = join(folder, "set");
    await mkdir(set);
    await writeFile(join(folder, "secret.jsonl"), "{}\n");
    const outside = [
      "../secret.jsonl",
      "../*",
      join(folder, "secret.jsonl"),
      "https://host/a.jsonl",
      ".git/*",
    ];
    for (const path of outside) {
      await writeSet(set, header(`configs:\n- data_files: ${JSON.stringify(path)}`));
      await rejects(
        filesOf(set, "train"),
        /README\.md: expected files ".*" of the split "train", found none/,
      );
    }
    await writeSet(set, header("configs:\n- data_files: README.md"));
    await rejects(filesOf(set, "train"), /expected data files .*, found "README\.md"/);
  }));

Deno.test("globs match as those of Python's file systems do", () => {
  const all = ["a", "ab", "b.x", "d/a", "d/e/a", "d/e/f.x", "[a]", "日.x"];
  const found = (glob: string) => all.filter(globOf(glob)).join(" ");
  assert.equal(found("*"), "a ab b.x [a] 日.x");
  assert.equal(found("**"), all.join(" "));
  assert.equal(found("**/a"), "a d/a d/e/a");
  assert.equal(found("d/**/a"), "d/a d/e/a");
  assert.equal(found("./d/*"), "d/a");
  assert.equal(found("?.x"), "b.x 日.x");
  assert.equal(found("[a-c]*"), "a ab b.x");
  assert.equal(found("[!a-c]*"), "[a] 日.x");
  assert.equal(found("b+x"), "");
  assert.equal(globOf("*a".repeat(40) + "*b")("a".repeat(5000)), false);
});

Deno.test("dataset_configs names one configuration a set, and dataset_mixture has its own", () => {
  const parse = (text: string) => parseConfig(`model_name_or_path: m\n${text}`, "run.yaml").config;
  const mixer = "dataset_mixer: {a: 1, b: 1}\n";
  assert.deepEqual(parse(`${mixer}dataset_configs: [default, en]`).datasetConfigs, ["default", "en"]);
  assert.equal(parse(mixer).datasetConfigs, undefined);
  assert.throws(
    () => parse(`${mixer}dataset_configs: [en]`),
    /dataset_configs: expected a configuration for each of the 2 data sets of dataset_mixer, found 1/,
  );
  const mixture = parse("dataset_mixture: {datasets: [{id: a, config: en}, {id: b}]}");
  assert.deepEqual(mixture.datasetConfigs, ["en", "default"]);
  assert.equal(parse("dataset_mixture: {datasets: [{id: a}, {id: b}]}").datasetConfigs, undefined);
});

hubTest("of a set on the Hub, the files that its README.md names are fetched", () => ({
  repos: [repo()],
}), async ({ settings, hub }) => {
  const fetched = async (folder: string) =>
    (await Array.fromAsync(Deno.readDir(join(folder, "data/en")))).map(({ name }) => name).sort();
  const folder = await resolveDataset("org/pairs", { settings, splits: ["train"] });
  assert.deepEqual(await fetched(folder), ["old", "part-2.jsonl"]);
  assert.ok(hub.seen.every(({ path }) => !path.includes("large.parquet")));
  await resolveDataset("org/pairs", { settings, config: "english" });
  assert.deepEqual(await fetched(folder), ["a.jsonl", "b.jsonl", "old", "part-2.jsonl"]);

  const { config } = parseConfig(
    `model_name_or_path: ${folder}\nfrom_scratch: true\ndataset_mixer: {org/pairs: 1}\ndataset_configs: [raw]`,
    "run.yaml",
  );
  const offline = { ...settings, offline: true };
  await rejects(resolveSources(config, { settings: offline }), /HF_HUB_OFFLINE is set .*lacks train/);
  const { mixer } = await resolveSources(config, { settings });
  assert.deepEqual(mixer, [{ path: folder, share: 1, config: "raw" }]);
  const rows = await Array.fromAsync(readMixer(mixer, "train"));
  assert.deepEqual(rows.map(({ row }) => row.file), ["everything.jsonl"]);
  // A part of what a split has is not taken for the whole.
  await Deno.remove(join(folder, "everything.jsonl"));
  await rejects(resolveSources(config, { settings: offline }), /lacks train/);
});

hubTest("the fetch task takes the name of a configuration", () => ({
  repos: [repo()],
}), async ({ settings, hub }) => {
  const env = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: settings.cache };
  const args = ["org/pairs", "--repo_type=dataset"];
  const { status, stdout, stderr } = await taskWith(env, "fetch", ...args, "--config=raw");
  assert.equal(status, 0, stderr);
  assert.ok((await Deno.stat(join(stdout.trim(), "everything.jsonl"))).isFile);
  const wrong = await taskWith(env, "fetch", ...args, "--config=ray");
  assert.equal(wrong.status, 1);
  assert.match(wrong.stderr, /^error: .*found raw, english, listed: did you mean raw\?\n$/m);
});
