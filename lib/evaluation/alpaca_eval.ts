/** AlpacaEval: instructions, and model_outputs.json as alpaca_eval 0.6.6 takes it. */
import { UserError } from "../errors.ts";
import { isObject, shorten, show } from "../json.ts";
import { readTextFile } from "../whole_file.ts";
import type { Benchmark } from "./benchmark.ts";

/** That of most of alpaca_eval's own models. */
const MAX_TOKENS = 2048;

/**
 * Reads a list of instructions: alpaca_eval.json, or any model_outputs.json, whose answers are not looked at.
 *
 * @throws {UserError} (status 2) with the first mistakes.
 */
export async function alpacaEval(file: string, temperature: number): Promise<Benchmark> {
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
    isTrimmed: false,
    extension: ".json",
    fileOf: (model) => `${model}/model_outputs.json`,
    write: (answers, generator) => {
      const answered = rows.flatMap(({ instruction, dataset }) => {
        const [output] = answers.get(instruction)?.turns ?? [];
        return output === undefined ? [] : [{ dataset, instruction, output, generator }];
      });
      return `${JSON.stringify(answered, null, 2)}\n`;
    },
    read: (text, model) => {
      const list: unknown = JSON.parse(text);
      if (!Array.isArray(list)) throw new Error(`expected a list, found ${show(list)}`);
      return list.map((row, i) => {
        if (!isObject(row) || typeof row.instruction !== "string" || typeof row.output !== "string") {
          throw new Error(`row ${i}: expected instruction and output, found ${show(row)}`);
        }
        if (row.generator !== model) {
          throw new Error(`row ${i}: expected generator ${show(model)}, found ${show(row.generator)}`);
        }
        return [row.instruction, { turns: [row.output], id: "", time: 0 }];
      });
    },
  };
}

async function readInstructions(file: string): Promise<{ instruction: string; dataset?: string }[]> {
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
    const { instruction, dataset } = isObject(row) ? row : {};
    if (typeof instruction === "string" && instruction !== "") {
      return { instruction, ...typeof dataset === "string" && { dataset } };
    }
    throw new UserError(
      `--alpaca_eval: ${file}: row ${i}: expected {"instruction": TEXT, ...}, found ` +
        (isObject(row) ? `instruction ${show(instruction)}` : show(row)),
      2,
    );
  });
}
