import { isDeepStrictEqual } from "node:util";
import { UserError } from "../errors.ts";
import { isObject, shorten, show } from "../text/json.ts";

/** What an answer is to: the model by its name, the prompt, and the options that were given. */
export interface Asked {
  model: string;
  prompt: unknown;
  options: Record<string, unknown>;
}

/** A row of the file. */
export interface AnswerRow extends Asked {
  response: string;
  finish_reason: string;
  tokens: number;
}

/** Answers in a file, a row of JSON each, written as they are made. */
export class AnswerFile implements Disposable {
  readonly #path: string;
  readonly #file: Deno.FsFile;
  /** How many answers it had. */
  readonly length: number;

  /**
   * Opens a file that is new, or has the first of the answers; a last row that was not written whole is taken away.
   *
   * @param wanted all answers that there are to be.
   * @throws {UserError} (status 2) where it has something else; where it can be neither read nor written.
   */
  constructor(path: string, wanted: readonly Asked[], overwrite: boolean) {
    this.#path = path;
    const text = overwrite ? "" : this.#try(() => textOf(path));
    const end = text.lastIndexOf("\n") + 1;
    const rows = text.slice(0, end).split("\n").slice(0, -1);
    this.length = rows.length;
    for (const [i, line] of rows.entries()) this.#refuse(i, difference(line, wanted[i]));
    if (!isBegun(text.slice(end), wanted[rows.length])) this.#refuse(rows.length, NO_ANSWER);
    const { length } = new TextEncoder().encode(text.slice(0, end));
    this.#file = this.#try(() => {
      const file = Deno.openSync(path, { write: true, create: true });
      file.truncateSync(length);
      file.seekSync(length, Deno.SeekMode.Start);
      return file;
    });
  }

  /** @throws {UserError} where it cannot be written. */
  add(row: AnswerRow): void {
    this.#try(() => {
      for (let bytes = new TextEncoder().encode(lineOf(row)); bytes.length > 0;) {
        bytes = bytes.subarray(this.#file.writeSync(bytes));
      }
    });
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }

  #refuse(row: number, problem: string | undefined): void {
    if (problem === undefined) return;
    const where = `--output: ${this.#path}:${row + 1}`;
    throw new UserError(`${where}: ${problem}: name another file, or --overwrite to begin it anew`, 2);
  }

  #try<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
      throw new UserError(`--output: ${this.#path}: cannot be written: ${(error as Error).message}`);
    }
  }
}

function textOf(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

const lineOf = ({ model, prompt, ...answer }: AnswerRow) =>
  `${JSON.stringify({ model, prompt, ...answer })}\n`;

/** Whether a line without its end is the beginning of an answer. */
function isBegun(line: string, wanted: Asked | undefined): boolean {
  if (!wanted) return line === "";
  const { model, prompt } = wanted;
  const begin = JSON.stringify({ model, prompt }).slice(0, -1);
  return line.startsWith(begin) || begin.startsWith(line);
}

const NO_ANSWER = "expected an answer of this command, found none";

/** In what a row is not the answer that this command would have made; undefined where it is. */
function difference(line: string, wanted: Asked | undefined): string | undefined {
  let row: unknown;
  try {
    row = JSON.parse(line);
  } catch {
    // No answer, whatever it is.
  }
  if (!isObject(row) || typeof row.response !== "string") return NO_ANSWER;
  if (!wanted) return "expected no more answers than this command makes, found another";
  for (const key of ["model", "prompt", "options"] as const) {
    if (isDeepStrictEqual(row[key], JSON.parse(JSON.stringify(wanted[key])))) continue;
    const [expected, found] = [wanted[key], row[key]].map((value) =>
      shorten(typeof value === "string" ? show(value) : JSON.stringify(value) ?? "nothing")
    );
    return `expected the answer of this command with ${key} ${expected}, found one with ${found}`;
  }
}
