import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { checkConfig } from "../../lib/checkpoint/fingerprint.ts";
import type { SavedRun } from "../../lib/checkpoint/state.ts";
import { parseConfig } from "../../lib/config/parse.ts";
import { configEntries } from "../../lib/config/write.ts";
import { readMixer } from "../../lib/data/read.ts";
import { canonicalRow, rowNotices } from "../../lib/data/shapes.ts";
import { nearest } from "../../lib/errors.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

type Row = Record<string, unknown>;
const pair = (row: Row) => canonicalRow(row, { usesRejected: true });
const alone = (row: Row) => canonicalRow(row, { usesRejected: false });
const user = (content: string) => ({ role: "user", content });
const answer = (content: string) => ({ role: "assistant", content });
const system = (content: string) => ({ role: "system", content });

const SHAPES: Record<string, [given: Row, expected: Row, read?: typeof pair]> = {
  "texts stay as they are": [
    { prompt: "p", chosen: "a", rejected: "b", id: 1 },
    { prompt: "p", chosen: "a", rejected: "b", id: 1 },
  ],
  "whole conversations beside a text prompt stay as they are": [
    { prompt: "Q", chosen: [user("Q"), answer("a")], rejected: [user("Q"), answer("b")] },
    { prompt: "Q", chosen: [user("Q"), answer("a")], rejected: [user("Q"), answer("b")] },
  ],
  "a text prompt is the user's turn of answers that have none": [
    { prompt: "Q", chosen: [answer("a")], rejected: [answer("b")] },
    { prompt: [user("Q")], chosen: [answer("a")], rejected: [answer("b")] },
  ],
  "and stands after the system message of both": [
    { prompt: "Q", chosen: [system("S"), answer("a")], rejected: [system("S"), answer("b")] },
    { prompt: [system("S"), user("Q")], chosen: [answer("a")], rejected: [answer("b")] },
  ],
  "an Intel-like row mapped to prompt keeps its system column unread": [
    { system: "S", prompt: "Q", chosen: "a", rejected: "b" },
    { system: "S", prompt: "Q", chosen: "a", rejected: "b" },
  ],
  "ShareGPT with single messages, as LLaMA-Factory has it": [
    {
      conversations: [{ from: "system", value: "S" }, { from: "human", value: "Q" }, {
        from: "gpt",
        value: "A",
      }, {
        from: "human",
        value: "R",
      }],
      chosen: { from: "gpt", value: "a" },
      rejected: { from: "gpt", value: "b" },
      system: "not this one",
    },
    {
      prompt: [system("S"), user("Q"), answer("A"), user("R")],
      chosen: [answer("a")],
      rejected: [answer("b")],
      system: "not this one",
    },
  ],
  "ShareGPT with texts and a system column": [
    { conversations: [{ from: "human", value: "Q" }], chosen: "a", rejected: "b", system: "S" },
    { prompt: [system("S"), user("Q")], chosen: [answer("a")], rejected: [answer("b")] },
  ],
  "whole ShareGPT conversations": [
    {
      chosen: [{ from: "human", value: "Q" }, { from: "gpt", value: "a" }],
      rejected: [{ from: "human", value: "Q" }, { from: "gpt", value: "b", weight: 0 }],
    },
    { chosen: [user("Q"), answer("a")], rejected: [user("Q"), { ...answer("b"), weight: 0 }] },
  ],
  "messages as the prompt of single messages": [
    { messages: [user("Q")], chosen: answer("a"), rejected: answer("b") },
    { prompt: [user("Q")], chosen: [answer("a")], rejected: [answer("b")] },
  ],
  "messages that end with an answer are no prompt": [
    {
      messages: [user("Q"), answer("a")],
      chosen: [user("Q"), answer("a")],
      rejected: [user("Q"), answer("b")],
    },
    {
      messages: [user("Q"), answer("a")],
      chosen: [user("Q"), answer("a")],
      rejected: [user("Q"), answer("b")],
    },
  ],
  "calls of functions and what they give": [
    {
      conversations: [
        { from: "human", value: "Q" },
        { from: "function_call", value: '{"name": "f", "arguments": {"x": 1}}' },
        { from: "observation", value: "2" },
      ],
      chosen: { from: "gpt", value: "a" },
      rejected: { from: "gpt", value: "b" },
    },
    {
      prompt: [
        user("Q"),
        {
          role: "assistant",
          content: "",
          tool_calls: [{ type: "function", function: { name: "f", arguments: { x: 1 } } }],
        },
        { role: "tool", content: "2" },
      ],
      chosen: [answer("a")],
      rejected: [answer("b")],
    },
  ],
  "Alpaca with two columns": [
    { instruction: "I", input: "X", chosen: "a", rejected: "b" },
    { prompt: [user("I\nX")], chosen: [answer("a")], rejected: [answer("b")] },
  ],
  "Alpaca with a list of outputs, a system and a history": [
    { instruction: "I", input: "", output: ["a", "b"], system: "S", history: [["Q", "A"]] },
    {
      prompt: [system("S"), user("Q"), answer("A"), user("I")],
      chosen: [answer("a")],
      rejected: [answer("b")],
    },
  ],
  "Alpaca with one output, where no rejected response is needed": [
    { instruction: "I", input: null, output: "a" },
    { prompt: [user("I")], chosen: [answer("a")] },
    alone,
  ],
  "a prompt and its completion, where no rejected response is needed": [
    { prompt: "p", completion: "a" },
    { prompt: "p", chosen: "a" },
    alone,
  ],
  "a conversation, where no rejected response is needed": [
    { conversations: [{ from: "human", value: "Q" }, { from: "gpt", value: "a" }], system: "S" },
    { messages: [system("S"), user("Q"), answer("a")] },
    alone,
  ],
  "messages, where no rejected response is needed": [
    { messages: [user("Q"), answer("a")], system: "S" },
    { messages: [user("Q"), answer("a")], system: "S" },
    alone,
  ],
};

