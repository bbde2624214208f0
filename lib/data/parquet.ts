import {
  type AsyncBuffer,
  type Compressors,
  type FileMetaData,
  parquetMetadata,
  parquetReadObjects,
  parquetSchema,
  type RowGroup,
} from "npm:hyparquet@^1.31.5";
import { compressors } from "npm:hyparquet-compressors@^1.1.2";
import { type FileHandle, open } from "node:fs/promises";
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import { UserError } from "../errors.ts";
import { isObject, shorten } from "../text/json.ts";
import { unreadable } from "./bytes.ts";
import { Budget, TooLarge } from "./parquet_limits.ts";
import { checkMetadata, type Columns, rangeOf } from "./parquet_metadata.ts";
import { checkPages, type Decompress } from "./parquet_pages.ts";
import { checkThrift } from "./parquet_thrift.ts";
import { converterOf, PARSERS } from "./parquet_values.ts";
import { describePlace, type Renames, type Row, rowAt } from "./row.ts";
import { columnsToRead } from "./shapes.ts";

/**
 * Rows of one Parquet file; what is in memory at a time is one row group of the columns that are read.
 * @param renames see `readRows`.
 */
export async function* readParquet(path: string, renames?: Renames): AsyncGenerator<Row> {
  const file = await openFile(path);
  try {
    const { buffer, metadata, columns: all } = await readMetadata(file, path);
    const tree = parquetSchema(metadata).children;
    const { columns, others } = columnsToRead(tree.map(({ element }) => element.name), renames);
    const converters = new Map(
      tree.filter(({ element }) => columns.includes(element.name))
        .map((node) => [node.element.name, guardSync(path, () => converterOf(node))]),
    );
    let number = 0;
    for (const group of metadata.row_groups) {
      const rowEnd = number + Number(group.num_rows);
      const rows = await guard(describePlace({ file: path, unit: "row", number }), async () => {
        await checkGroup(file, group, columns, all);
        if (columns.length === 0) return Array.from({ length: rowEnd - number }, () => ({}));
        const found = await parquetReadObjects({
          file: buffer,
          metadata,
          columns,
          rowStart: number,
          rowEnd,
          compressors: DECOMPRESSORS as Compressors,
          parsers: PARSERS,
          utf8: false,
        });
        if (found.length !== rowEnd - number) {
          throw new Error(`a row group of ${rowEnd - number} rows holds ${found.length}`);
        }
        for (const row of found) {
          for (const [name, convert] of converters) row[name] = convert(row[name]);
        }
        return found;
      });
      for (const row of rows) {
        yield rowAt({ ...others, ...withNulls(row) as Record<string, unknown> }, {
          file: path,
          unit: "row",
          number: number++,
        });
      }
    }
  } finally {
    await file.close();
  }
}

/**
 * The library has undefined for some nulls, such as that of a list, and a template would take that for a key which is
 * absent.
 */
function withNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => withNulls(item));
  if (!isObject(value) || Object.getPrototypeOf(value) !== Object.prototype) return value ?? null;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withNulls(item)]));
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

interface Opened {
  buffer: AsyncBuffer;
  metadata: FileMetaData;
  columns: Columns;
}

const FOOTER_END = 8;
const MAGIC = 0x31524150;

async function readMetadata(file: FileHandle, path: string): Promise<Opened> {
  const { size } = await file.stat();
  return await guard(path, async () => {
    if (size < 12) throw new Error(`${size} bytes`);
    const end = new DataView(await readRange(file, size - FOOTER_END, size));
    const length = end.getUint32(0, true) + FOOTER_END;
    if (end.getUint32(4, true) !== MAGIC || length > size) {
      throw new Error("it does not end as such a file does");
    }
    const footer = await readRange(file, size - length, size);
    checkThrift(new Uint8Array(footer, 0, length - FOOTER_END), 0);
    const metadata = parquetMetadata(footer, { geoparquet: false });
    const buffer: AsyncBuffer = {
      byteLength: size,
      slice: (start, end = size) => readRange(file, start, Math.min(end, size)),
    };
    return { buffer, metadata, columns: checkMetadata(metadata, size) };
  });
}

/** Looks at every page of a row group that is about to be decoded. */
async function checkGroup(
  file: FileHandle,
  group: RowGroup,
  names: string[],
  columns: Columns,
): Promise<void> {
  const metas = group.columns.flatMap(({ meta_data: meta }) =>
    meta && names.includes(meta.path_in_schema[0]) ? [meta] : []
  );
  const budget = new Budget(Number(group.num_rows), metas);
  for (const meta of metas) {
    const levels = columns.get(meta.path_in_schema.join("."))!;
    const { start, end } = rangeOf(meta);
    const decompress = meta.codec === "UNCOMPRESSED" ? undefined : DECOMPRESSORS[meta.codec];
    checkPages(new Uint8Array(await readRange(file, start, end)), meta, levels, budget, decompress);
  }
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

/** Those of the runtime stop at the length that the page's header says, and are faster. */
const DECOMPRESSORS = {
  ...compressors,
  GZIP: (input: Uint8Array, maxOutputLength: number) => gunzipSync(input, { maxOutputLength }),
  BROTLI: (input: Uint8Array, maxOutputLength: number) => brotliDecompressSync(input, { maxOutputLength }),
  ZSTD: (input: Uint8Array, maxOutputLength: number) => zstdDecompressSync(input, { maxOutputLength }),
} as Record<string, Decompress | undefined>;

function guardSync<T>(where: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new UserError(`${where}: ${(error as Error).message}`);
  }
}

/** Whatever goes wrong in the decoder is the file's fault: its own errors are of every kind. */
async function guard<T>(where: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof TooLarge) throw new UserError(`${where}: ${error.message}`);
    throw new UserError(
      `${where}: cannot be read as Parquet: ${
        shorten((error as Error).message, 200)
      } (the file is damaged or not whole: fetch it again)`,
    );
  }
}
