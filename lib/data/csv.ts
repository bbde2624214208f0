import { Readable } from "node:stream";
import { UserError } from "../errors.ts";
import { shorten, show } from "../text/json.ts";
import { readBytes, unreadable } from "./bytes.ts";
import { LONGEST_ROW } from "./jsonl.ts";
import { float } from "./python_values.ts";
import { describePlace, type Place, type Row, rowAt } from "./row.ts";

/** What pandas reads as missing, quoted or not. */
const MISSING: ReadonlySet<string> = new Set([
  "",
  "#N/A",
  "#N/A N/A",
  "#NA",
  "-1.#IND",
  "-1.#QNAN",
  "-NaN",
  "-nan",
  "1.#IND",
  "1.#QNAN",
  "<NA>",
  "N/A",
  "NA",
  "NULL",
  "NaN",
  "None",
  "n/a",
  "nan",
  "null",
]);
const INTEGER = /^\s*[+-]?\d+\s*$/;
const FLOAT = /^(?:\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\s*|[+-]?inf(?:inity)?)$/i;
/** Longer digits are no number that anything counts. */
const LONGEST_NUMBER = 400;
const BOOLEAN = /^(?:true|false)$/i;

/** The rows by which `datasets` tells what a column holds, and most characters of them. */
const FIRST_ROWS = 10_000;
const FIRST_CHARACTERS = 2 ** 25;

interface Line {
  cells: (string | null)[];
  number: number;
}

/**
 * Rows of a CSV file with a line of column names, as `datasets.load_dataset("csv")` (pandas) has them: cells such as
 * "" and NA are null, and a column that holds nothing but numbers, or true and false, in its first 10,000 rows holds
 * them as such.
 *
 * @throws {UserError} with its line, also for what pandas reads in a way that nobody means: a row longer than the
 * line of names, text after a closing quote.
 */
export async function* readCsv(path: string, delimiter: "," | "\t"): AsyncGenerator<Row> {
  const lines = linesOf(path, delimiter);
  const first = await lines.next();
  if (first.done) throw new UserError(`${path}: expected a line of column names, found an empty file`);
  const names = columnNames(first.value, path);
  const rows: Line[] = [];
  let characters = 0;
  let next = await lines.next();
  for (; !next.done && rows.length < FIRST_ROWS && characters < FIRST_CHARACTERS; next = await lines.next()) {
    rows.push(checked(next.value, names, path));
    characters += next.value.cells.reduce((sum, cell) => sum + (cell?.length ?? 0), 0);
  }
  const readers = names.map((_, i) => readerOf(rows.map(({ cells }) => cells[i] ?? null)));
  const rowOf = ({ cells, number }: Line) => {
    const place: Place = { file: path, unit: "line", number };
    const entries = names.map((name, i) => {
      const cell = cells[i] ?? null;
      const value = cell === null ? null : readers[i].read(cell);
      if (value !== undefined) return [name, value];
      throw new UserError(
        `${describePlace(place)}: ${show(name)}: expected ${
          readers[i].kind
        }, as in the rows before (so \`datasets\` reads ` +
          `the column), found ${show(cell)}: keep CSV for text, or write JSONL`,
      );
    });
    return rowAt(Object.fromEntries(entries), place);
  };
  for (const line of rows.splice(0)) yield rowOf(line);
  for (; !next.done; next = await lines.next()) yield rowOf(checked(next.value, names, path));
}

/** Column names as pandas makes them, but for two that are the same. */
function columnNames({ cells, number }: Line, path: string): string[] {
  const names = cells.map((cell, i) => cell || `Unnamed: ${i}`);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice === undefined) return names;
  throw new UserError(`${path}:${number}: expected columns of different names, found ${show(twice)} twice`);
}

function checked(line: Line, names: readonly string[], path: string): Line {
  if (line.cells.length > names.length) {
    throw new UserError(
      `${path}:${line.number}: expected ${names.length} cells as in the line of column names, found ` +
        `${line.cells.length}: put a text that holds the delimiter in double quotes`,
    );
  }
  return { ...line, cells: line.cells.map((cell) => cell === null || MISSING.has(cell) ? null : cell) };
}

interface Reader {
  kind: string;
  /** Undefined for a cell that is none of the kind. */
  read: (cell: string) => unknown;
}

const TEXT: Reader = { kind: "text", read: (cell) => cell };

