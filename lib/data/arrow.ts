import { Buffer } from "node:buffer";
import { type FileHandle, open } from "node:fs/promises";
import { RecordBatchReader } from "npm:apache-arrow@^21.2.0";
import { UserError } from "../errors.ts";
import { shorten } from "../text/json.ts";
import { checkMessage, DICTIONARY, ROWS, SCHEMA } from "./arrow_check.ts";
import { type Column, valueOf } from "./arrow_values.ts";
import { unreadable } from "./bytes.ts";
import { describePlace, type Renames, type Row, rowAt } from "./row.ts";
import { columnsToRead } from "./shapes.ts";

/** Before the length of a message, in all but the oldest files. */
const CONTINUATION = 0xffffffff;
const MAGIC = "ARROW1";
/** The schema of a file has some kilobytes. */
const LONGEST_METADATA = 2 ** 24;

/**
 * Rows of one Arrow file, of the stream format that `datasets` writes or of the file format; in memory is one batch
 * at a time.
 * @param renames see `readRows`.
 */
export async function* readArrow(path: string, renames?: Renames): AsyncGenerator<Row> {
  const file = await open(path).catch((error) => {
    throw unreadable(error, path);
  });
  let number = 0;
  const here = () => describePlace({ file: path, unit: "row", number });
  try {
    const { size } = await file.stat();
    let schema: Uint8Array | undefined;
    const dictionaries: Uint8Array[] = [];
    const messages = messagesOf(file, size);
    for (;;) {
      const next = await guard(here(), () => messages.next());
      if (next.done) break;
      const { kind, bytes } = next.value;
      if (kind === SCHEMA) schema = bytes;
      else if (kind === DICTIONARY) dictionaries.push(bytes);
      else if (kind === ROWS) {
        if (!schema) throw damaged(here(), "rows before a schema");
        const whole = Buffer.concat([schema, ...dictionaries, bytes]);
        const { columns, others, rows } = await guard(here(), () => Promise.resolve(batchOf(whole, renames)));
        for (let i = 0; i < rows; i++) {
          const values = await guardSync(
            here(),
            () => columns.map(([name, data]) => [name, valueOf(data, i, name)]),
          );
          yield rowAt({ ...others, ...Object.fromEntries(values) }, {
            file: path,
            unit: "row",
            number: number++,
          });
        }
      }
    }
    if (!schema) throw damaged(path, "no schema");
  } finally {
    await file.close();
  }
}

function batchOf(bytes: Uint8Array, renames?: Renames) {
  const reader = RecordBatchReader.from(bytes);
  for (const batch of reader) {
    const names = batch.schema.fields.map(({ name }) => name);
    const { columns, others } = columnsToRead(names, renames);
    const children = batch.data.children as unknown as Column[];
    if (names.some((name, i) => names.indexOf(name) !== i)) throw new Error("columns of the same name");
    if (children.some(({ length }) => length < batch.numRows)) throw new Error("columns of other lengths");
    return {
      columns: columns.map((name) => [name, children[names.indexOf(name)]] as const),
      others,
      rows: batch.numRows,
    };
  }
  return { columns: [], others: {}, rows: 0 };
}

/** The messages of a file, each with its body. The file format is a stream too, with a table of contents behind. */
async function* messagesOf(
  file: FileHandle,
  size: number,
): AsyncGenerator<{ kind: number; bytes: Uint8Array }> {
  const start = await read(file, 0, Math.min(8, size));
  let at = Buffer.from(start).toString("latin1").startsWith(MAGIC) ? 8 : 0;
  if (size === 0) throw new Error("0 bytes");
  while (at < size) {
    const head = await read(file, at, Math.min(8, size - at));
    const isMarked = head.length >= 4 && head.readUInt32LE(0) === CONTINUATION;
    if (head.length < (isMarked ? 8 : 4)) throw new Error("the file ends early");
    const length = head.readUInt32LE(isMarked ? 4 : 0);
    at += isMarked ? 8 : 4;
    if (length === 0) return;
    if (length > LONGEST_METADATA || at + length > size) throw new Error(`a message of ${length} bytes`);
    const metadata = await read(file, at, length);
    const { kind, bodyLength } = checkMessage(metadata, size);
    at += length;
    if (at + bodyLength > size) throw new Error("the file ends early");
    const prefix = Buffer.alloc(8);
    prefix.writeUInt32LE(CONTINUATION, 0);
    prefix.writeUInt32LE(length, 4);
    yield { kind, bytes: Buffer.concat([prefix, metadata, await read(file, at, bodyLength)]) };
    at += bodyLength;
  }
}

async function read(file: FileHandle, start: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length;) {
    const { bytesRead } = await file.read(bytes, at, length - at, start + at);
    if (bytesRead === 0) throw new Error("the file ends early");
    at += bytesRead;
  }
  return bytes;
}

async function guard<T>(where: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw damaged(where, (error as Error).message);
  }
}

function guardSync<T>(where: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw damaged(where, (error as Error).message);
  }
}

const damaged = (where: string, why: string) =>
  new UserError(
    `${where}: cannot be read as Arrow: ${
      shorten(why, 200)
    } (where that is no kind of column, the file is damaged or not ` +
      "whole: fetch it again)",
  );
