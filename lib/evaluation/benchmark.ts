/** Questions that a judge wants answered, and the file in which it reads the answers. */
import { UserError } from "../errors.ts";
import type { Sampling } from "../generation/request.ts";
import { isObject, show } from "../text/json.ts";
import { statOf } from "../files/stat_of.ts";
import { readTextFile } from "../files/whole_file.ts";

/** What a model is asked, turn by turn. */
export interface Question {
  /** Tells it from the others of the benchmark, and finds its answer in a file. */
  key: string;
  /** For messages. */
  where: string;
  /** What the user says. */
  turns: readonly string[];
  temperature: number;
}

/** The answers to a question. */
export interface Answered {
  /** One to each of its turns. */
  turns: readonly string[];
  id: string;
  /** Seconds since 1970. */
  time: number;
}

export type Answers = ReadonlyMap<string, Answered>;

/**
 * By whom answers are, and how they were made: every row of a file says it, and answers of other settings are not
 * mixed.
 */
export interface Maker {
  model: string;
  settings: Readonly<Record<string, number | string>>;
}

/** A row of a file of answers. */
export type AnswerRow = Record<string, unknown>;

/** A benchmark. */
export interface Benchmark {
  questions: readonly Question[];
  /** Most tokens of an answer, unless it is said otherwise. */
  maxTokens: number;
  /** How tokens are drawn besides the temperature; the rest is as the model's generation_config.json says. */
  sampling: Partial<Sampling>;
  /** The temperature, where it is one for all questions. */
  temperature?: number;
  /** Ending of the file's name. */
  extension: ".json" | ".jsonl";
  /** Name of the file of a model, in a folder of such files. */
  fileOf(model: string): string;
  /** Under what a row has the model's name. */
  modelKey: string;
  /** The rows of answers, whether all questions have one or not. */
  rowsOf(answers: Answers, maker: Maker): AnswerRow[];
  /** What the file holds. */
  write(rows: readonly AnswerRow[]): string;
  /** Its rows. @throws Error for what is no such file. */
  read(text: string): unknown[];
  /** What a row answers; undefined where it is no row of such a file. */
  answerOf(row: AnswerRow): [key: string, answer: Answered] | undefined;
}

/**
 * The answers that a file has; none where there is no file.
 *
 * @throws {UserError} (status 2) where it has something else, or answers that were made otherwise.
 */
export async function readAnswers(path: string, benchmark: Benchmark, maker: Maker): Promise<Answers> {
  if (await statOf(path) === undefined) return new Map();
  const turnsOf = new Map(benchmark.questions.map(({ key, turns }) => [key, turns.length]));
  const wanted = { [benchmark.modelKey]: maker.model, ...maker.settings };
  const answerOf = (row: unknown, i: number): [string, Answered] => {
    const found = isObject(row) ? benchmark.answerOf(row) : undefined;
    if (!isObject(row) || !found) {
      throw new Error(`row ${i}: expected a question and its answer, found ${show(row)}`);
    }
    const other = Object.keys(wanted).find((key) => row[key] !== wanted[key]);
    if (other !== undefined) {
      throw new Error(`row ${i}: expected ${other} ${show(wanted[other])}, found ${show(row[other])}`);
    }
    const [key, { turns }] = found;
    if (!turnsOf.has(key)) throw new Error(`row ${i}: it answers another question: ${show(key)}`);
    if (turns.length !== turnsOf.get(key)) {
      throw new Error(`row ${i}: it answers ${turns.length} turns of ${key}`);
    }
    return found;
  };
  try {
    return new Map(benchmark.read(await readTextFile(path)).map(answerOf));
  } catch (error) {
    throw new UserError(
      `${path}: the answers there are not those of this command: ${(error as Error).message}: ` +
        "name another --output, or --overwrite to begin it anew",
      2,
    );
  }
}
