/** Questions that a judge wants answered, and the file in which it reads the answers. */
import { UserError } from "../errors.ts";
import { statOf } from "../stat_of.ts";
import { readTextFile } from "../whole_file.ts";

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

/** A benchmark. */
export interface Benchmark {
  questions: readonly Question[];
  /** Most tokens of an answer, unless it is said otherwise. */
  maxTokens: number;
  /** Whether an answer loses the white space around it, before the next turn too. */
  isTrimmed: boolean;
  /** Ending of the file's name. */
  extension: ".json" | ".jsonl";
  /** Name of the file of a model, in a folder of such files. */
  fileOf(model: string): string;
  /** What the file holds, whether all questions are answered or not. */
  write(answers: Answers, model: string): string;
  /** Answers of such a file, with their keys. @throws Error for one that is not of this model and these questions. */
  read(text: string, model: string): [key: string, answer: Answered][];
}

/**
 * The answers that a file has; none where there is no file.
 *
 * @throws {UserError} (status 2) where it has something else.
 */
export async function readAnswers(path: string, benchmark: Benchmark, model: string): Promise<Answers> {
  if (await statOf(path) === undefined) return new Map();
  try {
    const answers = new Map(benchmark.read(await readTextFile(path), model));
    const keys = new Map(benchmark.questions.map(({ key, turns }) => [key, turns.length]));
    for (const [key, { turns }] of answers) {
      if (!keys.has(key)) throw new Error(`it answers another question: ${key}`);
      if (turns.length !== keys.get(key)) throw new Error(`it answers ${turns.length} turns of ${key}`);
    }
    return answers;
  } catch (error) {
    throw new UserError(
      `${path}: the answers there are not those of this command: ${(error as Error).message}: ` +
        "name another --output, or --overwrite to begin it anew",
      2,
    );
  }
}
