import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from "npm:hyparquet@^1.31.5";
import { compressors } from "npm:hyparquet-compressors@^1.1.2";
import { type FileHandle, open } from "node:fs/promises";
import { UserError } from "../errors.ts";
import { unreadable } from "./bytes.ts";
import { describePlace, type Row, rowAt } from "./row.ts";

/** The columns of preference data; others are left on the disk, unless these are not all there and a message names them. */
const COLUMNS = ["prompt", "chosen", "rejected"];

/** A page of a hostile file may claim any size; those of real files have some megabytes. */
const LARGEST_PAGE = 2 ** 30;

/** Rows of one Parquet file; what is in memory at a time is one row group of the columns that are read. */
export async function* readParquet(path: string): AsyncGenerator<Row> {
  const file = await openFile(path);
  try {
    const { buffer, metadata } = await readMetadata(file, path);
    const names = parquetSchema(metadata).children.map(({ element }) => element.name);
    const isWhole = names.includes("chosen") && names.includes("rejected");
    const columns = isWhole ? names.filter((name) => COLUMNS.includes(name)) : names;
    let number = 0;
    for (const { num_rows } of metadata.row_groups) {
      const rowEnd = number + Number(num_rows);
      const rows = await guard(describePlace({ file: path, unit: "row", number }), async () => {
        const found = await parquetReadObjects({
          file: buffer,
          metadata,
          columns,
          rowStart: number,
          rowEnd,
          compressors: bounded,
        });
        if (found.length !== rowEnd - number) {
          throw new Error(`a row group of ${rowEnd - number} rows holds ${found.length}`);
        }
        return found;
      });
      for (const row of rows) {
        yield rowAt(row, { file: path, unit: "row", number: number++ });
      }
    }
  } finally {
    await file.close();
  }
}

/** The rows of a Parquet file, by its own account. */
export async function countParquetRows(path: string): Promise<number> {
  const file = await openFile(path);
  try {
    return Number((await readMetadata(file, path)).metadata.num_rows);
  } finally {
    await file.close();
  }
}

const openFile = (path: string): Promise<FileHandle> =>
  open(path).catch((error) => {
    throw unreadable(error, path);
  });

async function readMetadata(
  file: FileHandle,
  path: string,
): Promise<{ buffer: AsyncBuffer; metadata: FileMetaData }> {
  const { size } = await file.stat();
  return await guard(path, async () => {
    if (size < 12) throw new Error(`${size} bytes`);
    const buffer: AsyncBuffer = {
      byteLength: size,
      slice: (start, end = size) => readRange(file, start, Math.min(end, size)),
    };
    const metadata = await parquetMetadataAsync(buffer);
    const rows = metadata.row_groups.reduce((sum, group) => sum + Number(group.num_rows), 0);
    if (rows !== Number(metadata.num_rows)) {
      throw new Error(`${metadata.num_rows} rows, but ${rows} in its row groups`);
    }
    if (rows > 8 * size) throw new Error(`${rows} rows in ${size} bytes`);
    return { buffer, metadata };
  });
}

async function readRange(file: FileHandle, start: number, end: number): Promise<ArrayBuffer> {
  if (!(start >= 0 && start <= end)) throw new Error(`bytes ${start} to ${end} are not in the file`);
  const bytes = new Uint8Array(end - start);
  for (let at = 0; at < bytes.length;) {
    const { bytesRead } = await file.read(bytes, at, bytes.length - at, start + at);
    if (bytesRead === 0) throw new Error("the file ends early");
    at += bytesRead;
  }
  return bytes.buffer;
}

const bounded = Object.fromEntries(
  Object.entries(compressors).map(([codec, decompress]) => [
    codec,
    (input: Uint8Array, length: number) => {
      if (length > LARGEST_PAGE) throw new Error(`a page of ${length} bytes`);
      return decompress!(input, length);
    },
  ]),
);

/** Whatever goes wrong in the decoder is the file's fault: its own errors are of every kind. */
async function guard<T>(where: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw new UserError(
      `${where}: cannot be read as Parquet: ${
        (error as Error).message
      } (the file is damaged or not whole: fetch it again)`,
    );
  }
}