for (const [name, [given, expected, read = pair]] of Object.entries(SHAPES)) {
  Deno.test(`shapes of rows: ${name}`, () => {
    const before = structuredClone(given);
    assert.deepEqual(read(given), expected);
    assert.deepEqual(given, before);
  });
}

const REFUSALS: [row: Row, message: RegExp, read?: typeof pair][] = [
  [{ prompt: "p", completion: "a", label: true }, /single judged responses, without pairs \(KTO\)/],
  [{ prompt: "p", completions: ["a"], labels: [true] }, /stepwise supervision/],
  [
    { prompt: "p", responses: ["a", "b"], scores: [1, 2] },
    /several responses .* with scores.*two of "responses" by "scores"/,
  ],
  [{ messages: [user("Q"), answer("a")] }, /single responses \(SFT\).*loss_type: sft trains on "messages"$/],
  [{ prompt: "p", completion: "a" }, /\(SFT\).*loss_type: sft trains on "completion"$/],
  [{ instruction: "I", output: "a" }, /expected a key "rejected", found .*\(SFT\).*loss_type: sft trains on/],
  [{ question: "Q", answer: "a" }, /\(SFT\).*"answer": set column_mapping: \{answer: chosen\}$/],
  [{ prompt: "p", chosen: "a" }, /expected a key "rejected".*\(SFT\)/],
  [{ prompt: "p" }, /prompts alone/],
  [{ text: "t" }, /texts for language modelling/],
  [
    { question: "Q", response_j: "a", response_k: "b" },
    /pairs under other names: set column_mapping: \{question: prompt, response_j: chosen, response_k: rejected\}$/,
  ],
  [{ prompt: "p", chosen: "a", reject: "b" }, /set column_mapping: \{reject: rejected\}$/],
  [
    { prompt: "p", chosen: "a", rejectd: "b" },
    /did you mean "rejectd"\? Then set column_mapping: \{rejectd: rejected\}$/,
  ],
  [
    { prompt: "p", chosen: null, rejected: "b" },
    /^chosen: expected text or a list of messages, found null: remove/,
  ],
  [{ prompt: "p", chosen: "a", rejected: null }, /^rejected: expected .*, found null: remove the row$/],
  [
    { prompt: "p", chosen: null, rejected: null },
    /expected a key "chosen", found "prompt" \("chosen" is null\)/,
  ],
  [{ prompt: "p", answer: "a" }, /to train on "answer", set column_mapping: \{answer: chosen\}$/, alone],
  [
    { conversations: [{ from: "owl", value: "Q" }], chosen: "a", rejected: "b" },
    /^conversations\[0\]\.from: expected one of human, user, gpt, .*, found "owl"$/,
  ],
  [
    { conversations: [{ from: "function_call", value: "f(x)" }], chosen: "a", rejected: "b" },
    /^conversations\[0\]\.value: expected JSON such as .*, found "f\(x\)"$/,
  ],
];
for (const [row, message, read = pair] of REFUSALS) {
  Deno.test(`a row that is no pair is named for what it is: ${JSON.stringify(row).slice(0, 90)}`, () => {
    assert.throws(() => read(row), { name: "UserError", message });
  });
}