/** How the cells of a column are read that begins with these. */
function readerOf(cells: readonly (string | null)[]): Reader {
  const filled = cells.filter((cell) => cell !== null);
  if (filled.length === 0) return TEXT;
  if (filled.every((cell) => BOOLEAN.test(cell))) {
    return {
      kind: "true or false",
      read: (cell) => BOOLEAN.test(cell) ? cell.toLowerCase() === "true" : undefined,
    };
  }
  if (!filled.every((cell) => cell.length <= LONGEST_NUMBER && FLOAT.test(cell))) return TEXT;
  const isWhole = filled.length === cells.length && filled.every((cell) => INTEGER.test(cell));
  return {
    kind: isWhole ? "an integer" : "a number",
    read: (cell) =>
      cell.length <= LONGEST_NUMBER && (isWhole ? INTEGER : FLOAT).test(cell)
        ? (isWhole
          ? wholeOf(cell)
          : float(Number(cell.trim().replace(/^([+-]?)inf(inity)?$/i, "$1Infinity"))))
        : undefined,
  };
}

function wholeOf(cell: string): number | bigint {
  const text = cell.trim();
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : BigInt(text.replace(/^\+/, ""));
}

/** What the parser gives for a row. */
interface Parsed {
  record: string[];
  raw: string;
  /** Bytes up to its end. */
  info: { bytes: number };
}

/** With the line of the file where it begins. */
interface ParsedLine extends Parsed {
  number: number;
}

/** Lines of cells with the line of the file where each begins; blank ones are passed over. */
async function* linesOf(path: string, delimiter: string): AsyncGenerator<Line> {
  const { parse } = await import("npm:csv-parse@^7.0.3");
  // The line that the parser is at: it may be rows ahead of who reads them when it fails.
  let line = 1;
  let bytes = 0;
  let afterBlank = false;
  const numbered = (row: Parsed): ParsedLine => {
    const number = line;
    line += row.raw.match(/\r\n?|\n/g)?.length ?? 0;
    return { ...row, number };
  };
  const parser = Readable.from(textOf(path, () => line)).on("error", (error) => parser.destroy(error)).pipe(
    parse({
      delimiter,
      record_delimiter: ["\r\n", "\n", "\r"],
      relax_column_count: true,
      relax_quotes: true,
      raw: true,
      info: true,
      max_record_size: LONGEST_ROW,
      // Whose types know nothing of the raw text.
      on_record: numbered as unknown as (record: string[]) => string[],
    }),
  );
  try {
    for await (const { record, raw, info, number } of parser as AsyncIterable<ParsedLine>) {
      const isBlank = record.length === 1 && /^[ \t\r\n]*$/.test(raw);
      if (!isBlank) {
        // pandas takes such a line end and the delimiter together.
        if (afterBlank && record[0] === "" && raw.startsWith(delimiter)) {
          throw new UserError(
            `${path}:${number}: expected no blank line before a row that begins with an empty cell, where ` +
              "lines end with a carriage return, found one: remove it",
          );
        }
        checkQuotes(record, raw, delimiter, `${path}:${number}`);
        yield { cells: record, number };
      }
      // The raw text leaves the second of two characters at a line's end out.
      afterBlank = isBlank && raw.endsWith("\r") && info.bytes - bytes === raw.length;
      bytes = info.bytes;
    }
  } catch (error) {
    const { code, message } = error as { code?: unknown; message: string };
    if (error instanceof UserError || typeof code !== "string") throw error;
    if (!code.startsWith("CSV_")) throw unreadable(error, `${path}:${line}`);
    throw new UserError(
      code === "CSV_MAX_RECORD_SIZE"
        ? `${path}:${line}: expected a row, found no end of one in ${LONGEST_ROW} bytes: a double quote ` +
          "that is not closed?"
        : `${path}:${line}: not CSV: ${shorten(message, 200)}`,
    );
  } finally {
    parser.destroy();
  }
}

/**
 * The parser leaves a quoted cell that goes on after its closing quote as it is, and pandas joins the parts. Quoted
 * cells are written in one way alone, so a row that is written otherwise has such a cell.
 */
function checkQuotes(cells: readonly string[], raw: string, delimiter: string, where: string): void {
  if (!cells.some((cell) => cell.startsWith('"'))) return;
  let at = 0;
  for (const cell of cells) {
    const quoted = `"${cell.replaceAll('"', '""')}"`;
    const written = raw.startsWith('"', at) ? quoted : cell;
    if (!raw.startsWith(written, at) || (cell.startsWith('"') && written === cell)) {
      throw new UserError(
        `${where}: expected the end of the cell after its closing quote, found ${
          show(raw.slice(at, at + 40))
        }: double the quotes inside of a quoted text`,
      );
    }
    at += written.length + delimiter.length;
  }
}

/** A file's text in pieces; bytes that are no UTF-8 are an error. */
async function* textOf(path: string, line: () => number): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const decode = (bytes?: Uint8Array) => {
    try {
      return decoder.decode(bytes, { stream: bytes !== undefined });
    } catch {
      throw new UserError(
        `${path}:${line()}: expected UTF-8 from here on, found other bytes: save the file as UTF-8`,
      );
    }
  };
  for await (const bytes of readBytes(path)) yield decode(bytes);
  yield decode();
}
