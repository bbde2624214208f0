/** The commands as processes: logs and results that nobody takes any more, and signals at every stage. */
import assert from "node:assert/strict";
import { figure } from "../../lib/report/entry_line.ts";
import { join } from "node:path";
import { SAME_SIGNAL } from "../../lib/cli/stop_answer.ts";
import { taskWords, trainProcess } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { hubTest, shardedModel, type World } from "../hub/fixtures.ts";
import { ls, run, weightsOf } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const isLinux = Deno.build.os === "linux";
const decoder = new TextDecoder();

const HOSTILE = '--prompts=["red\\u001b[31m\\u202eder"]';

/** A command of the program by its task's name, in a shell, where `$@` is it. */
async function shell(script: string, name: string, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", script, "sh", Deno.execPath(), ...taskWords(name), ...args],
    stdin: "null",
  }).output();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

Deno.test({
  name: "a run whose log or figures nobody takes goes on, and saves",
  ignore: !isLinux,
  fn: () =>
    withTemporaryFolder(async (folder) => {
      await run(join(folder, "expected"), ["--max_steps=2"]);
      const expected = await weightsOf(join(folder, "expected"));
      const ways = ['"$@" 2>/dev/full', '"$@" >/dev/full', '"$@" 2>&1 | true', '"$@" 2>&-', '"$@" >&-'];
      const ends = await Promise.all(ways.map(async (way, i) => {
        const out = join(folder, String(i));
        return {
          out,
          ...await shell(way, "train", `${GOLDEN}/run.yaml`, `--output_dir=${out}`, "--max_steps=2", HOSTILE),
        };
      }));
      for (const [i, { out, code, stderr }] of ends.entries()) {
        assert.equal(code, 0, `${ways[i]}: ${stderr}`);
        assert.doesNotMatch(stderr, /\n\s+at /, ways[i]);
        assert.deepEqual(await weightsOf(out), expected, ways[i]);
        assert.ok(ls(out).includes("all_results.json"), ways[i]);
      }
      // What a terminal would follow is written out, and progress shows what is logged.
      const shown = "prompt: red\\u001b[31m\\u202eder\n  before: ";
      assert.ok(ends[0].stdout.includes(shown), ends[0].stdout);
      assert.ok(
        (await Deno.readTextFile(join(ends[0].out, "README.md"))).includes("red\\u001b[31m\\u202eder\n"),
      );
      const log = (await Deno.readTextFile(join(ends[1].out, "metrics.jsonl"))).trimEnd().split("\n");
      for (const line of log) {
        const { step, loss, "rewards/accuracies": accuracy } = JSON.parse(line);
        const told = ends[1].stderr.split("\n").find((line) => line.startsWith(`step ${step}/2  `))!;
        assert.ok(told.includes(`  loss ${figure(loss)}  `), `${loss} in ${told}`);
        assert.ok(told.includes(`  rewards/accuracies ${figure(accuracy)}  `), `${accuracy} in ${told}`);
      }
      assert.match(
        ends[1].stderr,
        /^warning: standard output: cannot be written: No space left on device .*; the result is saved in/m,
      );
    }),
});

hubTest(
  "what cannot be printed is one line and status 1; a reader that has had enough is no failure",
  () => ({
    repos: [shardedModel()],
  }),
  async (world) => {
    if (!isLinux) return;
    const commands = [
      ["data", `${GOLDEN}/run.yaml`],
      ["plan", `${GOLDEN}/run.yaml`, "--device_memory=1GB"],
      ["fetch", "org/tiny"],
    ];
    for (const [name, ...args] of commands) {
      const full = await shell(`${exported(world)} "$@" >/dev/full`, name, ...args);
      assert.equal(full.code, 1, full.stderr);
      assert.match(full.stderr, /^error: standard output: cannot be written: No space left on device.*$/m);
      assert.doesNotMatch(full.stderr, /\n\s+at /);
      // The reader ends before anything comes.
      const closed = await shell(`${exported(world)} { "$@"; echo "status $?" >&2; } | true`, name, ...args);
      assert.match(closed.stderr, /^status 0$/m);
      assert.doesNotMatch(closed.stderr, /error|\n\s+at /);
    }
  },
);

/** The variables that lead a command to the loopback Hub, for a shell. */
const exported = (world: World) =>
  Object.entries(environment(world)).map(([name, value]) => `export ${name}='${value}';`).join(" ");
const environment = ({ hub, folder }: World) => ({
  HF_ENDPOINT: hub.endpoint,
  HF_HOME: folder,
  HF_TOKEN: hub.options.token ?? "",
  SIMPER_CACHE: join(folder, "simper"),
});

/** Sends a signal once `isThere`, and gives the status and what was said. */
async function stopped(
  name: string,
  args: string[],
  env: Record<string, string>,
  isThere: () => boolean,
  signal: Deno.Signal = "SIGINT",
) {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...taskWords(name), ...args],
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const output = child.output();
  for (let waited = 0; !isThere() && waited < 60_000; waited += 10) await pause(10);
  assert.ok(isThere(), `${name} never came to the place`);
  const start = performance.now();
  child.kill(signal);
  const { code, stderr } = await output;
  return { code, seconds: (performance.now() - start) / 1000, stderr: decoder.decode(stderr) };
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