Deno.test("columns that mean something and are not read are noticed, with what would read them", () => {
  const found = rowNotices(
    pair({ system: "S", question: "Q", chosen: "a", rejected: "b", id: 3, tools: [] }),
  );
  assert.equal(found.length, 3);
  assert.match(found[0], /"question" is not read: column_mapping: \{question: prompt\} makes it the prompt/);
  assert.match(found[1], /"system" is not read: put what it says/);
  assert.match(found[2], /"tools" is not read: it is handed to the chat template where rows are lists/);
  assert.deepEqual(
    rowNotices(pair({ prompt: "p", chosen: "a", rejected: "b", system: "", label: null, id: 3 })),
    [],
  );
  assert.deepEqual(rowNotices(pair({ chosen: [user("Q")], rejected: [user("Q")], tools: [{}] })), []);
  for (const [given, expected, read = pair] of Object.values(SHAPES)) {
    assert.equal(rowNotices(read(given)).length, "system" in expected ? 1 : 0, JSON.stringify(given));
  }
});

Deno.test("a prompt that chosen and rejected begin with is noticed", () => {
  const prompt = [user("Q")];
  const row = { prompt, chosen: [user("Q"), answer("a")], rejected: [user("Q"), answer("b")] };
  assert.match(
    rowNotices(pair(row)).join("|"),
    /^chosen and rejected begin with the messages of prompt.*leave prompt out/,
  );
  assert.deepEqual(rowNotices(pair({ ...row, rejected: [answer("b")] })), []);
  assert.deepEqual(rowNotices(pair({ prompt, chosen: [answer("a")], rejected: [answer("b")] })), []);
});

Deno.test("nothing is meant by a word but another word", () => {
  assert.equal(nearest("chosen", ["chosen"]), undefined);
  assert.equal(nearest("chosen", ["chosen", "choosen"]), "choosen");
});

Deno.test("column_mapping names columns anew, and says which are not there", async () => {
  await withTemporaryFolder(async (folder) => {
    const path = join(folder, "a.jsonl");
    const read = (columns: Record<string, string>) =>
      Array.fromAsync(readMixer([{ path, share: 1, columns: new Map(Object.entries(columns)) }], "train"));
    const rejects = (columns: Record<string, string>, message: RegExp) =>
      assert.rejects(read(columns), { name: "UserError", message });
    await writeFile(
      path,
      '{"question":"Q","chosen":"a","rejected":"b"}\n{"chosen":"c","rejected":"d","prompt":null}\n',
    );
    assert.deepEqual(
      (await read({ question: "prompt", chosen: "rejected", rejected: "chosen" })).map(({ row }) => row),
      [
        { prompt: "Q", chosen: "b", rejected: "a" },
        { prompt: null, chosen: "d", rejected: "c" },
      ],
    );
    await rejects(
      { query: "prompt" },
      /^column_mapping: expected the column "query" in some row .*, found "question", "chosen"/,
    );
    await rejects(
      { question: "chosen" },
      /a\.jsonl:1: column_mapping: expected no column "chosen" beside "question"/,
    );
    const csv = join(folder, "a.csv");
    await writeFile(csv, "question,id\nQ,1\n");
    const columns = new Map([["question", "prompt"]]);
    const [{ row, where }] = await Array.fromAsync(readMixer([{ path: csv, share: 1, columns }], "train"));
    assert.deepEqual([row, where], [{ id: 1, prompt: "Q" }, `${csv}:2`]);
  });
});

