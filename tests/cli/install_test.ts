/** The three ways to have the program, each from an empty folder, to a model that was trained. */
import assert from "node:assert/strict";
import { delimiter, dirname, join, resolve } from "node:path";
import { pack } from "../../lib/cli/npm/pack.ts";
import { VERSION } from "../../lib/program/version.ts";
import type { Finished } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { ls } from "../in_process.ts";
import { serveRepository } from "../serve_repository.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** A step on two pairs of the tiny model: the way there is what is looked at. */
const A_STEP = [
  ...["--max_steps=1", "--per_device_train_batch_size=2", "--warmup_ratio=0", "--save_strategy=no"],
  ...["--do_eval=false", "--eval_on_start=false", "--prompts=[]", "--log_level=warning"],
];
const decoder = new TextDecoder();

interface Place {
  /** A folder with nothing in it. */
  empty: string;
  /** A command in that folder; it must end well. */
  run(command: string, ...args: string[]): Promise<Finished>;
  env: Record<string, string>;
}

/** Caches of its own, but for the npm packages that this machine has already. */
async function place(folder: string): Promise<Place> {
  const [empty, deno] = [join(folder, "empty"), join(folder, "deno")];
  await Deno.mkdir(empty);
  await Deno.mkdir(deno);
  const info = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  await Deno.symlink(join(JSON.parse(decoder.decode(info.stdout)).denoDir, "npm"), join(deno, "npm"));
  const env = {
    DENO_DIR: deno,
    DENO_INSTALL_ROOT: join(folder, "installed"),
    SIMPER_CACHE: join(folder, "cache"),
    // As on a machine where this Deno is installed.
    PATH: `${dirname(Deno.execPath())}${delimiter}${Deno.env.get("PATH")}`,
  };
  return {
    empty,
    env,
    run: async (command, ...args) => {
      const output = await new Deno.Command(command, { args, env, cwd: empty, stdin: "null" }).output();
      const [stdout, stderr] = [decoder.decode(output.stdout), decoder.decode(output.stderr)];
      assert.equal(output.code, 0, `${command} ${args.join(" ")}: ${stderr}`);
      return { status: output.code, stdout, stderr };
    },
  };
}

/** The default run has left its model in the user's folder, and its sources elsewhere. */
function assertTrained({ empty }: Place, also: string[] = []): void {
  assert.deepEqual(ls(empty), ["out", ...also].sort());
  assert.ok(ls(join(empty, "out", "tiny")).includes("model.safetensors"));
}

const test = (name: string, body: (place: Place, folder: string) => Promise<void>) =>
  Deno.test({
    name,
    // The commands of both are scripts of a shell there.
    ignore: Deno.build.os === "windows",
    fn: () => withTemporaryFolder(async (folder) => await body(await place(folder), folder)),
  });

/** What README says to install it with. */
const PERMISSIONS = [
  "--allow-read",
  "--allow-write",
  "--allow-net",
  "--allow-env=HOME,USERPROFILE,SIMPER_*,HF_*,XDG_*,LOG_*,TERM,OMPI_*,PMI*,SLURM_*,FLUX_*,MESA_*,DRI_*,RANK,WORLD_*",
  "--allow-sys=systemMemoryInfo,statfs,hostname",
];

test("deno install from a URL gives a program that trains", async (place, folder) => {
  await using server = serveRepository();
  await place.run(
    Deno.execPath(),
    ...["install", "--global", "--name=simper", "--unstable-worker-options", "--unstable-no-legacy-abort"],
    ...[`--allow-import=${server.host}`, ...PERMISSIONS, `http://${server.host}/lib/cli/main.ts`],
  );
  const simper = join(folder, "installed", "bin", "simper");
  assert.equal((await place.run(simper, "--version")).stdout, `simper ${VERSION}\n`);
  const { stdout } = await place.run(simper, "train", ...A_STEP);
  assert.match(stdout, /^saved in out\/tiny$/m);
  assertTrained(place);
  const shipped = join(folder, "cache", "shipped", VERSION, "configs");
  assert.deepEqual(ls(shipped), ["tiny", "tiny.yaml"]);

  // What was damaged since is fetched again.
  await Deno.truncate(join(shipped, "tiny", "model", "tokenizer.json"), 1000);
  await place.run(simper, "plan", "--device_memory=1GB");
  assert.equal((await Deno.stat(join(shipped, "tiny", "model", "tokenizer.json"))).size, 53_980);
});

