/** Files of answers for AlpacaEval and MT-Bench. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { alpacaEval } from "../../lib/evaluation/alpaca_eval.ts";
import { answerAll, type Chat } from "../../lib/evaluation/answer.ts";
import { type Answers, type Benchmark, readAnswers } from "../../lib/evaluation/benchmark.ts";
import { mtBench } from "../../lib/evaluation/mt_bench.ts";
import { UserError } from "../../lib/errors.ts";
import { task } from "../command.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const MODEL = "configs/tiny/model";
const INSTRUCTIONS = [
  { dataset: "koala", instruction: "What is ice?", output: "not looked at", generator: "another" },
  { instruction: "What is ice?", input: "", dataset: "vicuna", datasplit: "eval" },
  { instruction: "A poem, please." },
  { instruction: "2 + 2?", dataset: "helpful_base" },
];
const QUESTIONS = [
  { question_id: 81, category: "writing", turns: ["A text, please.", "Shorter."] },
  { question_id: 101, category: "math", turns: ["2 + 2?", "And 3?"], reference: ["4", "7"] },
  { question_id: 141, category: "stem", turns: ["What is ice?"] },
  { question_id: 7, category: "another", turns: ["Well?"] },
  { question_id: 8, category: "math", turns: ["Well?"], required_temperature: 0.3 },
];

const MAKER = { model: "model", settings: { max_new_tokens: 100, seed: 42 } };

/** Says what it was asked, and all that it was told. */
const fake: Chat = (messages, { temperature, maxNewTokens, seed, topP }) =>
  Promise.resolve(
    `${messages.map(({ role, content }) => `${role}:${content}`).join("|")}` +
      ` at ${temperature}, ${maxNewTokens}, ${seed}${topP === undefined ? "" : `, ${topP}`}`,
  );

