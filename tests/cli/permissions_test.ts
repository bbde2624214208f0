import assert from "node:assert/strict";
import { join } from "node:path";
import { type Finished, task, taskWith } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { hubTest, shardedModel } from "../hub/fixtures.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const { tasks, permissions } = JSON.parse(await Deno.readTextFile("deno.json"));
const commands = Object.entries(tasks as Record<string, { command: string }>);

Deno.test("no task has all permissions", () => {
  for (const [name, { command }] of commands) {
    assert.doesNotMatch(command, /(^|\s)(-A|--allow-all)(\s|$)/, name);
  }
  for (const [name, set] of Object.entries(permissions as Record<string, object>)) {
    assert.ok(!("all" in set), name);
  }
});

Deno.test("training starts no program, and SECURITY.md names each of its permissions and variables", async () => {
  const page = await Deno.readTextFile("SECURITY.md");
  const section = page.slice(page.indexOf("## Permissions"), page.indexOf("It starts no program"));
  assert.deepEqual(Object.keys(permissions.train).sort(), ["env", "net", "read", "sys", "write"]);
  for (const [name, values] of Object.entries(permissions.train)) {
    for (const word of [`--allow-${name}`, ...Array.isArray(values) ? values : []]) {
      assert.ok(section.includes(word), word);
    }
  }
});

Deno.test("the default training runs under the permissions of its task", () =>
  withTemporaryFolder(async (folder) => {
    const { status, stderr } = await task(
      "train",
      `--output_dir=${folder}`,
      "--max_steps=2",
      "--save_steps=1",
    );
    assert.equal(status, 0, stderr);
  }));

/** The command `name` with the permissions of its set but for one. */
async function without(
  missing: string,
  env: Record<string, string>,
  name: string,
  ...words: string[]
): Promise<Finished> {
  const given = Object.entries(permissions[name]).filter(([kind]) => kind !== missing)
    .map(([kind, values]) => `--allow-${kind}${values === true ? "" : `=${values}`}`);
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", ...given, "lib/cli/main.ts", name, ...words],
    env,
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  return { status: code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

hubTest(
  "each command says in one line which permission is missing, and which flag gives it",
  () => ({ repos: [shardedModel()] }),
  async ({ hub, folder }) => {
    let runs = 0;
    const run =
      () => [`${GOLDEN}/run.yaml`, `--output_dir=${join(folder, `${runs++}`)}`, "--log_level=error"];
    const fromHub = "--model_name_or_path=org/tiny";
    // They run at once, and some of them listen before they miss what they lack.
    const served = (model: string) => [model, "--port=0"];
    await Deno.writeTextFile(join(folder, "metrics.jsonl"), "");
    // Those of its set that a command cannot do without, each with words that want it.
    const wanted: Record<string, Record<string, string[]>> = {
      train: { read: run(), write: run(), net: [...run(), fromHub], env: run(), sys: run() },
      plan: { read: run(), write: [...run(), "--data"], net: [...run(), fromHub], env: run(), sys: run() },
      data: { read: run(), write: run(), net: [...run(), fromHub], env: run() },
      fetch: { read: ["org/tiny"], write: ["org/tiny"], net: ["org/tiny"], env: ["org/tiny"] },
      eval: {
        read: run(),
        write: [...run(), "--split=train", `--output=${folder}/e.json`],
        net: [...run(), fromHub],
        env: run(),
      },
      serve: {
        read: served("configs/tiny/model"),
        // Where votes are kept.
        write: served("org/tiny"),
        net: served("org/tiny"),
        env: served("configs/tiny/model"),
      },
      generate: {
        read: ["configs/tiny/model", "--prompt=Hi"],
        write: ["configs/tiny/model", "--prompt=Hi", `--output=${folder}/g.jsonl`],
        net: ["org/tiny", "--prompt=Hi"],
        env: ["org/tiny", "--prompt=Hi"],
      },
      watch: { read: [folder], net: [folder] },
      tune: { read: [join(folder, "metrics.jsonl")], write: [], env: [] },
      setup: { run: [] },
    };
    assert.deepEqual(Object.keys(wanted).sort(), Object.keys(permissions).sort());
    const env = {
      HF_ENDPOINT: hub.endpoint,
      HF_HOME: join(folder, "hub"),
      HF_HUB_CACHE: "",
    };
    for (const [name, words] of Object.entries(wanted)) {
      await Promise.all(
        Object.keys(words).map(async (missing) => {
          // What is found there need not be written.
          const cache = join(folder, `${name}-${missing}`);
          const { status, stdout, stderr } = await without(
            missing,
            { ...env, SIMPER_CACHE: cache },
            name,
            ...words[missing],
          );
          assert.deepEqual([status, stdout], [1, ""], `${name} without ${missing}`);
          const says =
            `^error: no permission for ${missing} access to \\S+ \\(.*\\): run Deno with --allow-${missing}\n$`;
          assert.match(stderr, new RegExp(says), `${name} without ${missing}: ${stderr}`);
        }),
      );
    }
  },
);

Deno.test("Dawn where no native code may be loaded is refused at once: nothing is fetched, and no lock file written", () =>
  withTemporaryFolder(async (folder) => {
    const lock = await Deno.readTextFile("deno.lock");
    const asked = "--webgpu_engine=dawn";
    // Nobody has it, and who looks for it is told so.
    const model = "org/no-such-model";
    const pairs = `--dataset_mixer={org/no-such-pairs: 1.0}`;
    const run = [`${GOLDEN}/run.yaml`, `--model_name_or_path=${model}`, pairs, `--output_dir=${folder}/out`];
    const words: Record<string, string[]> = {
      train: [...run, "--push_to_hub", "--hub_model_id=org/mine"],
      plan: [...run, "--data"],
      compare: [...run, "--seeds=[1]"],
      eval: [model, pairs],
      generate: [model, "--prompt=Hi"],
      serve: [model],
      tune: [],
    };
    await Promise.all(
      Object.entries(words).map(async ([name, words]) => {
        const { status, stdout, stderr } = await task(name, ...words, asked);
        assert.deepEqual([status, stdout], [2, ""], `${name}: ${stderr}`);
        assert.match(
          stderr,
          /^error: webgpu_engine: dawn is native code, .*`deno task dawn COMMAND.*`deno install`/,
          name,
        );
      }),
    );
    const { status, stderr } = await taskWith({ SIMPER_WEBGPU_ENGINE: "dawn" }, "tune");
    assert.equal(status, 2, stderr);
    assert.match(stderr, /^error: SIMPER_WEBGPU_ENGINE: dawn is native code/);
    assert.deepEqual([...Deno.readDirSync(folder)], []);
    assert.equal(await Deno.readTextFile("deno.lock"), lock);
  }));

Deno.test("train --open without the network says so, and trains", () =>
  withTemporaryFolder(async (folder) => {
    const words = [`${GOLDEN}/run.yaml`, "--open", "--max_steps=1", "--warmup_ratio=0"];
    const more = [`--output_dir=${folder}`, "--prompts=[]", "--log_level=warning"];
    const { status, stderr } = await without("net", {}, "train", ...words, ...more);
    assert.equal(status, 0, stderr);
    assert.match(
      stderr,
      /^warning: --open: no live report: no permission for net access to 127\.0\.0\.1 \(.*\): .*--allow-net$/m,
    );
    assert.doesNotMatch(stderr, /^error/m);
  }));
