/** The program as a whole: what it says of itself, and of words that it does not know. */
import assert from "node:assert/strict";
import { FIELDS, keyOf } from "../../lib/config/schema.ts";
import { VERSION } from "../../lib/program/version.ts";
import { type Finished, taskWith } from "../command.ts";

/** The program without any permission. */
async function simper(...words: string[]): Promise<Finished> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "lib/cli/main.ts", ...words],
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  return { status: code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

const NAMES = [
  "train",
  "compare",
  "generate",
  "chat",
  "eval",
  "watch",
  "plan",
  "data",
  "serve",
  "fetch",
  "export",
  "merge",
  "export-run",
  "check-run",
  "tune",
  "setup",
];

Deno.test("each command has help and a version, which need no permission and win wherever they stand", async () => {
  const all = await simper("--help");
  assert.deepEqual([all.status, all.stderr], [0, ""]);
  const listed = all.stdout.matchAll(/^ {2}([\w-]+) +\S/gm).map(([, name]) => name);
  assert.deepEqual([...listed], NAMES);
  assert.deepEqual(await simper("help"), all);

  const [train, alike, other, version] = await Promise.all([
    simper("train", "--max_steps=many", "nowhere.yaml", "--help"),
    simper("help", "train"),
    simper("fetch", "-h"),
    simper("plan", "-V", "nowhere.yaml"),
  ]);
  assert.deepEqual([train.status, train.stderr], [0, ""]);
  assert.deepEqual(alike, train);
  assert.deepEqual(version, { status: 0, stdout: `simper ${VERSION}\n`, stderr: "" });
  const explained = [...train.stdout.matchAll(/^ {2}--(\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(explained, ["open", "profile", "help", "version", ...FIELDS.map(keyOf)]);
  assert.match(train.stdout, /^Model\n {2}--model_name_or_path/m);
  assert.ok(train.stdout.split("\n").every((line) => line.length <= 80));
  assert.match(train.stdout, /added up:\s+see the losses\. Of/);
  assert.doesNotMatch(train.stdout, /\]\(|`/);
  assert.match(other.stdout, /^usage: simper fetch OWNER\/NAME/);
  assert.doesNotMatch(other.stdout, /--max_steps/);
});

Deno.test("a word that is no command, option or key has status 2, and the nearest is named", async () => {
  const nothing = await simper();
  assert.deepEqual([nothing.status, nothing.stdout], [2, ""]);
  assert.match(nothing.stderr, /^ {2}train +\S/m);
  const cases: [string[], RegExp][] = [
    [["trian"], /^error: trian: no such command: did you mean train\?$/m],
    [["xyzxyz", "--help"], /^error: xyzxyz: no such command: expected one of train, compare, generate/],
    [["tune", "a.json", "--show"], /expected: simper tune \[FILE \| --show\]/],
    [["setup", "now"], /setup takes no words, found now/],
    [["fetch", "a/b", "--split=train"], /--split: unknown option: did you mean --splits\?/],
    [["train", "a.yaml", "b.yaml"], /expected one run file and --key=value, found a\.yaml and b\.yaml/],
    [["train", "-max_steps=3"], /^error: -max_steps=3: options have two dashes: --max_steps=3$/m],
    [[""], /^error: "": no such command/],
    [["plan", "--data=yes"], /--data: expected no value, found yes/],
  ];
  for (const [words, says] of cases) {
    const { status, stdout, stderr } = await simper(...words);
    assert.deepEqual([status, stdout], [2, ""], stderr);
    assert.match(stderr, says);
    assert.doesNotMatch(stderr, /\n\s+at /);
  }
});

Deno.test("of a launch of several ranks every command but train is refused", async () => {
  const { status, stderr } = await taskWith({ PMI_RANK: "1", PMI_SIZE: "2" }, "ranks", "compare");
  assert.equal(status, 2, stderr);
  assert.match(stderr, /by PMI_RANK this is one of 2 ranks, and `simper compare` is the work of one process/);
});
