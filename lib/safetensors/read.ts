import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { nearest, UserError } from "../errors.ts";
import { isPortable } from "../hub/repo.ts";
import { isObject, show } from "../text/json.ts";
import { statOf } from "../files/stat_of.ts";
import { DTYPE_BITS, isFloatDtype, toF32 } from "./dtype.ts";
import { headerLength, MAX_HEADER_BYTES, parseHeader, type TensorInfo } from "./header.ts";
import { readTextFile } from "../files/whole_file.ts";

/** The tensors of a model folder, open for reading. Reads may run at the same time. */
export interface Checkpoint {
  /** By name, in the order of the files and of the data in them. */
  tensors: Map<string, TensorInfo>;
  /** The safetensors files, in the order of their names. */
  files: string[];
  /** The `metadata` of the index, where there is one and it has some. */
  metadata?: Record<string, unknown>;
  /**
   * Elements of an F32, F16 or BF16 tensor in row-major order, widened to float32: `elements` of them
   * (default: all the rest) from `firstElement` (default 0). Only their bytes are read.
   *
   * @throws UserError where there is no such tensor or its dtype is another; RangeError for a range outside
   * of it.
   */
  readF32(name: string, firstElement?: number, elements?: number): Promise<Float32Array<ArrayBuffer>>;
  /** As `readF32`, but the bytes as they lie in the file, counted in bytes, of any dtype. */
  readBytes(name: string, firstByte?: number, bytes?: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Closes the files; nothing can be read afterwards. */
  close(): Promise<void>;
}

const SINGLE_FILE = "model.safetensors";
const INDEX_FILE = "model.safetensors.index.json";
/** What a save of one shard is called; transformers reads it only beside an index, which has nothing to add. */
const LONE_SHARD = "model-00001-of-00001.safetensors";

/** Whether a folder has weights that `openCheckpoint` would read. */
export async function hasWeights(folder: string): Promise<boolean> {
  for (const file of [SINGLE_FILE, INDEX_FILE, LONE_SHARD]) {
    if (await isKind(join(folder, file), "isFile")) return true;
  }
  return false;
}

/**
 * Opens the weights of a model folder: model.safetensors, or else the shards of model.safetensors.index.json, or else
 * a lone shard without an index. Only the headers are read, and every offset in them is checked against the file's
 * size.
 *
 * @param warn told where transformers would not read the file that was taken.
 * @throws UserError for a folder or file that is missing, truncated or not what the format says.
 */
export async function openCheckpoint(
  folder: string,
  warn: (message: string) => void = () => {},
): Promise<Checkpoint> {
  if (!await isKind(folder, "isDirectory")) {
    throw new UserError(
      `${folder}: no such folder: expected a model folder with ${SINGLE_FILE} or ${INDEX_FILE}`,
    );
  }
  if (await isKind(join(folder, SINGLE_FILE), "isFile")) return await openFiles([join(folder, SINGLE_FILE)]);
  if (await isKind(join(folder, INDEX_FILE), "isFile")) return await openShards(folder);
  if (await isKind(join(folder, LONE_SHARD), "isFile")) {
    warn(
      `${folder}: ${LONE_SHARD} is read, though there is no ${INDEX_FILE}: transformers would look for ${SINGLE_FILE}`,
    );
    return await openFiles([join(folder, LONE_SHARD)]);
  }
  const pickled = await isKind(join(folder, "pytorch_model.bin"), "isFile") ||
    await isKind(join(folder, "pytorch_model.bin.index.json"), "isFile");
  if (pickled) {
    throw new UserError(
      `${folder}: found only pytorch_model.bin: pickled files are not read, because loading one can run ` +
        `any code. Convert it: load the model with transformers and save_pretrained() writes ${SINGLE_FILE}`,
    );
  }
  const others = (await readdir(folder)).filter((name) => name.endsWith(".safetensors")).sort();
  throw new UserError(
    `${folder}: expected ${SINGLE_FILE} or ${INDEX_FILE}, found neither. ` +
      (others.length > 0
        ? `There is ${others.slice(0, 8).map(show).join(", ")}${others.length > 8 ? ", ..." : ""}: as in ` +
          `transformers, only those names are read: rename it if it holds the whole model`
        : "Is it the folder of a model?"),
  );
}

/**
 * Opens one safetensors file, as `openCheckpoint`.
 *
 * @throws UserError for a file that is missing, truncated or not what the format says.
 */
export function openSafetensors(path: string): Promise<Checkpoint> {
  return openFiles([path]);
}

/** Tensors by name, to be read. */
export type TensorReader = Pick<Checkpoint, "tensors" | "readF32" | "readBytes">;

/** The tensors of a checkpoint whose names begin with `prefix`, by what follows it. */
export function withPrefix({ tensors, readF32, readBytes }: TensorReader, prefix: string): TensorReader {
  const found = [...tensors].filter(([name]) => name.startsWith(prefix));
  return {
    tensors: new Map(found.map(([name, info]) => [name.slice(prefix.length), info])),
    readF32: (name, ...range) => readF32(prefix + name, ...range),
    readBytes: (name, ...range) => readBytes(prefix + name, ...range),
  };
}

/** The tensors of both; those of `above` where both have one of a name. */
export function overlaid(below: TensorReader, above: TensorReader): TensorReader {
  const readerOf = (name: string) => above.tensors.has(name) ? above : below;
  return {
    tensors: new Map([...below.tensors, ...above.tensors]),
    readF32: (name, ...range) => readerOf(name).readF32(name, ...range),
    readBytes: (name, ...range) => readerOf(name).readBytes(name, ...range),
  };
}

async function openShards(folder: string): Promise<Checkpoint> {
  const indexPath = join(folder, INDEX_FILE);
  const { weightMap, metadata } = await readIndex(indexPath);
  const shards = [...new Set(weightMap.values())].sort();
  const isPresent = await Promise.all(shards.map((shard) => isKind(join(folder, shard), "isFile")));
  const missing = shards.filter((_, i) => !isPresent[i]);
  if (missing.length > 0) {
    const names = missing.slice(0, 8).join(", ") + (missing.length > 8 ? ", ..." : "");
    throw new UserError(
      `${indexPath}: ${missing.length} of its ${shards.length} shards missing from the folder: ${names}. ` +
        `Fetch them`,
    );
  }
  const checkpoint = await openFiles(shards.map((shard) => join(folder, shard)), (found) => {
    // As transformers, which asks the index for the shards alone: what it does not name is read too.
    const fileOf = new Map<string, string>();
    for (const { name, file } of found) {
      const other = fileOf.get(name);
      if (other !== undefined) {
        throw new UserError(
          `${file}: tensor ${show(name)} is in ${other} too: it is ambiguous which one counts`,
        );
      }
      fileOf.set(name, file);
    }
    const absent = [...weightMap].filter(([name, shard]) => fileOf.get(name) !== join(folder, shard));
    if (absent.length === 0) return;
    throw new UserError(
      `${indexPath}: tensor ${show(absent[0][0])} is not in its shard ${absent[0][1]}` +
        (absent.length > 1 ? `, and ${absent.length - 1} more are not in theirs` : "") +
        `: the index and the shards are not of one checkpoint`,
    );
  });
  return { ...checkpoint, metadata };
}

async function readIndex(
  indexPath: string,
): Promise<{ weightMap: Map<string, string>; metadata?: Record<string, unknown> }> {
  const { size } = await stat(indexPath);
  if (size > MAX_HEADER_BYTES) {
    throw new UserError(
      `${indexPath}: an index of ${size} bytes; ${MAX_HEADER_BYTES} is the most that is read`,
    );
  }
  let index: unknown;
  try {
    index = JSON.parse(await readTextFile(indexPath));
  } catch (error) {
    throw new UserError(`${indexPath}: cannot be read as JSON: ${(error as Error).message}`);
  }
  const weightMap = isObject(index) ? index.weight_map : undefined;
  if (!isObject(weightMap)) {
    throw new UserError(`${indexPath}: expected an object "weight_map" of tensor names to file names`);
  }
  for (const [name, shard] of Object.entries(weightMap)) {
    // A name with a folder in it could reach files outside of the model's.
    if (typeof shard !== "string" || !/^[^/\\:\0]+\.safetensors$/.test(shard) || !isPortable(shard)) {
      throw new UserError(
        `${indexPath}: tensor ${
          show(name)
        }: expected the name of a .safetensors file in the same folder, found ${show(shard)}`,
      );
    }
  }
  const { metadata } = index as { metadata?: unknown };
  return {
    weightMap: new Map(Object.entries(weightMap as Record<string, string>)),
    metadata: isObject(metadata) ? metadata : undefined,
  };
}

async function openFiles(
  files: string[],
  check: (tensors: readonly TensorInfo[]) => void = () => {},
): Promise<Checkpoint> {
  const handles = new Map<string, FileHandle>();
  const close = async () => {
    for (const handle of handles.values()) await handle.close();
    handles.clear();
  };
  try {
    const found: TensorInfo[] = [];
    for (const file of files) {
      const handle = await open(file, "r").catch((error) => {
        throw new UserError(`${file}: cannot be opened: ${error.message}`);
      });
      handles.set(file, handle);
      for (const info of await readHeader(handle, file)) found.push(info);
    }
    check(found);
    const tensors = new Map(found.map((info) => [info.name, info]));
    return { files, tensors, close, ...readers(tensors, handles) };
  } catch (error) {
    await close();
    throw error;
  }
}

async function readHeader(handle: FileHandle, file: string): Promise<TensorInfo[]> {
  const { size } = await handle.stat();
  const length = headerLength(await readRange(handle, file, 0, Math.min(8, size)), size, file);
  return parseHeader(await readRange(handle, file, 8, length), size, file);
}

function readers(
  tensors: Map<string, TensorInfo>,
  handles: Map<string, FileHandle>,
): Pick<Checkpoint, "readF32" | "readBytes"> {
  const find = (name: string): TensorInfo => {
    const info = tensors.get(name);
    if (info !== undefined) return info;
    const near = nearest(name, tensors.keys());
    throw new UserError(
      `no tensor ${show(name)} in ${[...handles.keys()].join(", ")}` + (near ? `; is it ${show(near)}?` : ""),
    );
  };
  const read = async (
    { name, file, start, end }: TensorInfo,
    unit: number,
    first: number,
    count?: number,
  ) => {
    const total = (end - start) / unit;
    const wanted = count ?? total - first;
    if (![first, wanted].every((n) => Number.isInteger(n) && n >= 0) || first + wanted > total) {
      throw new RangeError(
        `${wanted} from ${first} is outside of the ${total} units of ${unit} bytes of ${name}`,
      );
    }
    const handle = handles.get(file);
    if (handle === undefined) throw new Error(`${file} was read after close()`);
    return await readRange(handle, file, start + first * unit, wanted * unit);
  };
  return {
    readBytes: async (name, firstByte = 0, bytes) => await read(find(name), 1, firstByte, bytes),
    readF32: async (name, firstElement = 0, elements) => {
      const info = find(name);
      const { dtype } = info;
      if (!isFloatDtype(dtype)) {
        throw new UserError(
          `${info.file}: tensor ${
            show(name)
          }: expected dtype F32, F16 or BF16, found ${dtype}: other dtypes, such as ` +
            `those of quantized weights, are not supported`,
        );
      }
      return toF32(await read(info, DTYPE_BITS[dtype] / 8, firstElement, elements), dtype);
    },
  };
}

/** Deno's read() takes a 32-bit length. */
const MAX_READ = 2 ** 30;

async function readRange(
  handle: FileHandle,
  file: string,
  start: number,
  bytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const buffer = new Uint8Array(bytes);
  for (let done = 0; done < bytes;) {
    const { bytesRead } = await handle.read(buffer, done, Math.min(bytes - done, MAX_READ), start + done);
    if (bytesRead === 0) throw new UserError(`${file}: became shorter while it was read`);
    done += bytesRead;
  }
  return buffer;
}

async function isKind(path: string, kind: "isFile" | "isDirectory"): Promise<boolean> {
  const stats = await statOf(path);
  return stats !== undefined && stats[kind]();
}
