import { isDeepStrictEqual } from "node:util";
import { UserError } from "../errors.ts";
import { isObject, shorten, show } from "../json.ts";

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

/** Answers in a file, a row of JSON each, written as they are made; a last row that was not written whole is taken away. */
export class AnswerFile implements Disposable {
  readonly #path: string;
  readonly #file: Deno.FsFile;
  readonly #rows: string[];

  /** @throws {UserError} where the file can be neither read nor written. */
  constructor(path: string, overwrite: boolean) {
    this.#path = path;
    try {
      this.#file = Deno.openSync(path, { read: true, write: true, create: true, truncate: overwrite });
      const text = Deno.readTextFileSync(path);
      const whole = text.slice(0, text.lastIndexOf("\n") + 1);
      this.#rows = whole.split("\n").slice(0, -1);
      const { length } = new TextEncoder().encode(whole);
      this.#file.truncateSync(length);
      this.#file.seekSync(length, Deno.SeekMode.Start);
    } catch (error) {
      throw this.#unwritable(error);
    }
  }

  /**
   * How many of the answers it has, the first ones.
   * @throws {UserError} (status 2) where it has others.
   */
  check(wanted: readonly Asked[]): number {
    for (const [i, line] of this.#rows.entries()) {
      const problem = difference(line, wanted[i]);
      if (problem === undefined) continue;
      throw new UserError(
        `${this.#path}:${i + 1}: ${problem}: name another file, or --overwrite to begin it anew`,
        2,
      );
    }
    return this.#rows.length;
  }

  /** @throws {UserError} where it cannot be written. */
  add(row: AnswerRow): void {
    try {
      for (let bytes = new TextEncoder().encode(`${JSON.stringify(row)}\n`); bytes.length > 0;) {
        bytes = bytes.subarray(this.#file.writeSync(bytes));
      }
    } catch (error) {
      throw this.#unwritable(error);
    }
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }

  #unwritable(error: unknown): unknown {
    if (error instanceof Deno.errors.NotCapable) return error;
    return new UserError(`--output: ${this.#path}: cannot be written: ${(error as Error).message}`);
  }
}

/** In what a row is not the answer that this command would have made; undefined where it is. */
function difference(line: string, wanted: Asked | undefined): string | undefined {
  let row: unknown;
  try {
    row = JSON.parse(line);
  } catch {
    // No answer, whatever it is.
  }
  if (!isObject(row) || typeof row.response !== "string") return "expected an answer of this command, found none";
  if (!wanted) return "expected no more answers than this command makes, found another";
  for (const key of ["model", "prompt", "options"] as const) {
    if (isDeepStrictEqual(row[key], JSON.parse(JSON.stringify(wanted[key])))) continue;
    const [expected, found] = [wanted[key], row[key]].map((value) =>
      shorten(typeof value === "string" ? show(value) : JSON.stringify(value) ?? "nothing")
    );
    return `expected the answer of this command with ${key} ${expected}, found one with ${found}`;
  }
}
