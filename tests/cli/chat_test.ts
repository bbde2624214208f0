/** `simper chat`, fed with lines. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { entriesOf } from "../../lib/cli/entered.ts";
import { loadModel } from "../../mod.ts";
import { taskWords } from "../command.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const MODEL = "configs/tiny/model";
const QUESTION = "What is the capital of Italy?";

/**
 * The command with these words, and these lines entered; `onText` hears of answers and may do something to the
 * process.
 */
async function chat(
  words: string[],
  lines: string[],
  onText: (text: string, child: Deno.ChildProcess) => void = () => {},
) {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...taskWords("chat"), MODEL, ...words],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  const written = writer.write(new TextEncoder().encode(lines.join("\n"))).then(() => writer.close());
  const stderr = new Response(child.stderr).text();
  let stdout = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    stdout += text;
    onText(text, child);
  }
  await written;
  return { status: (await child.status).code, stdout, stderr: await stderr };
}

Deno.test("an entry is a line, lines that a backslash joins, or what stands between quotes", async () => {
  const entries = async (...lines: string[]) => await Array.fromAsync(entriesOf(lines.values(), () => {}));
  assert.deepEqual(await entries("one", "", "two \\", "and", "three"), ["one", "", "two \nand", "three"]);
  assert.deepEqual(await entries('"""', "a\\", "", "b", '"""', "c"), ["a\\\n\nb", "c"]);
  assert.deepEqual(await entries('"""a', 'b"""', '"""c"""', '"""d'), ["a\nb", "c", "d"]);
  assert.deepEqual(await entries("end\\"), ["end"]);
});

Deno.test("a conversation is the model's answers to all that was said, and can be kept", () =>
  withTemporaryFolder(async (folder) => {
    const file = join(folder, "talk.jsonl");
    const { status, stdout, stderr } = await chat(["--max_new_tokens=6", "--system=Be kind."], [
      QUESTION,
      "And \\",
      "of Spain?",
      "/regenerate",
      `/save ${file}`,
      "/reset",
      "//Hello",
      `/save ${file}`,
      "/quit",
      "Never said.",
    ]);
    assert.equal(status, 0, stderr);
    await using model = await loadModel(MODEL, { maxLength: 2048 });
    const system = { role: "system", content: "Be kind." };
    const messages: { role: string; content: string }[] = [system];
    const answerTo = async (content: string) => {
      messages.push({ role: "user", content });
      const answer = await model.generate(messages, { maxNewTokens: 6 });
      messages.push({ role: "assistant", content: answer });
      return answer;
    };
    const [first, second] = [await answerTo(QUESTION), await answerTo("And \nof Spain?")];
    const whole = messages.splice(1);
    const third = await answerTo("/Hello");
    assert.equal(stdout, `${first}\n${second}\n${second}\n${third}\n`);
    const rows = (await Deno.readTextFile(file)).trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(rows, [{ messages: [system, ...whole] }, { messages }]);
  }));

Deno.test("what is refused is said, and the chat goes on without it; a full context leaves the first turns out", async () => {
  const { status, stdout, stderr } = await chat(["--max_new_tokens=8", "--max_length=48"], [
    "/regenerate",
    "/rest",
    "/set temperatur 1",
    "/set temperature hot",
    "/save",
    "word ".repeat(60),
    ...Array(4).fill(QUESTION),
  ]);
  assert.equal(status, 1);
  const errors = stderr.split("\n").filter((line) => line.startsWith("error: "));
  assert.deepEqual(errors.slice(0, 5), [
    "error: /regenerate: there is no answer yet",
    "error: /rest: did you mean /reset?",
    "error: /set: expected temperature, found temperatur",
    'error: /set temperature: expected a number from 0 to 100, found "hot"',
    "error: /save: expected a file, as in /save talk.jsonl",
  ]);
  assert.equal(errors.length, 6, stderr);
  assert.match(
    errors[5],
    /expected fewer than 48 tokens, the context \(--max_length\), found \d+ in what was said last$/,
  );
  assert.match(stderr, /the context of 48 tokens is full: the model does not see the first turn any more/);
  assert.match(stderr, /the model does not see the first 2 turns any more/);
  assert.equal(stdout.trimEnd().split("\n").length, 4);
});

Deno.test("a signal ends an answer, and the chat goes on", async () => {
  let isSent = false;
  const lines = [QUESTION, "/set max_new_tokens 2", "/regenerate"];
  const { status, stdout, stderr } = await chat(
    ["--max_new_tokens=2000", "--temperature=1.5", "--seed=1"],
    lines,
    (_, child) => {
      if (!isSent) child.kill("SIGINT");
      isSent = true;
    },
  );
  assert.equal(status, 0, stderr);
  assert.match(stderr, /^\(stopped\)\n\(ended at max_new_tokens, 2 tokens\)$/m);
  assert.ok(stdout.length > 0);
});

Deno.test("one model is wanted, and values are looked at before it is loaded", async () => {
  const { status, stderr } = await chat(["other", "--top_p=2", "--min_p=x"], []);
  assert.equal(status, 2);
  assert.equal(
    stderr,
    'error: --top_p: expected a number from 0 to 1, found "2"\n--min_p: expected a number from 0 to 1, found "x"\n',
  );
});
