import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { makeWorld } from "../../configs/tiny/make_world.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import type { Message } from "../../lib/tokenizer/chat_template.ts";

const TINY = new URL("../../configs/tiny/", import.meta.url).pathname;
const CONFIGS = ["tiny.yaml", "tiny-sft.yaml", "compare-tiny.yaml"];

async function textOf(path: string): Promise<string> {
  const bytes = await readFile(join(TINY, path));
  return (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("utf8");
}

interface Turn extends Message {
  content: string;
}

async function rowsOf(path: string): Promise<Record<string, Turn[]>[]> {
  return (await textOf(path)).trimEnd().split("\n").map((line) => JSON.parse(line));
}

const questionsOf = (rows: Record<string, Turn[]>[]) =>
  new Set(rows.map((row) => (row.messages ?? row.chosen)[0].content));

/** The middle sentence of an answer: the fact, without the manners around it. */
const factOf = (answer: string) => answer.split(/[.!?] /)[1];

Deno.test("make_world.ts writes the files that are in the repository", async () => {
  for (const [path, text] of makeWorld()) assert.ok(await textOf(path) === text, `${path} differs`);
});

Deno.test("the tiny model and its data are below 4 MB together", async () => {
  let bytes = 0;
  for (const entry of await readdir(TINY, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  assert.ok(bytes < 4e6, `${bytes} bytes`);
});

Deno.test("no test question is in any training file", async () => {
  const tested = questionsOf(await rowsOf("preferences/test.jsonl.gz"));
  assert.equal(tested.size, 28);
  for (const path of ["preferences/train.jsonl.gz", "sft/train.jsonl.gz"]) {
    const learnt = questionsOf(await rowsOf(path));
    assert.deepEqual([...tested].filter((question) => learnt.has(question)), [], path);
  }
});

Deno.test("no fact of a test pair is in a training pair", async () => {
  const facts = async (path: string) =>
    new Set((await rowsOf(path)).map(({ chosen }) => factOf(chosen[1].content as string)));
  const learnt = await facts("preferences/train.jsonl.gz");
  const tools = "To do that you need";
  const tested = [...await facts("preferences/test.jsonl.gz")];
  assert.ok(tested.some((fact) => fact.startsWith(tools)) && tested.length === 28);
  assert.deepEqual(tested.filter((fact) => learnt.has(fact)), []);
});

Deno.test("chosen answers are polite and right; rejected ones are rude, wrong or both", async () => {
  const polite = /(helps!|lovely day!|anything else\.|to help you\.)$/;
  for (const split of ["train", "test"]) {
    for (const { chosen, rejected } of await rowsOf(`preferences/${split}.jsonl.gz`)) {
      assert.deepEqual(chosen[0], rejected[0]);
      const [good, bad] = [chosen[1].content as string, rejected[1].content as string];
      assert.match(good, polite);
      assert.ok(!polite.test(bad) || factOf(good) !== factOf(bad), `${good} | ${bad}`);
    }
  }
});

Deno.test("prompts shown before and after are test questions", async () => {
  const tested = questionsOf(await rowsOf("preferences/test.jsonl.gz"));
  for (const name of CONFIGS) {
    const yaml = await readFile(join(TINY, "..", name), "utf8");
    const prompts = Array.from(yaml.matchAll(/^ {2}- (.+)$/gm), ([, prompt]) => prompt);
    assert.equal(prompts.length, 6);
    assert.deepEqual(prompts.filter((prompt) => !tested.has(prompt)), [], name);
  }
});

Deno.test("the tiny tokenizer gives back any text, and the special tokens as one id each", async () => {
  const { encode, decode, applyChatTemplate } = await loadTokenizer(join(TINY, "init"));
  for (const { messages } of await rowsOf("sft/test.jsonl.gz")) {
    const text = applyChatTemplate(messages);
    assert.equal(decode(encode(text)), text);
  }
  for (const text of ["  two spaces\n\n\tand a tab", "naïve 東京 🙂", "I'll say 12,345.67 \u0000\u007f"]) {
    assert.equal(decode(encode(text)), text);
  }
  assert.deepEqual(encode("<|endoftext|><|im_start|><|im_end|><|pad|>"), [0, 1, 2, 3]);
});

// From: tok = AutoTokenizer.from_pretrained("configs/tiny/init"); tok(TEXT, add_special_tokens=False)["input_ids"]
const TEXT = "<|im_start|>user\nWhat do I need to stay dry in rain, naïve 東京 12?<|im_end|>\n";
const IDS = [
  1,
  277,
  202,
  310,
  379,
  327,
  428,
  293,
  831,
  638,
  827,
  830,
  15,
  532,
  131,
  111,
  338,
  224,
  166,
  255,
  113,
  164,
  122,
  109,
  576,
  34,
  2,
  202,
];

Deno.test("the tiny tokenizer gives the ids of transformers", async () => {
  const { encode } = await loadTokenizer(join(TINY, "init"));
  assert.deepEqual(encode(TEXT), IDS);
});
