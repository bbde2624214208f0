import type { Buffer } from "node:buffer";
import { createReadStream } from "node:fs";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { UserError } from "../errors.ts";

/** A file's bytes in pieces; those of a .gz or .zst file come unpacked. Its errors are for `unreadable`. */
export async function* readBytes(path: string): AsyncGenerator<Buffer> {
  const source = createReadStream(path);
  const stream = path.endsWith(".gz")
    ? source.pipe(createGunzip())
    : path.endsWith(".zst")
    ? source.pipe(createZstdDecompress())
    : source;
  if (stream !== source) source.on("error", (error) => stream.destroy(error));
  try {
    yield* stream as AsyncIterable<Buffer>;
  } finally {
    source.destroy();
  }
}

/** An error of the file system or of gzip as a user's mistake at `where`; any other error as it is. */
export function unreadable(error: unknown, where: string): unknown {
  if (!isSystemError(error)) return error;
  const advice = /^(Z|ZSTD)_/.test(error.code ?? "")
    ? " (damaged or not whole gzip or zstd data: fetch the file again)"
    : "";
  return new UserError(`${where}: cannot be read: ${error.message}${advice}`);
}

const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && "code" in error;
