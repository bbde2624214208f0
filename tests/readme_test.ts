/** What README.md shows, run. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { LAYOUTS } from "../lib/export/layouts.ts";
import { ARCHITECTURES } from "../lib/models/models.ts";
import { VERSION } from "../lib/program/version.ts";
import { configReference, keyTypes } from "../lib/config/reference.ts";
import { task, taskWords } from "./command.ts";
import { GOLDEN } from "./golden_run.ts";
import { withTemporaryFolder } from "./temporary_folder.ts";

const PAGES = ["README.md", "configs/README.md", "lib/README.md", "lib/data/README.md", "SECURITY.md"];
const pages = new Map(
  await Promise.all(PAGES.map(async (page) => [page, await Deno.readTextFile(page)] as const)),
);
const readme = pages.get("README.md")!;
const blocksOf = (text: string, language: string) =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map((m) => m[1]);
const blocks = (language: string) => blocksOf(readme, language);
/** The commands of all pages, a line each, without what is said of them. */
const commands = [...pages.values()].flatMap((page) =>
  blocksOf(page, "sh").flatMap((block) => block.replaceAll(/\\\n\s*/g, "").trim().split("\n"))
).map((line) => line.replace(/ +#.*/, ""));
const command = (words: string) => {
  const found = commands.filter((line) => line.includes(words));
  assert.equal(found.length, 1, `${words}: in ${found.length} commands`);
  return found[0];
};

/** README's run file and data, on the golden model and in `folder`. */
async function writeRun(folder: string): Promise<string> {
  const data = join(folder, "pairs");
  await Deno.mkdir(data);
  for (const split of ["train", "test"]) {
    await Deno.writeTextFile(join(data, `${split}.jsonl`), blocks("json")[0]);
  }
  const run = join(folder, "run.yaml");
  const text = blocks("yaml")[0]
    .replace("HuggingFaceTB/SmolLM2-135M-Instruct", `${GOLDEN}/untied`)
    .replace("data/pairs", data)
    .replace("out/my-run", join(folder, "out"));
  await Deno.writeTextFile(run, text);
  return run;
}

Deno.test("the tables of keys in configs/README.md are the program's", async () => {
  // The formatter pads cells.
  const plain = (table: string) => table.trim().replaceAll(/ *\| */g, "|").replaceAll(/-{3,}/g, "---");
  assert.ok(
    plain(await Deno.readTextFile("configs/README.md")).includes(plain(configReference())),
    "write them anew: deno task keys",
  );
});

Deno.test("the types of keys are those of the program's table", async () => {
  // The formatter breaks lines.
  const plain = (module: string) => module.replaceAll(/[\s|]+/g, " ").replaceAll(": ", ":");
  const written = await Deno.readTextFile("lib/config/key_types.ts");
  assert.equal(plain(written), plain(keyTypes()), "write them anew: deno task keys");
});

Deno.test("the page of models names every architecture, and no other", async () => {
  const page = await Deno.readTextFile("lib/models/README.md");
  const [list] = page.slice(page.indexOf("## Architectures")).match(/`.*?`\./s)!;
  assert.deepEqual([...list.matchAll(/`(\w+)`/g)].map(([, name]) => name), [...ARCHITECTURES.keys()].sort());
  assert.ok(readme.includes(`[${ARCHITECTURES.size} architectures]`));
});

Deno.test("the page of GGUF names every architecture that can be exported, and no other", async () => {
  const page = await Deno.readTextFile("lib/export/README.md");
  const [list] = page.slice(page.indexOf("## Models")).match(/`.*?`\./s)!;
  assert.deepEqual([...list.matchAll(/`(\w+)`/g)].map(([, name]) => name), [...LAYOUTS.keys()].sort());
});

/** Runs README's commands on the model that is in `out`. */
async function useTrained(folder: string, run: string): Promise<void> {
  const words = (line: string) =>
    [...line.matchAll(/(?:"[^"]*"|\S)+/g)].map(([word]) =>
      word.replaceAll('"', "").replace("out/my-run", join(folder, "out")).replace(/^run\.yaml$/, run)
        .replace(/HuggingFaceTB\/SmolLM2-135M-Instruct|\bFOLDER\b/, `${GOLDEN}/untied`)
        .replace("data/pairs", join(folder, "pairs"))
    ).slice(1);
  for (const name of ["generate", "eval", "export", "export-run", "check-run"]) {
    const given = words(command(`simper ${name} `)) as [string];
    const { status, stdout, stderr } = await task(...given);
    assert.equal(status, 0, stderr);
    assert.ok(stdout.trim().length > 0, name);
  }
  const started = (name: string, ...more: string[]) => {
    const [, ...args] = words(command(`simper ${name}`));
    return new Deno.Command(Deno.execPath(), {
      args: [...taskWords(name), ...args, ...more],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  };
  const chat = started("chat", "--max_new_tokens=4");
  const input = chat.stdin.getWriter();
  await input.write(new TextEncoder().encode("Hot?\n/quit\n"));
  await input.close();
  const said = await chat.output();
  assert.equal(said.code, 0, new TextDecoder().decode(said.stderr));

  await using server = started("serve", "--port=0");
  let printed = "";
  for await (const chunk of server.stdout.pipeThrough(new TextDecoderStream())) {
    printed += chunk;
    if (printed.includes("\n")) break;
  }
  const address = printed.match(/http:\/\/127\.0\.0\.1:\d+/)![0];
  const models = await fetch(`${address}/v1/models`);
  assert.equal((await models.json()).data.length, 1);
  server.kill();
  await server.status;
}

Deno.test("README's commands on one's own data work as they are written", () =>
  withTemporaryFolder(async (folder) => {
    const run = await writeRun(folder);
    const simper = (line: string) => {
      const [program, name, file, ...overrides] = line.split(" ");
      assert.deepEqual([program, file], ["simper", "run.yaml"]);
      return task(name, run, ...overrides);
    };
    const data = await simper(command("simper data"));
    assert.equal(data.status, 0, data.stderr);
    const plan = await simper(command("simper plan run.yaml"));
    assert.equal(plan.status, 0, plan.stderr);
    const { status, stderr, stdout } = await simper(command("--num_train_epochs=2"));
    assert.equal(status, 0, stderr);
    assert.match(stdout, /eval_rewards\/accuracies .* -> /);
    await useTrained(folder, run);
    await Deno.remove(join(folder, "out"), { recursive: true });

    // A run with checkpoints is finished when it is run again.
    const first = await simper(command("--save_steps=50"));
    assert.equal(first.status, 0, first.stderr);
    assert.match(first.stderr, /^saved .*checkpoint-1$/m);
    const second = await simper(command("--save_steps=50"));
    assert.equal(second.status, 2);
    assert.match(second.stderr, /is not empty.*--overwrite_output_dir/);
  }));

Deno.test("the paper's setups are planned and trained by the commands that are written", () =>
  withTemporaryFolder(async (folder) => {
    await writeRun(folder);
    const words = (line: string) => line.split(" ").slice(1);
    const [planned, name, ...options] = words(command("simper plan llama"));
    const model = "--model_name_or_path=tests/golden/configs/Meta-Llama-3-8B-Instruct";
    const { status, stdout } = await task(planned, name, ...options, model, "--log_level=error");
    assert.equal(status, 1, stdout);
    assert.match(stdout, /^steps +478$/m);
    const [trained, setup] = words(command("simper train llama"));
    const small = [
      `--model_name_or_path=${GOLDEN}/untied`,
      `--dataset_mixer={${join(folder, "pairs")}: 1}`,
      '--dataset_splits=["train", "test"]',
      `--output_dir=${join(folder, "out")}`,
      "--max_steps=1",
      "--chat_template=null",
    ];
    const run = await task(trained, setup, ...small);
    assert.equal(run.status, 0, run.stderr);
  }));

Deno.test("README's script works as it is written", () =>
  withTemporaryFolder(async (folder) => {
    await writeRun(folder);
    const script = join(folder, "script.ts");
    const module = pathToFileURL(resolve("mod.ts")).href;
    await Deno.writeTextFile(
      script,
      blocks("ts")[0].replace("./mod.ts", module).replace("run.yaml", join(folder, "run.yaml"))
        .replace("out/scripted", join(folder, "scripted")),
    );
    const words = command("script.ts").split(" ").slice(1, -1);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: [...words, script] })
      .output();
    const text = new TextDecoder();
    assert.equal(code, 0, text.decode(stderr));
    assert.match(text.decode(stdout), /^1 -?\d/);
    assert.ok((await Deno.stat(join(folder, "scripted", "model.safetensors"))).isFile);
  }));

Deno.test("README installs with what the tests of installing take", async () => {
  const install = command("deno install");
  const source = await Deno.readTextFile("tests/cli/install_test.ts");
  const permissions = install.match(/--(allow-(?!import)|unstable)[^\s"]+/g)!;
  assert.equal(permissions.length, 7);
  for (const permission of permissions) assert.ok(source.includes(`"${permission}"`), permission);
  assert.equal(command("npm install"), `npm install simper-${VERSION}.tgz`);
});

Deno.test("README's two commands are those that CI and users run, and every command of the pages is run by a test", async () => {
  const [train, ok] = blocks("sh");
  assert.ok((await Deno.readTextFile(".ci/run")).includes(ok.trim()));
  const { tasks } = JSON.parse(await Deno.readTextFile("deno.json"));
  for (const page of [...pages.values(), train]) {
    for (const [, name] of page.matchAll(/\bdeno(?:@[\d.]+)? task ([a-z:]+)/g)) {
      assert.ok(name in tasks, `no task ${name}`);
    }
  }
  // Here, in tests/cli/install_test.ts, tests/comparison/compare_test.ts and tests/distributed/mpi_test.ts, and with a
  // Hub of their own in tests/hub/hub_cli_test.ts.
  const run = [
    /^npx -y deno/,
    /^simper (data|plan|train) run\.yaml/,
    /^simper (plan|train) llama-3/,
    /^simper (chat|check-run|export|export-run|generate|serve) out\/my-run/,
    /^simper eval run\.yaml/,
    /^deno run .* script\.ts$/,
  ];
  const elsewhere = [
    /^simper compare /,
    /^deno install /,
    /^npm install /,
    /^(npx )?simper train$/,
    /^simper fetch /,
    /^mpirun -n 2 simper train run\.yaml$/,
    /^mpirun -n 2 deno task ranks train --/,
  ];
  for (const line of commands) {
    assert.ok([...run, ...elsewhere].some((known) => known.test(line)), `no test runs ${line}`);
  }
});

const MORE_PAGES = [
  "lib/models/README.md",
  "lib/server/README.md",
  "lib/evaluation/README.md",
  "lib/export/README.md",
  "bench/README.md",
];

Deno.test("links of the pages lead to files and headings that there are", async () => {
  const anchor = (heading: string) => heading.toLowerCase().replaceAll(/[^\w\- ]/g, "").replaceAll(" ", "-");
  for (const page of [...PAGES, ...MORE_PAGES]) {
    for (const [, link] of (await Deno.readTextFile(page)).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [file, name] = link.split("#");
      const target = file ? join(dirname(page), file) : page;
      assert.ok((await Deno.stat(target).catch(() => undefined)) !== undefined, `${page}: ${link}`);
      if (name === undefined) continue;
      const headings = [...(await Deno.readTextFile(target)).matchAll(/^#+ (.*)$/gm)];
      assert.ok(headings.some(([, heading]) => anchor(heading) === name), `${page}: ${link}`);
    }
  }
});

Deno.test("lib/README.md names every folder below those that it uses", async () => {
  const [, list] = pages.get("lib/README.md")!.split("## The folders");
  const folders = [...list.matchAll(/^ {2}(\w+)\//gm)].map(([, name]) => name);
  const entries = await Array.fromAsync(Deno.readDir("lib"));
  assert.deepEqual(
    folders.toSorted(),
    entries.filter((entry) => entry.isDirectory).map(({ name }) => name).sort(),
  );
  const files = await readdir("lib", { recursive: true });
  for (const file of files.filter((name) => name.endsWith(".ts") && name.includes("/"))) {
    const at = folders.indexOf(file.split("/")[0]);
    for (const [, path] of (await Deno.readTextFile(join("lib", file))).matchAll(/ from "(\.[^"]+)"/g)) {
      const [folder, ...rest] = join(dirname(file), path).split("/");
      if (rest.length === 0 || folder === "..") continue;
      // As the page says.
      if (file.startsWith("config/") && folder === "losses") continue;
      assert.ok(folders.indexOf(folder) <= at, `lib/${file} uses lib/${folder}`);
    }
  }
});

Deno.test("the pages fit a screen", async () => {
  for (const page of [...PAGES, ...MORE_PAGES]) {
    for (const line of (await Deno.readTextFile(page)).split("\n")) {
      assert.ok(line.length <= (line.startsWith("|") ? 155 : 120), `${page}: ${line}`);
    }
  }
});
