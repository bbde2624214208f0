/** MT-Bench: questions of several turns, and answers in the jsonl of FastChat 0.2.36. */
import { readJsonLines } from "../data/jsonl.ts";
import type { Row } from "../data/row.ts";
import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import type { Answered, AnswerRow, Benchmark, Maker, Question } from "./benchmark.ts";

/** `temperature_config` of fastchat/llm_judge/common.py. */
const TEMPERATURES: ReadonlyMap<unknown, number> = new Map(Object.entries({
  writing: 0.7,
  roleplay: 0.7,
  extraction: 0,
  math: 0,
  coding: 0,
  reasoning: 0,
  stem: 0.1,
  humanities: 0.1,
  "arena-hard-200": 0,
}));
/** Of other categories. */
const TEMPERATURE = 0.7;
/** `--max-new-token` of gen_model_answer.py. */
const MAX_TOKENS = 1024;

type Id = string | number;

/**
 * Reads FastChat's question.jsonl. A question's `required_temperature` goes before that of its category, as in
 * gen_api_answer.py.
 *
 * @throws {UserError} (status 2) for the first line that is no question, or has the id of another one.
 */
export async function mtBench(file: string): Promise<Benchmark> {
  const questions: (Question & { id: Id })[] = [];
  const keys = new Set<string>();
  for await (const row of readJsonLines(file)) {
    const question = questionOf(row);
    if (keys.has(question.key)) {
      throw new UserError(`${row.where}: question_id: ${question.key} is that of another line`, 2);
    }
    keys.add(question.key);
    questions.push(question);
  }
  if (questions.length === 0) throw new UserError(`${file}: expected questions, found none`, 2);
  return {
    questions,
    maxTokens: MAX_TOKENS,
    // gen_model_answer.py leaves the rest to transformers, which asks the model's generation_config.json.
    sampling: {},
    extension: ".jsonl",
    fileOf: (model) => `model_answer/${model}.jsonl`,
    modelKey: "model_id",
    rowsOf: (answers, maker) =>
      questions.flatMap(({ id, key }) => {
        const answer = answers.get(key);
        return answer ? [rowOf(id, answer, maker)] : [];
      }),
    write: (rows) => rows.map((row) => `${JSON.stringify(row)}\n`).join(""),
    // What comes after the last end of a line was not written whole.
    read: (text) =>
      text.split("\n").slice(0, -1).filter((line) => line.trim() !== "").map((line) => JSON.parse(line)),
    answerOf,
  };
}

function questionOf({ row, where }: Row): Question & { id: Id } {
  const { question_id: id, turns, category, required_temperature: required } = row;
  const refuse = (key: string, expected: string) => {
    throw new UserError(`${where}: ${key}: expected ${expected}, found ${show(row[key])}`, 2);
  };
  if (typeof id !== "string" && !Number.isInteger(id)) refuse("question_id", "a whole number or a text");
  if (!isTexts(turns) || turns.length === 0) refuse("turns", "a list of texts");
  if (required !== undefined && !(typeof required === "number" && required >= 0)) {
    refuse("required_temperature", "a number from 0");
  }
  return {
    id: id as Id,
    key: String(id),
    where,
    turns: turns as string[],
    temperature: required as number | undefined ?? TEMPERATURES.get(category) ?? TEMPERATURE,
  };
}

const rowOf = (question_id: Id, { turns, id, time }: Answered, { model, settings }: Maker) => ({
  question_id,
  answer_id: id,
  model_id: model,
  choices: [{ index: 0, turns }],
  tstamp: time,
  ...settings,
});

function answerOf({ question_id, answer_id, choices, tstamp }: AnswerRow): [string, Answered] | undefined {
  const choice = Array.isArray(choices) ? choices[0] : undefined;
  if (!isObject(choice) || !isTexts(choice.turns)) return;
  return [String(question_id), { turns: choice.turns, id: String(answer_id), time: Number(tstamp) }];
}

const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === "string");
