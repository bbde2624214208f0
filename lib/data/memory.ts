import { createHash } from "node:crypto";
import { UserError } from "../errors.ts";
import { unlessAborted } from "../progress/heed.ts";
import { isDeep, isObject, MOST_LEVELS, show } from "../text/json.ts";
import { type Row, rowAt } from "./row.ts";

/** A conversation's prompt and two answers to it. */
export interface PreferenceRow {
  /** A text, or messages `{role, content}`. */
  prompt?: unknown;
  /** The better answer: a text, or the messages of it or of the whole conversation. */
  chosen?: unknown;
  /** The other answer. */
  rejected?: unknown;
}

/** Rows one after the other: of pairs, or of any other shape that a data file may have. */
export type Rows =
  | Iterable<PreferenceRow | Record<string, unknown>>
  | AsyncIterable<PreferenceRow | Record<string, unknown>>;

/** Rows of a script, kept as a JSON Lines file has them: what becomes of its objects later is not seen. */
export interface MemoryRows {
  /** What messages call them, and the reports: `data`. */
  readonly path: string;
  /** Of their lines, in hexadecimal. */
  readonly sha256: string;
  /** The rows, from the first on. */
  read(): AsyncGenerator<Row>;
}

/**
 * Takes all rows.
 * @throws {UserError} for a row that is no object of JSON; the reason of `signal`, also while a row is waited for.
 */
export async function memoryRows(
  rows: Rows,
  path: string,
  signal?: AbortSignal,
): Promise<MemoryRows> {
  if (!areRows(rows)) {
    throw new UserError(`${path}: expected rows one after the other, found ${show(rows)}`, 1, "DATA_INVALID");
  }
  const lines: string[] = [];
  const hash = createHash("sha256");
  for await (const row of untilAborted(rows, signal)) {
    const line = lineOf(row, `${path}:row ${lines.length}`);
    lines.push(line);
    hash.update(line).update("\n");
  }
  return {
    path,
    sha256: hash.digest("hex"),
    read: async function* () {
      for (const [number, line] of lines.entries()) {
        yield rowAt(JSON.parse(line), { file: path, unit: "row", number });
      }
    },
  };
}

async function* untilAborted(rows: Rows, signal?: AbortSignal): AsyncGenerator<unknown> {
  if (!(Symbol.asyncIterator in rows)) {
    for (const row of rows) {
      signal?.throwIfAborted();
      yield row;
    }
    return;
  }
  const iterator = rows[Symbol.asyncIterator]();
  let isDone = false;
  try {
    while (true) {
      const next = await unlessAborted(Promise.resolve(iterator.next()), signal);
      if (next.done) break;
      yield next.value;
    }
    isDone = true;
  } finally {
    // Not waited for: one that waits for its next row itself ends when that comes, or never.
    if (!isDone) Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

/** Whether something is rows one after the other: a list, a generator or the like, and no text. */
export const areRows = (given: unknown): given is Rows =>
  typeof given === "object" && given !== null &&
  [Symbol.iterator, Symbol.asyncIterator].some((key) => typeof Reflect.get(given, key) === "function");

function lineOf(row: unknown, where: string): string {
  let line: string | undefined;
  try {
    line = isObject(row) ? JSON.stringify(row) : undefined;
  } catch (error) {
    throw new UserError(
      `${where}: expected texts or lists of messages, found what JSON cannot hold: ${
        (error as Error).message
      }`,
      1,
      "DATA_INVALID",
    );
  }
  const problem = line === undefined
    ? `expected an object such as {prompt, chosen, rejected}, found ${show(row)}`
    : isDeep(line)
    ? `it has more than ${MOST_LEVELS} levels of JSON`
    : undefined;
  if (problem !== undefined) throw new UserError(`${where}: ${problem}`, 1, "DATA_INVALID");
  return line!;
}
