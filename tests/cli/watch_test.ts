/** The live report: of any folder (`watch`), and of the run of the same process (`train --open`). */
import assert from "node:assert/strict";
import { join, resolve } from "node:path";
import { task, taskWords, trainProcess } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** `simper watch` on a folder until `body` ends. */
async function watching(folder: string, body: (address: string) => Promise<void>): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...taskWords("watch"), folder],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  try {
    const { value = "" } = await lines.read();
    assert.match(value, /^http:\/\/127\.0\.0\.1:\d+\/\n$/, value || await stderr);
    await body(value.trim());
  } finally {
    child.kill("SIGTERM");
    await lines.cancel();
    assert.deepEqual([(await child.status).code, await stderr], [130, ""]);
  }
}

/** Reads `/events` until the page's parts match. */
async function arrives(address: string, expected: RegExp): Promise<void> {
  const response = await fetch(`${address}events`);
  let text = "";
  for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
    text += part;
    if (expected.test(text)) return;
  }
  assert.fail(`the events ended before ${expected}: ${text}`);
}

async function pressStop(address: string): Promise<string> {
  const [, token] = /data-token="([^"]+)"/.exec(await (await fetch(address)).text())!;
  const response = await fetch(`${address}stop`, { method: "POST", headers: { "x-token": token } });
  return `${response.status} ${await response.text()}`;
}

Deno.test("watch wants the folder of a run and a free port", () =>
  withTemporaryFolder(async (folder) => {
    const taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const run = join(folder, "run");
    await Deno.mkdir(run);
    await Deno.writeTextFile(join(run, "metrics.jsonl"), "");
    const cases: [string[], number, RegExp][] = [
      [[], 2, /expected: simper watch DIR/],
      [[folder], 2, /holds no run: expected an output_dir, with a file metrics\.jsonl/],
      [[run, "--port=http"], 2, /--port: expected an integer from 0 to 65535, found "http"/],
      [[run, `--port=${(taken.addr as Deno.NetAddr).port}`], 1, /--port: \d+ is in use/],
    ];
    for (const [words, status, says] of cases) {
      const done = await task("watch", ...words);
      assert.deepEqual([done.status, done.stdout], [status, ""], done.stderr);
      assert.match(done.stderr, says);
    }
    taken.close();
  }));

Deno.test("watch shows a point that is added, and its button sends SIGTERM to the process that has the folder", () =>
  withTemporaryFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "metrics.jsonl"), '{"step":1,"epoch":1,"loss":0.5}\n');
    await watching(folder, async (address) => {
      await arrives(address, /step 1 · not running.*training: 0\.5 at step 1/s);
      assert.match(await pressStop(address), /^409 Nothing to stop/);

      const script = join(folder, "run.ts");
      await Deno.writeTextFile(
        script,
        `import { lockFolder } from ${JSON.stringify(`file://${resolve("lib/checkpoint/lock.ts")}`)};
Deno.addSignalListener("SIGTERM", () => Deno.exit(7));
await lockFolder(${JSON.stringify(folder)}, console.error);
console.log("locked");
setTimeout(() => {}, 1e6);
`,
      );
      const holder = new Deno.Command(Deno.execPath(), { args: ["run", "-qA", script], stdout: "piped" })
        .spawn();
      const output = holder.stdout.getReader();
      await output.read();
      const added = arrives(address, /training: 0\.25 at step 2/);
      await Deno.writeTextFile(join(folder, "metrics.jsonl"), '{"step":2,"epoch":2,"loss":0.25}\n', {
        append: true,
      });
      await added;
      assert.match(await pressStop(address), /^202 /);
      assert.equal((await holder.status).code, 7);
      await output.cancel();
      await arrives(address, /step 2 · not running/);
    });
  }));

Deno.test("train --open serves its own run, whose button stops it with a checkpoint", () =>
  withTemporaryFolder(async (folder) => {
    const out = join(folder, "out");
    const args = [
      `${GOLDEN}/run.yaml`,
      `--output_dir=${out}`,
      "--open",
      "--max_steps=100000",
      "--logging_steps=1",
    ];
    const child = trainProcess(args).spawn();
    const stdout = new Response(child.stdout).text();
    let log = "";
    let stopped: Promise<string> | undefined;
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      log += text;
      const address = /live report: (\S+)\n/.exec(log)?.[1];
      if (address) stopped ??= arrives(address, /at step 2</).then(() => pressStop(address));
    }
    assert.match(await stopped ?? log, /^202 The run ends after the step in hand/);
    await stdout;
    assert.equal((await child.status).code, 130, log);
    assert.match(log, /stopping after this step, \d+ of 100000, with a checkpoint/);
    const names = [...Deno.readDirSync(out)].map(({ name }) => name);
    assert.ok(names.some((name) => /^checkpoint-\d+$/.test(name)), names.join());
  }));
