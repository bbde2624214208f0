import { Buffer } from "node:buffer";
import { UserError } from "../errors.ts";
import { isDeep, isObject, MOST_LEVELS, show } from "../text/json.ts";
import { readBytes, unreadable } from "./bytes.ts";
import { parseJson } from "./python_json.ts";
import { describePlace, type Place, type Row, rowAt } from "./row.ts";

/** Longer rows are no rows of text, and a short gzip file can hold one of any length. */
export const LONGEST_ROW = 2 ** 23;

/** Rows of one JSONL file, a JSON object a line, without its blank lines. */
export async function* readJsonLines(path: string): AsyncGenerator<Row> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for await (const { bytes, number } of linesOf(path)) {
    const place: Place = { file: path, unit: "line", number };
    const where = describePlace(place);
    let row: unknown;
    if (isDeep(bytes)) {
      throw new UserError(
        `${where}: expected a row of text or messages, found more than ${MOST_LEVELS} levels of JSON`,
      );
    }
    try {
      row = parseJson(decoder.decode(bytes));
    } catch (error) {
      throw new UserError(`${where}: expected a JSON object on the line: ${(error as Error).message}`);
    }
    if (!isObject(row)) {
      throw new UserError(`${where}: expected a JSON object on the line, found ${show(row)}`);
    }
    yield rowAt(row, place);
  }
}

const isBlank = (bytes: Uint8Array) => bytes.every((byte) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d));

/** Lines that are not blank, with their numbers. JSON may hold U+2028 as it is, so node:readline cannot cut them. */
export async function* linesOf(path: string): AsyncGenerator<{ bytes: Uint8Array; number: number }> {
  let number = 1;
  let pieces: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of readBytes(path)) {
      let begin = 0;
      for (let end; (end = chunk.indexOf(0x0a, begin)) >= 0; begin = end + 1) {
        pieces.push(chunk.subarray(begin, end));
        const bytes = pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
        if (!isBlank(bytes)) yield { bytes, number };
        number++;
        pieces = [];
        length = 0;
      }
      pieces.push(chunk.subarray(begin));
      length += chunk.length - begin;
      if (length > LONGEST_ROW) {
        throw new UserError(
          `${path}:${number}: expected a JSON object on each line, found more than ${LONGEST_ROW} bytes on one`,
        );
      }
    }
    const bytes = Buffer.concat(pieces);
    if (!isBlank(bytes)) yield { bytes, number };
  } catch (error) {
    throw unreadable(error, `${path}:${number}`);
  }
}