Deno.test("column_mapping is a mapping to columns that are read, no two to one", () => {
  const parse = (line: string) =>
    parseConfig(`model_name_or_path: m\ndataset_mixer: {a: 1}\ncolumn_mapping: ${line}`, "run.yaml").config;
  assert.deepEqual(
    parse("{question: prompt, good: chosen}").columnMapping,
    new Map([["question", "prompt"], ["good", "chosen"]]),
  );
  assert.equal(parse("null").columnMapping, undefined);
  for (const line of ["{question: promt}", "{a: chosen, b: chosen}", "[a]", "{1: chosen}", "{'': chosen}"]) {
    assert.throws(() => parse(line), {
      status: 2,
      message:
        /run\.yaml:3:17: column_mapping: expected a mapping such as \{question: prompt\}, each to another of prompt, chosen/,
    });
  }
});

Deno.test("the Handbook's list of columns may name those that column_mapping renames", () => {
  const parse = (mapping: string) =>
    parseConfig(
      `model_name_or_path: m\ndataset_mixture: {datasets: [{id: a, columns: [question, good, bad]}]}\n${mapping}`,
      "run.yaml",
    );
  parse("column_mapping: {question: prompt, good: chosen, bad: rejected}");
  assert.throws(() => parse(""), { message: /columns: expected a list with chosen and rejected in it/ });
});

Deno.test("a resumed run has the column_mapping that it began with", () => {
  const config = (line: string) =>
    parseConfig(`model_name_or_path: m\ndataset_mixer: {a: 1}\n${line}`, "run.yaml").config;
  const record = (from: string) =>
    JSON.parse(JSON.stringify(Object.fromEntries(
      configEntries(config(from)).map(([key, value]) => [key, value instanceof Map ? [...value] : value]),
    )));
  const check = (from: string, now: string) =>
    checkConfig(
      config(now),
      { folder: "c", state: { run: { config: record(from) } } } as unknown as SavedRun,
    );
  const line = "column_mapping: {question: prompt}";
  check(line, line);
  check("", "");
  for (const [from, now] of [[line, ""], ["", line], [line, "column_mapping: {query: prompt}"]]) {
    assert.throws(() => check(from, now), { status: 2, message: /column_mapping: .* there, .* now/ });
  }
});

Deno.test("CSV that pandas reads as nobody means it is refused with its line", async () => {
  await withTemporaryFolder(async (folder) => {
    const path = join(folder, "a.csv");
    for (
      const [text, message] of [
        ["a,b\nx,y,z\n", /a\.csv:2: expected 2 cells as in the line of column names, found 3/],
        ["a,a\nx,y\n", /a\.csv:1: expected columns of different names, found "a" twice/],
        ['a,b\n"x\n"y,z\n', /a\.csv:2: expected the end of the cell after its closing quote, found/],
        ['a,b\nx,y\n"z,w\n', /a\.csv:3: not CSV: Quote Not Closed/],
        ["a,b\rx,y\r\r,z\r", /a\.csv:4: expected no blank line before a row that begins with an empty cell/],
        [`a,b\n${"1".repeat(200_000)},y\n,1,2\n`, /a\.csv:3: expected 2 cells/],
        ["", /a\.csv: expected a line of column names, found an empty file/],
        [new Uint8Array([0x61, 0x0a, 0xe9, 0x0a]), /a\.csv:1: expected UTF-8 from here on/],
        [
          "a,b\n" + "1,x\n".repeat(10_000) + "y,z\n",
          /a\.csv:10002: "a": expected an integer, as in the rows before/,
        ],
        [
          'a,b\n"' + "x".repeat(2 ** 23 + 1000),
          /a\.csv:2: expected a row, found no end of one in 8388608 bytes/,
        ],
      ] as const
    ) {
      await writeFile(path, text);
      await assert.rejects(Array.fromAsync(readMixer([{ path, share: 1 }], "train")), {
        name: "UserError",
        message,
      });
    }
  });
});
