/** Uploading a run's result to the Hub. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { openUpload } from "../../lib/hub/upload.ts";
import type { Progress } from "../../lib/progress/progress.ts";
import { file, hubTest, type World } from "./fixtures.ts";
import { type HubOptions, sha256 } from "./server.ts";

const TOKEN = "hf_secretSecretSecret";
const FILES = [
  file("config.json", "{}"),
  file("README.md", "# Ünïcode"),
  file("model.safetensors", 12_000_000, true),
];
const options = (): HubOptions => ({ token: TOKEN, user: "someone" });

/** A folder as a run leaves it, with what is not to be uploaded. */
async function result(folder: string): Promise<string> {
  const out = join(folder, "my-run");
  await Deno.mkdir(join(out, "checkpoint-10"), { recursive: true });
  for (const { path, bytes } of [...FILES, file(".hidden", "x"), file("config.json.tmp", "x")]) {
    await Deno.writeFile(join(out, path), bytes);
  }
  return out;
}

const config = (outputDir: string, hubModelId?: string) => ({
  outputDir,
  hubModelId,
  hubPrivateRepo: undefined,
  hubToken: undefined,
});

async function refusal(run: Promise<unknown>): Promise<UserError> {
  const error = await run.then(() => undefined, (error) => error);
  assert.ok(error instanceof UserError, `expected a refusal, found ${error?.stack ?? "none"}`);
  assert.doesNotMatch(error.message, new RegExp(TOKEN));
  return error;
}

hubTest(
  "the files of output_dir become a commit, large ones through large storage",
  options,
  async (world) => {
    const { hub, folder, settings } = world;
    const out = await result(folder);
    const upload = await openUpload(config(out, "org/aligned"), { ...settings, token: TOKEN });
    assert.equal(upload.page, `${hub.endpoint}/org/aligned`);
    assert.deepEqual(hub.repos.map(({ name, files }) => [name, files.length]), [["org/aligned", 0]]);
    const progress: Progress[] = [];
    await upload.push(out, (event) => progress.push(event));
    const total = FILES.reduce((sum, { bytes }) => sum + bytes.length, 0);
    assert.deepEqual(progress.at(-1), { what: "uploading org/aligned", done: total, total, unit: "bytes" });
    assert.ok(progress.some(({ done }) => done > total / 4 && done < total / 2));
    assert.deepEqual(
      progress.map(({ done }) => done),
      progress.map(({ done }) => done).sort((a, b) => a - b),
    );
    const found = hub.repos[0].files.toSorted((a, b) => a.path < b.path ? -1 : 1);
    assert.deepEqual(found.map(({ path }) => path), ["README.md", "config.json", "model.safetensors"]);
    for (const { path, bytes, lfs } of found) {
      const source = FILES.find((file) => file.path === path)!;
      assert.equal(sha256(bytes), sha256(source.bytes), path);
      assert.equal(lfs ?? false, source.lfs);
    }
    assert.equal(hub.commits.made.length, 1);
    assert.ok(
      hub.seen.filter(({ origin }) => origin === "cdn").every(({ authorization }) => authorization === null),
    );
  },
);

hubTest("without a name the repository is the user's, named as output_dir", options, async (world) => {
  const { hub, folder, settings } = world;
  const chosen = { ...config(await result(folder)), hubPrivateRepo: true, hubToken: TOKEN };
  assert.equal((await openUpload(chosen, settings)).name, "someone/my-run");
  assert.equal(
    (await openUpload({ ...chosen, hubModelId: "simper-exps" }, settings)).name,
    "someone/simper-exps",
  );
  assert.deepEqual(hub.commits.created.map(({ visibility }) => visibility), ["private", "private"]);
});

