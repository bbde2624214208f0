/** A disk that is full at each file of a checkpoint, and at the result: a small tmpfs, which only root may mount. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { assertEqualBytes } from "../equal_bytes.ts";
import { ls, refusal, run, weightsOf, wholeCheckpoints } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const PAGE = 4096;

async function command(program: string, ...args: string[]): Promise<string | undefined> {
  const { code, stderr } = await new Deno.Command(program, { args }).output().catch((error) => ({
    code: 1,
    stderr: new TextEncoder().encode(error.message),
  }));
  return code === 0 ? undefined : new TextDecoder().decode(stderr);
}

const tmpfs = (folder: string, bytes: number, ...options: string[]) =>
  command("mount", "-t", "tmpfs", "-o", [`size=${bytes}`, ...options].join(), "none", folder);

async function whyNoTmpfs(): Promise<string | undefined> {
  let why: string | undefined;
  await withTemporaryFolder(async (folder) => {
    why = await tmpfs(folder, 16 * PAGE);
    if (!why) await command("umount", folder);
  });
  return why;
}

const why = await whyNoTmpfs();
if (why) console.log(`disk_full_test.ts is left out: a tmpfs cannot be mounted here: ${why}`);

/** Pages of each file of a folder, in the order in which they are written. */
async function pagesOf(folder: string, order: string[]): Promise<[name: string, pages: number][]> {
  assert.deepEqual([...order].sort(), ls(folder));
  return await Promise.all(order.map((name) => sizeOf(folder, name)));
}

async function sizeOf(folder: string, name: string): Promise<[name: string, pages: number]> {
  return [name, Math.ceil((await Deno.stat(join(folder, name))).size / PAGE)];
}

Deno.test({
  name:
    "a disk that is full at any file of a checkpoint: a clear error, earlier checkpoints whole, the run goes on",
  ignore: why !== undefined,
  fn: () =>
    withTemporaryFolder(async (folder) => {
      const unbroken = join(folder, "unbroken");
      await run(unbroken, ["--max_steps=8"]);
      const order = [
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "optimizer.safetensors",
        "trainer_state.json",
        "run_state.json",
      ];
      const sum = (pages: [string, number][]) => pages.reduce((sum, [, count]) => sum + count, 0);
      const first = sum(await pagesOf(join(unbroken, "checkpoint-4"), order));
      const second = await pagesOf(join(unbroken, "checkpoint-8"), order);
      /** The run's log, and who it is. */
      const log = sum(
        await Promise.all(
          ["metrics.jsonl", "report.json", "trainer_state.json"].map((name) => sizeOf(unbroken, name)),
        ),
      ) + 1;
      /** Pages that lack one for the file, and what the error names. */
      const cases = second.map(([name], i) => ({
        name,
        pages: log + first + sum(second.slice(0, i + 1)) - 1,
        saved: [4],
      }));
      // The report is written anew beside the one that is there.
      const [, report] = await sizeOf(unbroken, "report.json");
      cases.push({
        name: "model.safetensors of the result",
        pages: log + first + sum(second) + report + 3,
        saved: [4, 8],
      });

      for (const { name, pages, saved } of cases) {
        const disk = join(folder, "disk");
        await Deno.mkdir(disk);
        assert.equal(await tmpfs(disk, pages * PAGE), undefined);
        try {
          const out = join(disk, "out");
          const message = await refusal(run(out, ["--max_steps=8"]), 1);
          const file = name.split(" ")[0].replaceAll(".", "\\.");
          assert.match(
            message,
            new RegExp(`${saved.length > 1 ? "" : "^checkpoint-8 was not written: .*"}${file}`),
          );
          assert.match(message, /No space left on device|ENOSPC/);
          if (saved.length === 1) {
            assert.match(
              message,
              /\nthe last checkpoint is \S+checkpoint-4: the same command goes on from it$/,
            );
          }
          assert.deepEqual(await wholeCheckpoints(out), saved, name);
          assert.deepEqual(
            ls(out).filter((name) => /tmp/.test(name)),
            [],
            name,
          );

          assert.equal(await tmpfs(disk, 64 * 2 ** 20, "remount"), undefined);
          await run(out, ["--max_steps=8"]);
          assertEqualBytes(await weightsOf(out), await weightsOf(unbroken), name);
        } finally {
          await command("umount", disk);
          await Deno.remove(disk);
        }
      }
    }),
});
