import { Tokenizer, TokenParser, TokenType } from "npm:@streamparser/json@^0.0.26";
import { UserError } from "../errors.ts";
import { isObject, MOST_LEVELS, show } from "../text/json.ts";
import { readBytes, unreadable } from "./bytes.ts";
import { LONGEST_ROW } from "./jsonl.ts";
import { pythonNumber } from "./python_json.ts";
import { describePlace, type Row, rowAt } from "./row.ts";

/** Bytes that are looked at to tell JSON from JSONL under the name of JSON. */
const HEAD = 2 ** 20;

/** Rows of one JSON file: a list of them, or an object with a list `data`, read in pieces. */
export async function* readJson(path: string): AsyncGenerator<Row> {
  const head = (await headOf(path)).trimStart();
  const isObjectAtTop = head.startsWith("{");
  const expected = `expected a list of rows, or an object with a list "data" of them`;
  if (!isObjectAtTop && !head.startsWith("[")) {
    throw new UserError(`${path}: ${expected}, found ${show(head.slice(0, 40))}`);
  }
  const tokenizer = new PythonTokenizer();
  const parser = new TokenParser({ paths: [isObjectAtTop ? "$.data.*" : "$.*"], keepStack: false });
  let levels = 0;
  let bytes = 0;
  tokenizer.onToken = (info) => {
    const { token } = info;
    if (token === TokenType.LEFT_BRACE || token === TokenType.LEFT_BRACKET) levels++;
    else if (token === TokenType.RIGHT_BRACE || token === TokenType.RIGHT_BRACKET) levels--;
    // Those of the file around the row count too.
    if (levels > MOST_LEVELS) {
      throw new UserError(
        `${
          where(path, number)
        }: expected a row of text or messages, found more than ${MOST_LEVELS} levels of JSON`,
      );
    }
    parser.write(info);
  };
  // Wired as in the library's JSONParser, which takes no tokenizer of one's own.
  tokenizer.onEnd = () => parser.isEnded || parser.end();
  parser.onError = (error) => tokenizer.error(error);
  parser.onEnd = () => tokenizer.isEnded || tokenizer.end();
  let found: Row[] = [];
  let number = 0;
  parser.onValue = ({ value, key }) => {
    if (typeof key !== "number") {
      throw new UserError(`${path}: ${expected}, found data with a key ${show(key)}`);
    }
    if (!isObject(value)) {
      throw new UserError(`${where(path, number)}: expected a JSON object, found ${show(value)}`);
    }
    found.push(rowAt(value, { file: path, unit: "row", number: number++ }));
    bytes = 0;
  };
  for await (const chunk of pieces(path, () => number)) {
    bytes += chunk.length;
    if (bytes > LONGEST_ROW) {
      throw new UserError(`${where(path, number)}: ${expected}, found no end of one in ${LONGEST_ROW} bytes`);
    }
    parse(() => tokenizer.write(chunk), path, () => number);
    yield* found;
    found = [];
  }
  parse(() => tokenizer.isEnded || tokenizer.end(), path, () => number);
  if (isObjectAtTop && number === 0) throw new UserError(`${path}: ${expected}, found no rows in "data"`);
}

/** With numbers as Python's. */
class PythonTokenizer extends Tokenizer {
  protected override parseNumber(source: string): number {
    // The library hands a value on as it is.
    return pythonNumber(source) as number;
  }
}

const where = (file: string, number: number) => describePlace({ file, unit: "row", number });

async function* pieces(path: string, number: () => number): AsyncGenerator<Uint8Array> {
  try {
    yield* readBytes(path);
  } catch (error) {
    throw unreadable(error, where(path, number()));
  }
}

function parse(step: () => unknown, path: string, number: () => number): void {
  try {
    step();
  } catch (error) {
    if (error instanceof UserError) throw error;
    const message = (error as Error).message;
    throw new UserError(
      `${where(path, number())}: not JSON, or not the whole file: ${message}`,
    );
  }
}

async function headOf(path: string): Promise<string> {
  const found: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of pieces(path, () => 0)) {
    found.push(chunk);
    length += chunk.length;
    if (length >= HEAD) break;
  }
  return new TextDecoder().decode(await new Blob(found as BlobPart[]).arrayBuffer());
}

/**
 * Whether a file holds JSON Lines, which have any name: its first line is a whole object, and no object with a list
 * `data`; or it does not begin as JSON does, and is not named so.
 */
export async function isJsonLines(path: string): Promise<boolean> {
  const isNamedJson = /\.json(\.gz|\.zst)?$/.test(path);
  // What cannot be read is told by the reader, with its place.
  const head = (await headOf(path).catch(() => undefined))?.trimStart();
  if (head === undefined) return !isNamedJson;
  if (!head.startsWith("{")) return !isNamedJson && !/^\[\s*\{/.test(head);
  try {
    const first = JSON.parse(head.split("\n", 1)[0]);
    return !Array.isArray(first.data);
  } catch {
    // What is wrong is told with its line; and a first line may be longer than the head.
    return !isNamedJson;
  }
}