test("what was installed from a URL is whole: it runs when the server is gone", async (place, folder) => {
  const server = serveRepository();
  await place.run(
    Deno.execPath(),
    ...["install", "--global", "--name=simper", "--unstable-worker-options", "--unstable-no-legacy-abort"],
    ...[`--allow-import=${server.host}`, ...PERMISSIONS, `http://${server.host}/lib/cli/main.ts`],
  );
  await server[Symbol.asyncDispose]();
  const data = join(folder, "data");
  await Deno.mkdir(data);
  await Deno.copyFile(`${GOLDEN}/pairs.jsonl`, join(data, "train.jsonl"));
  const { stderr } = await place.run(
    join(folder, "installed", "bin", "simper"),
    ...["train", resolve(GOLDEN, "run.yaml"), "--open", ...A_STEP, `--dataset_mixer={${data}: 1.0}`],
    ...[`--model_name_or_path=${resolve(GOLDEN, "untied")}`, "--output_dir=out"],
  );
  // Deno tells of a thread's module that it cannot load, and --open of a report that it cannot serve.
  assert.doesNotMatch(stderr, /worker|live report/);
});

test("the npm package gives a program that trains, and that signals reach", async (place, folder) => {
  const built = join(folder, "built");
  await pack(built, Deno.version.deno);
  await place.run("npm", "pack", "--silent", `--pack-destination=${folder}`, built);
  await place.run("npm", "install", "--silent", "--no-audit", join(folder, `simper-${VERSION}.tgz`));
  assert.equal((await place.run("npx", "simper", "--version")).stdout, `simper ${VERSION}\n`);
  // A command that shares another's permissions.
  assert.match((await place.run("npx", "simper", "merge", "--help")).stdout, /^usage: simper merge/);
  const { stderr } = await place.run("npx", "simper", "train", ...A_STEP);
  assert.doesNotMatch(stderr, /experimental|Download|lockfile/);
  assertTrained(place, ["node_modules", "package-lock.json", "package.json"]);

  const simper = join(place.empty, "node_modules", ".bin", "simper");
  const start = (...args: string[]) =>
    new Deno.Command(simper, {
      args,
      env: place.env,
      cwd: place.empty,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
  const wrong = start("trian");
  assert.match(await new Response(wrong.stderr).text(), /did you mean train\?/);
  assert.equal((await wrong.status).code, 2);
  const child = start("train", ...A_STEP, "--max_steps=1000", "--logging_steps=1");
  const log = new Response(child.stderr).text();
  const metrics = join(place.empty, "out", "tiny", "metrics.jsonl");
  const isStepping = () => Deno.readTextFile(metrics).then((text) => /"step":2,/.test(text), () => false);
  while (!await isStepping()) await new Promise((resolve) => setTimeout(resolve, 50));
  child.kill("SIGTERM");
  assert.equal((await child.status).code, 130, await log);
});

test(
  "the npm package gives Dawn its permission and its lock file, however it is asked for",
  async (place, folder) => {
    const npm = join(folder, "lib", "cli", "npm");
    const deno = join(folder, "node_modules", "deno");
    await Promise.all([npm, deno].map((path) => Deno.mkdir(path, { recursive: true })));
    await Deno.copyFile("lib/cli/npm/simper.mjs", join(npm, "simper.mjs"));
    await Deno.copyFile("deno.json", join(folder, "deno.json"));
    await Deno.writeTextFile(join(folder, "echo"), '#!/bin/sh\necho "$@"\n', { mode: 0o755 });
    const echo = JSON.stringify(join(folder, "echo"));
    await Deno.writeTextFile(join(deno, "install_api.cjs"), `exports.runInstall = () => ${echo};`);
    const started = async (...words: string[]) => {
      const { stdout } = await place.run("node", join(npm, "simper.mjs"), "train", ...words);
      return [stdout.includes(" --allow-ffi "), stdout.includes("/dawn.lock ")];
    };
    for (const words of [["--webgpu_engine=dawn"], ["run.yaml", "--webgpu_engine", "dawn", "--open"]]) {
      assert.deepEqual(await started(...words), [true, true], words.join(" "));
    }
    assert.deepEqual(await started("--webgpu_engine", "deno", "dawn"), [false, false]);
  },
);

test("a script that imports mod.ts from a URL trains", async (place) => {
  await using server = serveRepository();
  const script = `
    import { readConfig, train } from "http://${server.host}/mod.ts";
    const { config } = await readConfig("tiny.yaml", ${JSON.stringify(A_STEP)});
    await using run = await train(config);
    await run.save();
  `;
  await Deno.writeTextFile(join(place.empty, "script.ts"), script);
  await place.run(
    Deno.execPath(),
    ...["run", `--allow-import=${server.host}`, ...PERMISSIONS, "script.ts"],
  );
  assertTrained(place, ["script.ts"]);
});

Deno.test("no package of the program has a build script, and each file that ships is as it is listed", async () => {
  const { npm } = JSON.parse(await Deno.readTextFile("deno.lock"));
  for (const [name, { scripts }] of Object.entries(npm as Record<string, { scripts?: boolean }>)) {
    assert.ok(!scripts, `${name}: the first run would tell of scripts that it ignores`);
  }
  const { shippedFiles } = await import("../../configs/write_shipped.ts");
  const listed = JSON.parse(await Deno.readTextFile(resolve("configs/shipped.json")));
  assert.deepEqual(await shippedFiles(), listed, "write it anew: deno task shipped");
});