const writeRows = async (folder: string) => {
  const files = { alpaca: join(folder, "alpaca_eval.json"), questions: join(folder, "question.jsonl") };
  await Deno.writeTextFile(files.alpaca, JSON.stringify(INSTRUCTIONS));
  await Deno.writeTextFile(files.questions, QUESTIONS.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return files;
};
const linesOf = (text: string) => text.trim().split("\n").map((line) => JSON.parse(line));
const run = (chat: Chat, benchmark: Benchmark, answers = new Map(), atATime = 2) => {
  const texts: string[] = [];
  const save = (all: Answers) => {
    texts.push(benchmark.write(benchmark.rowsOf(all, MAKER)));
    return Promise.resolve();
  };
  return answerAll(chat, benchmark, answers, { seed: 42, atATime, mostTokens: () => 100, save }).then(
    () => ({ texts, error: undefined }),
    (error) => ({ texts, error }),
  );
};

Deno.test("model_outputs.json has the rows of the instructions, in their order, the same one asked once", () =>
  withTemporaryFolder(async (folder) => {
    const { alpaca } = await writeRows(folder);
    const { texts } = await run(fake, await alpacaEval(alpaca, 0.9));
    const [ice, poem, sum] = ["What is ice?", "A poem, please.", "2 + 2?"].map((instruction, i) => ({
      instruction,
      output: `user:${instruction} at 0.9, 100, ${42 + i}, 1`,
      generator: "model",
      max_new_tokens: 100,
      seed: 42,
    }));
    assert.deepEqual(JSON.parse(texts.at(-1)!), [
      { dataset: "koala", ...ice },
      { dataset: "vicuna", datasplit: "eval", ...ice },
      poem,
      { dataset: "helpful_base", ...sum },
    ]);
  }));

Deno.test("a question of MT-Bench is asked in turns, at the temperature of its category or its own", () =>
  withTemporaryFolder(async (folder) => {
    const { questions } = await writeRows(folder);
    const { texts } = await run(fake, await mtBench(questions));
    const rows = linesOf(texts.at(-1)!);
    assert.deepEqual(rows.map(({ question_id, model_id }) => [question_id, model_id]), [
      ...[81, 101, 141, 7, 8].map((id) => [id, "model"]),
    ]);
    const turns = rows.map(({ choices: [{ index, turns }] }) => (assert.equal(index, 0), turns));
    const first = "user:A text, please. at 0.7, 100, 42";
    assert.deepEqual(turns[0], [
      first,
      `user:A text, please.|assistant:${first}|user:Shorter. at 0.7, 100, 47`,
    ]);
    assert.deepEqual(turns.slice(1).map(([turn]) => turn), [
      "user:2 + 2? at 0, 100, 43",
      "user:What is ice? at 0.1, 100, 44",
      "user:Well? at 0.7, 100, 45",
      "user:Well? at 0.3, 100, 46",
    ]);
    assert.equal(new Set(rows.map(({ answer_id }) => answer_id)).size, 5);
    assert.ok(rows.every(({ tstamp }) => Math.abs(tstamp - Date.now() / 1000) < 60));
  }));

Deno.test("a file that is half written is gone on with, and becomes the one that it would have been", () =>
  withTemporaryFolder(async (folder) => {
    const { alpaca, questions } = await writeRows(folder);
    for (const benchmark of [await alpacaEval(alpaca, 0), await mtBench(questions)]) {
      const path = join(folder, `answers${benchmark.extension}`);
      const whole = (await run(fake, benchmark)).texts.at(-1)!;
      let asked = 0;
      const failing: Chat = (messages, options) => {
        if (++asked > 2) return Promise.reject(new UserError("no more room"));
        return fake(messages, options);
      };
      const { texts, error } = await run(failing, benchmark, new Map(), 1);
      assert.match(error.message, /^.*: no more room$/);
      // A line that was cut, as FastChat's own may be.
      const cut = benchmark.extension === ".jsonl" ? '{"question_id": 141, "ans' : "";
      await Deno.writeTextFile(path, texts.at(-1)! + cut);
      const known = await readAnswers(path, benchmark, MAKER);
      assert.ok(known.size > 0 && known.size < benchmark.questions.length);
      const kept = [...known.values()];
      asked = -Infinity;
      const again = (await run(failing, benchmark, new Map(known))).texts.at(-1)!;
      const bare = (text: string) => text.replace(/"answer_id":"[^"]*"|"tstamp":[\d.]+/g, "");
      assert.equal(bare(again), bare(whole));
      for (const { id } of kept) assert.ok(again.includes(id));
    }
  }));

Deno.test("an answer that comes to its end when another fails is saved", () =>
  withTemporaryFolder(async (folder) => {
    const { questions } = await writeRows(folder);
    const chat: Chat = async (messages, options) => {
      if (messages[0].content === "A text, please.") throw new UserError("no more room");
      await new Promise((resolve) => setTimeout(resolve, 10));
      return fake(messages, options);
    };
    const { texts, error } = await run(chat, await mtBench(questions));
    assert.match(error.message, /question\.jsonl:1, turn 1: no more room/);
    assert.deepEqual(linesOf(texts.at(-1)!).map(({ question_id }) => question_id), [101]);
  }));

Deno.test("files of questions and answers that are none are refused by name", () =>
  withTemporaryFolder(async (folder) => {
    const file = join(folder, "file.json");
    const { alpaca, questions } = await writeRows(folder);
    const refused = async (text: string, read: () => Promise<unknown>, says: RegExp) => {
      await Deno.writeTextFile(file, text);
      await assert.rejects(read, (error: Error) => error instanceof UserError && says.test(error.message));
    };
    const outputs = { instruction: "2 + 2?", output: "4", ...MAKER.settings };
    const turn = {
      ...MAKER.settings,
      question_id: 101,
      model_id: "model",
      choices: [{ index: 0, turns: ["4"] }],
    };
    const [first, second] = [await alpacaEval(alpaca, 0), await mtBench(questions)];
    await refused("[", () => alpacaEval(file, 0), /--alpaca_eval: .*file\.json: cannot be read/);
    await refused("[]", () => alpacaEval(file, 0), /expected a list of instructions, found \[\]/);
    await refused(
      '[{"instruction": 1}]',
      () => alpacaEval(file, 0),
      /row 0: expected .* found instruction 1/,
    );
    await refused('{"question_id": 1}', () => mtBench(file), /file\.json:1: turns: expected a list of texts/);
    await refused('{"turns": ["a"]}', () => mtBench(file), /:1: question_id: expected .* found nothing/);
    const twice = `${JSON.stringify(QUESTIONS[0])}\n`.repeat(2);
    await refused(twice, () => mtBench(file), /:2: question_id: 81 is that of another line/);
    const answers = (benchmark: Benchmark) => () => readAnswers(file, benchmark, MAKER);
    const of = (generator: string, row = outputs) => JSON.stringify([{ ...row, generator }]);
    await refused(
      "{}",
      answers(first),
      /expected a list, found an object: name another --output, or --overwrite/,
    );
    await refused(of("other"), answers(first), /row 0: expected generator "model", found "other"/);
    await refused(
      of("model", { ...outputs, instruction: "?" }),
      answers(first),
      /it answers another question: "\?"/,
    );
    await refused(
      of("model", { ...outputs, seed: 1 }),
      answers(first),
      /row 0: expected seed 42, found 1: name another --output/,
    );
    await refused(
      of("model", { ...outputs, output: 1 as unknown as string }),
      answers(first),
      /row 0: expected a question and its/,
    );
    await refused(
      '[{"instruction": "Sum", "input": "2, 2"}]',
      () => alpacaEval(file),
      /row 0: expected input within instruction/,
    );
    await refused(`${JSON.stringify(turn)}\n`, answers(second), /it answers 1 turns of 101/);
    await refused(
      `${JSON.stringify({ ...turn, model_id: "b" })}\n`,
      answers(second),
      /model_id "model", found "b"/,
    );
  }));

Deno.test("simper eval answers both, keeps answers that are there, and says what it cannot do", () =>
  withTemporaryFolder(async (folder) => {
    const { alpaca, questions } = await writeRows(folder);
    const [output, model] = [join(folder, "out"), join(folder, "model")];
    await Deno.mkdir(model);
    for await (const { name } of Deno.readDir(MODEL)) {
      await Deno.copyFile(join(MODEL, name), join(model, name));
    }
    const words = [
      ...[model, "--alpaca_eval", alpaca, `--mt_bench=${questions}`, `--output=${output}`],
      ...["--max_length=96", "--max_new_tokens=40", "--per_device_eval_batch_size=2"],
    ];
    const first = await task("eval", ...words);
    assert.equal(first.status, 0, first.stderr);
    assert.match(
      first.stderr,
      /^warning: 2 of 5 questions have no room for answers of 40 tokens within max_length.*, 96: the least is 3\d$/m,
    );
    assert.match(
      first.stderr,
      /model\.jsonl: 7 answers, \d+ tokens in [\d.]+ s \([\d.]+ tokens\/s\)/,
    );
    const paths = [join(output, "model", "model_outputs.json"), join(output, "model_answer", "model.jsonl")];
    assert.deepEqual(first.stdout.trim().split("\n"), paths);
    const texts = () => Promise.all(paths.map((path) => Deno.readTextFile(path)));
    const [outputs, answers] = await texts();
    const rows = JSON.parse(outputs);
    assert.deepEqual(
      rows.map(({ instruction }: { instruction: string }) => instruction),
      INSTRUCTIONS.map(({ instruction }) => instruction),
    );
    assert.equal(rows[0].temperature, 0.7);
    assert.equal(linesOf(answers).length, QUESTIONS.length);

    // The same answer whatever else is answered: a file that lacks some becomes what it was.
    await Deno.writeTextFile(paths[0], JSON.stringify(rows.slice(0, 2)));
    const again = await task("eval", ...words);
    assert.match(again.stderr, /model\.jsonl: 5 of 5 answers are there and kept; --overwrite begins anew/);
    assert.match(again.stderr, /model_outputs\.json: 1 of 3 answers are there and kept/);
    assert.deepEqual([again.status, await texts()], [0, [outputs, answers]], again.stderr);

    // Another model's under the same name, or the same one's that draws otherwise.
    const config = join(model, "generation_config.json");
    await Deno.writeTextFile(
      config,
      JSON.stringify({ ...JSON.parse(await Deno.readTextFile(config)), top_k: 7 }),
    );
    const wrong: [string[], RegExp][] = [
      [
        words,
        /model_outputs\.json: .* row 0: expected model_sha256 "[0-9a-f]{16}", found .*--overwrite to begin it anew/,
      ],
      [[...words, "--max_length=90"], /row 0: expected max_length 90, found 96/],
      [[...words, "--text=deno.json"], /--text: expected neither --alpaca_eval nor --mt_bench with it/],
      [[...words, "other/model"], /two models have the name model/],
      [
        [...words, "--overwrite", "--max_length=8"],
        /: \d+ tokens leave no room for an answer within max_length/,
      ],
      [[...words, "--temperature=-1"], /--temperature: expected a number.*found "-1"/],
      [[MODEL, "--overwrite"], /--overwrite: expected --alpaca_eval=FILE or --mt_bench=FILE/],
      [
        [...words.filter((word) => !word.startsWith("--output")), "--output=a.json"],
        /--output: expected a folder, since there are several files/,
      ],
    ];
    for (const [words, says] of wrong) {
      const { status, stderr } = await task("eval", ...words);
      assert.match(stderr, says);
      assert.equal(status, says.source.includes("no room") ? 1 : 2);
    }
  }));