hubTest(
  "a repository that is there already takes a further commit",
  options,
  async ({ hub, folder, settings }) => {
    const out = await result(folder);
    for (const text of ["{}", '{"changed": true}']) {
      await Deno.writeTextFile(join(out, "config.json"), text);
      await (await openUpload(config(out, "org/aligned"), { ...settings, token: TOKEN })).push(out);
    }
    assert.equal(hub.repos.length, 1);
    assert.equal(hub.commits.made.length, 2);
    const changed = hub.repos[0].files.find(({ path }) => path === "config.json")!;
    assert.equal(new TextDecoder().decode(changed.bytes), '{"changed": true}');
    // The weights are there by their hash and are not sent again.
    assert.equal(hub.seen.filter(({ method }) => method === "PUT").length, 1);
  },
);

const early = async (
  { folder, settings }: World,
  change: { token?: string; offline?: boolean },
  says: RegExp,
) => {
  const error = await refusal(openUpload(config(folder, "org/aligned"), { ...settings, ...change }));
  assert.match(error.message, says);
};
hubTest(
  "an upload without a token is refused before the run",
  options,
  (world) => early(world, {}, /push_to_hub: expected a token that may write .*found none.*hf auth login/),
);
hubTest(
  "an upload with a text that is no token is refused",
  options,
  (world) => early(world, { token: "secret" }, /found another text/),
);
hubTest(
  "an upload with a token that the Hub refuses",
  options,
  (world) => early(world, { token: "hf_wrong" }, /the token is refused/),
);
hubTest(
  "an upload offline is refused before the run",
  options,
  (world) => early(world, { token: TOKEN, offline: true }, /HF_HUB_OFFLINE is set/),
);
hubTest("hub_model_id is a name, or owner/name", options, async ({ folder, settings }) => {
  for (const name of ["a/b/c", "org/x y", "org/x@main", "../x"]) {
    const error = await refusal(openUpload(config(folder, name), { ...settings, token: TOKEN }));
    assert.match(error.message, /hub_model_id: expected owner\/name or a name, found/);
  }
});

for (const [what, method, part] of [["large file", "PUT", "/"], ["commit", "POST", "/commit/"]] as const) {
  hubTest(
    `a ${what} that fails leaves the result where it is`,
    options,
    async ({ hub, folder, settings }) => {
      const out = await result(folder);
      hub.options.fault = (seen) =>
        seen.method === method && seen.path.includes(part) ? { status: 500 } : undefined;
      const upload = openUpload(config(out, "org/aligned"), { ...settings, token: TOKEN });
      if (method === "POST") {
        hub.options.fault = (seen) => seen.path.includes(part) ? { status: 500 } : undefined;
      }
      const error = await refusal((await upload).push(out));
      assert.match(
        error.message,
        /push_to_hub: .*the Hub answers 500.*; the result is in .*my-run, and `hf upload org\/aligned/,
      );
      assert.equal(error.status, 1);
      assert.equal((await Deno.stat(join(out, "model.safetensors"))).size, 12_000_000);
    },
  );
}

hubTest("a busy moment of large storage is waited out", options, async ({ hub, folder, settings }) => {
  const out = await result(folder);
  let busy = 2;
  hub.options.fault = ({ method }) => method === "PUT" && busy-- > 0 ? { status: 503 } : undefined;
  await (await openUpload(config(out, "org/aligned"), { ...settings, token: TOKEN })).push(out);
  assert.equal(hub.repos[0].files.length, FILES.length);
});

hubTest(
  "a commit that may have been made is not sent again, one that the Hub put off is",
  options,
  async ({ hub, folder, settings }) => {
    const out = await result(folder);
    const push = async () =>
      (await openUpload(config(out, "org/aligned"), { ...settings, token: TOKEN })).push(out);
    const commits = () => hub.seen.filter(({ path }) => path.includes("/commit/")).length;
    hub.options.fault = ({ path }) => path.includes("/commit/") ? { status: 502 } : undefined;
    await refusal(push());
    assert.equal(commits(), 1);
    let busy = 1;
    hub.options.fault = ({ path }) =>
      path.includes("/commit/") && busy-- > 0 ? { status: 429, headers: { "retry-after": "0" } } : undefined;
    await push();
    assert.equal(commits(), 3);
    assert.equal(hub.commits.made.length, 1);
  },
);
