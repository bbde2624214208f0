import { Buffer } from "node:buffer";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { createGunzip } from "node:zlib";
import type { DatasetShare } from "../config/values.ts";
import { nearest, UserError } from "../errors.ts";
import { isObject, show } from "../json.ts";

/** One row of a data file. */
export interface Row {
  row: Record<string, unknown>;
  /** Where the row stands, as path:line. */
  where: string;
}

/** Longer lines are no rows of text, and a short gzip file can hold one of any length. */
const LONGEST_LINE = 64 * 2 ** 20;

/**
 * Rows of the data sets of `dataset_mixer`, in order, read line by line. Of each set the first int(share x rows) rows are
 * taken (the rule of the Alignment Handbook); a set of which a part is taken is read twice, to count its rows first. Test
 * splits are taken whole.
 *
 * @param split name with "train" or "test" in it.
 * @throws {UserError} for what is missing, and with path:line for a row that is not a JSON object.
 */
export async function* readMixer(mixer: readonly DatasetShare[], split: string): AsyncGenerator<Row> {
  const isTrain = split.includes("train");
  for (const { path, share } of mixer) {
    const files = await filesOf(path, split);
    let left = isTrain && share < 1 ? Math.trunc(share * await countRows(files)) : Infinity;
    for (const file of files) {
      if (left <= 0) break;
      for await (const row of readRows(file)) {
        yield row;
        if (--left <= 0) break;
      }
    }
  }
}

/** Rows of one .jsonl or .jsonl.gz file, without its blank lines. */
export async function* readRows(path: string): AsyncGenerator<Row> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for await (const { bytes, number } of lines(path)) {
    const where = `${path}:${number}`;
    let row: unknown;
    try {
      row = JSON.parse(decoder.decode(bytes));
    } catch (error) {
      throw new UserError(`${where}: expected a JSON object on the line: ${(error as Error).message}`);
    }
    if (!isObject(row)) {
      throw new UserError(`${where}: expected a JSON object on the line, found ${show(row)}`);
    }
    yield { row, where };
  }
}

async function countRows(files: string[]): Promise<number> {
  let rows = 0;
  for (const file of files) for await (const _ of lines(file)) rows++;
  return rows;
}

const isBlank = (bytes: Uint8Array) => bytes.every((byte) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d));

/** Lines that are not blank, with their numbers. JSON may hold U+2028 as it is, so node:readline cannot cut them. */
async function* lines(path: string): AsyncGenerator<{ bytes: Uint8Array; number: number }> {
  const source = createReadStream(path);
  const stream = path.endsWith(".gz") ? source.pipe(createGunzip()) : source;
  if (stream !== source) source.on("error", (error) => stream.destroy(error));
  let number = 1;
  let pieces: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
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
      if (length > LONGEST_LINE) {
        throw new UserError(
          `${path}:${number}: expected a JSON object on each line, found more than 64 MiB on one`,
        );
      }
    }
    const bytes = Buffer.concat(pieces);
    if (!isBlank(bytes)) yield { bytes, number };
  } catch (error) {
    if (!isSystemError(error)) throw error;
    const advice = error.code?.startsWith("Z_")
      ? " (damaged or not whole gzip data: fetch the file again)"
      : "";
    throw new UserError(`${path}:${number}: cannot be read: ${error.message}${advice}`);
  } finally {
    source.destroy();
  }
}

const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && "code" in error;

/** The files of one split: a file is its own train split, a folder has a file, or numbered files, for each split. */
export async function filesOf(path: string, split: string): Promise<string[]> {
  const stats = await stat(path).catch(() => undefined);
  if (!stats) throw await missing(path);
  if (!stats.isDirectory()) {
    if (split.includes("train")) return [path];
    throw new UserError(
      `dataset_mixer: ${path}: expected a folder with files for the splits to evaluate on ${
        show(split)
      }, found a ` +
        "file: put it into a folder as train.jsonl beside test.jsonl, or turn evaluation off",
    );
  }
  const names = (await readdir(path)).sort();
  const data = names.filter((name) => /\.jsonl(\.gz)?$/.test(name));
  const kind = split.includes("train") ? "train" : "test";
  const first = data.find((name) => name.startsWith(split)) ?? data.find((name) => name.startsWith(kind));
  if (first === undefined) {
    throw new UserError(
      `dataset_mixer: ${path}: expected a file ${split}*.jsonl or ${split}*.jsonl.gz, found ${
        names.length > 0
          ? names.slice(0, 8).join(", ") + (names.length > 8 ? ", ..." : "")
          : "an empty folder"
      }`,
    );
  }
  return numbered(first, data, path).map((name) => join(path, name));
}

/** All of the files name-00000-of-00003.jsonl that `first` is one of, or `first` alone. */
function numbered(first: string, names: string[], folder: string): string[] {
  const match = /^(.*-)\d+(-of-(\d+)\.jsonl(?:\.gz)?)$/.exec(first);
  if (!match) return [first];
  const [, stem, suffix, count] = match;
  const files = names.filter((name) =>
    name.startsWith(stem) && name.endsWith(suffix) && /^\d+$/.test(name.slice(stem.length, -suffix.length))
  );
  if (files.length !== Number(count)) {
    throw new UserError(
      `dataset_mixer: ${folder}: expected ${Number(count)} files ${stem}*${suffix}, found ${files.length}`,
    );
  }
  return files;
}

async function missing(path: string): Promise<UserError> {
  const siblings = await readdir(dirname(path)).catch(() => undefined);
  const meant = siblings && nearest(basename(path), siblings);
  const hint = !siblings
    ? `there is no folder ${dirname(path)} either`
    : meant === undefined
    ? "give the path of a .jsonl or .jsonl.gz file, or of a folder of them"
    : `did you mean ${join(dirname(path), meant)}?`;
  return new UserError(`dataset_mixer: ${path}: expected a file or folder, found nothing there; ${hint}`);
}
