/** `simper generate`. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { AnswerFile } from "../../lib/cli/answer_file.ts";
import { loadModel } from "../../mod.ts";
import { type Finished, task, taskWords } from "../command.ts";
import { refusal } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const MODEL = "configs/tiny/model";
const QUESTION = "What is the capital of Italy?";

/** The command with a text on its standard input. */
async function generate(input: string, ...words: string[]): Promise<Finished> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...taskWords("generate"), ...words],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input)).then(() => writer.close()).catch(() => {});
  const { code, stdout, stderr } = await child.output();
  const text = new TextDecoder();
  return { status: code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

const rowsOf = (text: string) => text.trimEnd().split("\n").map((line) => JSON.parse(line));

Deno.test("a prompt of the command line or standard input is answered in text, greedily unless something else is said", async () => {
  await using model = await loadModel(MODEL);
  const answer = await model.generate(QUESTION, { maxNewTokens: 8 });
  const { status, stdout, stderr } = await generate(`${QUESTION}\n`, MODEL, "--max_new_tokens=8");
  assert.equal(status, 0, stderr);
  assert.equal(stdout, `${answer}\n`);
  assert.match(
    stderr,
    /^configs\/tiny\/model: 1 answer, 8 tokens in [\d.]+ s \(\d+(\.\d)? tokens\/s\), 1 cut at the most tokens$/m,
  );

  const words = answer.split(" ");
  const stop = words.at(-2)!;
  const drawn = ["--temperature=1", "--top_k=0", "--seed=3", "--max_new_tokens=8"];
  const both = await task(
    "generate",
    MODEL,
    `./${MODEL}`,
    `--prompt=${QUESTION}`,
    ...drawn,
    "--num_return_sequences=2",
    `--stop=${stop}`,
    "--stop=never",
    "--log_level=error",
  );
  assert.equal(both.status, 0, both.stderr);
  assert.equal(both.stderr, "");
  const options = { temperature: 1, topK: 0, maxNewTokens: 8, stop: [stop, "never"] };
  const [first, second] = [
    await model.generate(QUESTION, { ...options, seed: 3 }),
    await model.generate(QUESTION, { ...options, seed: 4 }),
  ];
  assert.notEqual(first, second);
  const expected = [MODEL, `./${MODEL}`].map((name) =>
    `== ${name}, 1 of 2 ==\n${first}\n\n== ${name}, 2 of 2 ==\n${second}\n`
  );
  assert.equal(both.stdout, expected.join("\n"));
  const stopped = model.generate(QUESTION, { maxNewTokens: 8, stop: [stop] });
  assert.equal(await stopped, answer.slice(0, answer.indexOf(stop)).trim());
  assert.equal(stopped.end?.finishReason, "stop");
});

Deno.test("prompts of a file are answered a row each, in their order; the same command goes on where it was stopped", () =>
  withTemporaryFolder(async (folder) => {
    const [input, output] = [join(folder, "prompts.jsonl"), join(folder, "answers.jsonl")];
    const asked = [{ role: "user", content: QUESTION }];
    const prompts = ["Hello.", asked, ...Array.from({ length: 4 }, (_, i) => `What is ${i} and ${i}?`)];
    await Deno.writeTextFile(
      input,
      [
        { prompt: prompts[0] },
        { messages: [...asked, { role: "assistant", content: "Rome." }] },
        ...prompts.slice(2).map((prompt) => ({ prompt, other: 1 })),
      ].map((row) => JSON.stringify(row)).join("\n"),
    );
    const words = [
      MODEL,
      `--input=${input}`,
      "--temperature=0.8",
      "--seed=4",
      "--max_new_tokens=12",
      "--batch_size=2",
    ];
    const all = await task("generate", ...words);
    assert.equal(all.status, 0, all.stderr);
    const rows = rowsOf(all.stdout);
    assert.deepEqual(rows.map(({ prompt }) => prompt), prompts);
    for (const { model, finish_reason: reason, tokens, options } of rows) {
      assert.deepEqual({ model, options }, {
        model: MODEL,
        options: { max_new_tokens: 12, temperature: 0.8, seed: 4 },
      });
      assert.ok(reason === "stop" ? tokens <= 12 : reason === "length" && tokens === 12);
    }

    // As a signal leaves it, and another whose last row was being written.
    const lines = all.stdout.split("\n");
    await Deno.writeTextFile(output, `${lines.slice(0, 3).join("\n")}\n${lines[3].slice(0, 30)}`);
    const rest = await task("generate", ...words, `--output=${output}`);
    assert.deepEqual([rest.status, rest.stdout], [0, ""], rest.stderr);
    assert.match(rest.stderr, /answers\.jsonl: has 3 of 6 answers, and gets the others/);
    assert.equal(await Deno.readTextFile(output), all.stdout);
    const whole = await task("generate", ...words, `--output=${output}`);
    assert.deepEqual(
      [whole.status, whole.stdout, whole.stderr],
      [0, "", `${output}: has all 6 answers: there is nothing to do\n`],
    );
    const other = await task("generate", ...words.slice(0, -2), `--output=${output}`);
    assert.equal(other.status, 2);
    assert.match(
      other.stderr,
      /answers\.jsonl:1: expected the answer of this command with options .*name another file, or --overwrite/,
    );
    assert.equal(await Deno.readTextFile(output), all.stdout);
  }));

Deno.test("a file that is not of this command is left as it is", () =>
  withTemporaryFolder(async (folder) => {
    const path = join(folder, "answers.jsonl");
    const asked = [{ model: "m", prompt: "Zürich?", options: {} }, { model: "m", prompt: "b", options: {} }];
    const row = { ...asked[0], response: "Yes.", finish_reason: "stop", tokens: 3 };
    const has = async (text: string) => {
      await Deno.writeTextFile(path, text);
      using file = new AnswerFile(path, asked, false);
      return file.length;
    };
    for (const text of ["", '{"model":"m","pro', '{"model":"m","prompt":"Zürich?","response":"Ye']) {
      assert.equal(await has(text), 0);
      assert.equal(await Deno.readTextFile(path), "");
    }
    {
      using file = new AnswerFile(path, asked, false);
      file.add(row);
    }
    const line = await Deno.readTextFile(path);
    assert.deepEqual(JSON.parse(line), row);
    assert.equal(await has(`${line}{"model":"m","prompt":"b","resp`), 1);
    assert.equal(await Deno.readTextFile(path), line);
    for (
      const [text, says] of [
        ["my notes", /:1: expected an answer of this command, found none/],
        ["my\nnotes\n", /:1: expected an answer of this command, found none/],
        [`${line}${line}`, /:2: expected .* with prompt "b", found one with "Zürich\?"/],
        [`${line}notes`, /:2: expected an answer of this command, found none/],
        [line.replace('"m"', '"n"'), /:1: expected .* with model "m", found one with "n"/],
      ] as const
    ) {
      assert.match(await refusal(has(text)), says);
      assert.equal(await Deno.readTextFile(path), text);
    }
  }));

Deno.test("a signal ends the answers, and those that were made stay", () =>
  withTemporaryFolder(async (folder) => {
    const [input, output] = [join(folder, "prompts.jsonl"), join(folder, "answers.jsonl")];
    const prompts = Array.from({ length: 400 }, (_, i) => ({ prompt: `What is ${i}?` }));
    await Deno.writeTextFile(input, prompts.map((row) => JSON.stringify(row)).join("\n"));
    const child = new Deno.Command(Deno.execPath(), {
      args: [...taskWords("generate"), MODEL, `--input=${input}`, `--output=${output}`],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const size = () => Deno.stat(output).then(({ size }) => size, () => 0);
    const ended = child.output();
    const end = Date.now() + 60_000;
    while (await size() === 0 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill("SIGINT");
    const { code, stderr } = await ended;
    const log = new TextDecoder().decode(stderr);
    assert.equal(code, 130, log);
    assert.match(log, /stopping: the same command goes on after the answers in .*answers\.jsonl/);
    const rows = rowsOf(await Deno.readTextFile(output));
    assert.ok(rows.length > 0 && rows.length < 400);
  }));

Deno.test("mistakes are told at once, before a model is loaded", async () => {
  const { status, stderr } = await task(
    "generate",
    "--prompt=a",
    "--input=b",
    "--overwrite",
    "--num_return_sequences=2",
    "--temperature=0",
  );
  assert.equal(status, 2);
  assert.match(
    stderr,
    /^error: expected: simper generate MODEL .*\n--prompt and --input: .*\n--overwrite: .*\n--num_return_sequences: .*\n$/,
  );
  await withTemporaryFolder(async (folder) => {
    const input = join(folder, "prompts.jsonl");
    await Deno.writeTextFile(input, '{"prompt": "a"}\n{"prompt": [{"role": "user"}]}\n');
    const wrong = await task("generate", "nowhere", `--input=${input}`);
    assert.equal(wrong.status, 1);
    assert.match(
      wrong.stderr,
      /^error: \S+prompts\.jsonl:2: prompt\[0\]\.content: expected text, found nothing/,
    );
  });
  const second = await task("generate", MODEL, "nowhere", "--prompt=a");
  assert.deepEqual([second.status, second.stdout], [1, ""]);
  assert.match(second.stderr, /^error: nowhere: /);
  const empty = await task("generate", "nowhere");
  assert.deepEqual([empty.status, empty.stderr], [
    2,
    "error: standard input: expected a prompt, found nothing\n",
  ]);
});