hubTest("a signal ends fetching, tokenizing, planning and uploading at once, with status 130", () => ({
  repos: [shardedModel()],
  token: "hf_secretSecretSecret",
  user: "someone",
  fault: ({ origin, path }) => origin === "cdn" || path.includes("/commit/") ? { delay: 8000 } : undefined,
}), async (world) => {
  const { folder, hub } = world;
  const data = join(folder, "train.jsonl");
  await Deno.writeTextFile(data, (await Deno.readTextFile(`${GOLDEN}/pairs.jsonl`)).repeat(10_000));
  const slow = [`${GOLDEN}/run.yaml`, `--dataset_mixer={${data}: 1.0}`];
  const out = join(folder, "out");
  const cache = join(folder, "simper");
  const tokenizes = () => [...names(cache)].some((name) => name.endsWith(".tmp"));
  const asked = (part: string) => () =>
    hub.seen.some(({ path, origin }) => `${origin} ${path}`.includes(part));
  const cases: [name: string, args: string[], isThere: () => boolean, signal: Deno.Signal][] = [
    ["fetch", ["org/tiny"], asked("cdn "), "SIGTERM"],
    ["train", [...slow, "--model_name_or_path=org/tiny", `--output_dir=${out}`], asked("cdn "), "SIGINT"],
    ["data", slow, tokenizes, "SIGINT"],
    ["plan", [...slow, "--data"], tokenizes, "SIGTERM"],
    ["train", [...slow, `--output_dir=${out}`], tokenizes, "SIGTERM"],
    [
      "train",
      [`${GOLDEN}/run.yaml`, `--output_dir=${out}`, "--max_steps=1", "--push_to_hub"],
      asked("/commit/"),
      "SIGINT",
    ],
  ];
  for (const [name, args, isThere, signal] of cases) {
    const about = `${name} ${args.at(-1)} ${signal}`;
    hub.seen.length = 0;
    await Deno.remove(cache, { recursive: true }).catch(() => {});
    const { code, seconds, stderr } = await stopped(name, args, environment(world), isThere, signal);
    assert.equal(code, 130, `${about}: ${stderr}`);
    assert.match(stderr, /^(warning: )?stopping/m, about);
    assert.doesNotMatch(stderr, /error|\n\s+at /, about);
    assert.ok(seconds < 6, `${about}: ${seconds} s`);
  }
  assert.ok(ls(out).includes("all_results.json"), "what was to be uploaded is there");
});

/** Names of a folder and of those in it. */
function* names(folder: string): Iterable<string> {
  for (const name of ls(folder)) {
    yield name;
    yield* names(join(folder, name));
  }
}

Deno.test("a signal in a step that blocks is answered at once, with the time that it takes; a second one ends it", () =>
  withTemporaryFolder(async (folder) => {
    const out = join(folder, "out");
    const data = join(folder, "train.jsonl");
    await Deno.writeTextFile(data, (await Deno.readTextFile(`${GOLDEN}/pairs.jsonl`)).repeat(120));
    const child = trainProcess([
      `${GOLDEN}/run.yaml`,
      `--dataset_mixer={${data}: 1.0}`,
      `--output_dir=${out}`,
      "--max_steps=5",
      // One submission of some seconds.
      "--per_device_train_batch_size=120",
      "--gradient_accumulation_steps=1",
    ]).spawn();
    const stdout = child.stdout.cancel();
    const times: Record<string, number> = {};
    let log = "";
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      log += text;
      if (!times.told && log.includes("step 2/5")) {
        await pause(100);
        times.told = performance.now();
        child.kill("SIGINT");
      }
      if (!times.answered && log.includes("stopping")) {
        times.answered = performance.now();
        // What comes at once is the same signal.
        child.kill("SIGINT");
        await pause(SAME_SIGNAL + 50);
        child.kill("SIGINT");
      }
    }
    await stdout;
    const { code } = await child.status;
    times.ended = performance.now();
    assert.equal(code, 130, log);
    assert.match(
      log,
      /stopping after this step, 3 of 5, with a checkpoint(, which takes about \d:\d\d more)?; another/,
    );
    // The answer did not wait for the step, and neither did the end.
    assert.doesNotMatch(log, /step 3\/5/);
    assert.ok(times.ended - times.told < 2000, JSON.stringify(times));
    assert.ok(!ls(out).includes("checkpoint-3"));
  }));

Deno.test("a signal that comes twice at once, as to a process group under deno task, is one: the run ends with a checkpoint", () =>
  withTemporaryFolder(async (folder) => {
    const out = join(folder, "out");
    const child = trainProcess([`${GOLDEN}/run.yaml`, `--output_dir=${out}`, "--max_steps=5000"]).spawn();
    const stdout = child.stdout.cancel();
    let log = "";
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      const isFirst = !log.includes("step 2/") && (log + text).includes("step 2/");
      log += text;
      if (isFirst) { for (let i = 0; i < 2; i++) child.kill("SIGTERM"); }
    }
    await stdout;
    assert.equal((await child.status).code, 130, log);
    assert.match(log, /stopped after \d+ steps: the same command goes on from there/);
    assert.ok(ls(out).some((name) => name.startsWith("checkpoint-")));
  }));
