/** AlpacaEval: instructions, and model_outputs.json as alpaca_eval 0.6.6 takes it. */
import { UserError } from "../errors.ts";
import { GREEDY } from "../generation/request.ts";
import { isObject, shorten, show } from "../text/json.ts";
import { readTextFile } from "../files/whole_file.ts";
import type { Benchmark } from "./benchmark.ts";

/** That of Zephyr and of most of alpaca_eval's own models. */
const MAX_TOKENS = 2048;
/** That of Zephyr too, and of SimPO's models from Mistral's base (Meng et al., arXiv 2405.14734). */
export const TEMPERATURE = 0.7;

interface Instruction {
  instruction: string;
  dataset?: string;
  datasplit?: string;
}

/**
 * Reads a list of instructions: alpaca_eval.json, or any model_outputs.json, whose answers are not looked at.
 *
 * @throws {UserError} (status 2) for the first row that is none.
 */
export async function alpacaEval(file: string, temperature = TEMPERATURE): Promise<Benchmark> {
  const rows = await readInstructions(file);
  const keys = [...new Set(rows.map(({ instruction }) => instruction))];
  return {
    questions: keys.map((key) => ({
      key,
      where: `${file}: ${show(shorten(key, 60))}`,
      turns: [key],
      temperature,
    })),
    maxTokens: MAX_TOKENS,
    temperature,
    // Its own models are asked with a temperature and nothing else, whatever their generation_config.json says.
    sampling: GREEDY,
    extension: ".json",
    fileOf: (model) => `${model}/model_outputs.json`,
    modelKey: "generator",
    rowsOf: (answers, { model, settings }) =>
      rows.flatMap(({ instruction, ...row }) => {
        const [output] = answers.get(instruction)?.turns ?? [];
        return output === undefined ? [] : [{ ...row, instruction, output, generator: model, ...settings }];
      }),
    write: (rows) => `${JSON.stringify(rows, null, 2)}\n`,
    read: (text) => {
      const list: unknown = JSON.parse(text);
      if (Array.isArray(list)) return list;
      throw new Error(`expected a list, found ${show(list)}`);
    },
    answerOf: ({ instruction, output }) =>
      typeof instruction === "string" && typeof output === "string"
        ? [instruction, { turns: [output], id: "", time: 0 }]
        : undefined,
  };
}

async function readInstructions(file: string): Promise<Instruction[]> {
  let list: unknown;
  try {
    list = JSON.parse(await readTextFile(file));
  } catch (error) {
    throw new UserError(`--alpaca_eval: ${file}: cannot be read: ${(error as Error).message}`, 2);
  }
  if (!Array.isArray(list) || list.length === 0) {
    throw new UserError(`--alpaca_eval: ${file}: expected a list of instructions, found ${show(list)}`, 2);
  }
  return list.map((row, i) => {
    const refuse = (expected: string, found: string) => {
      throw new UserError(`--alpaca_eval: ${file}: row ${i}: expected ${expected}, found ${found}`, 2);
    };
    if (!isObject(row)) return refuse('{"instruction": TEXT, ...}', show(row));
    const { instruction, input, dataset, datasplit } = row;
    if (typeof instruction !== "string" || instruction === "") {
      return refuse('{"instruction": TEXT, ...}', `instruction ${show(instruction)}`);
    }
    // alpaca_eval's judges see the instruction alone.
    if (input !== undefined && input !== null && input !== "") {
      refuse("input within instruction", `input ${show(input)}`);
    }
    return {
      ...typeof dataset === "string" && { dataset },
      ...typeof datasplit === "string" && { datasplit },
      instruction,
    };
  });
}
