import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { OnProgress } from "../progress/progress.ts";
import { throwUnwritable, writeStreamed } from "../files/whole_file.ts";
import { type Dtype, DTYPE_BITS, tensorBytes } from "./dtype.ts";

/**
 * A tensor to write: `chunks` is called once, when its turn comes, and yields its bytes in order, in any
 * pieces.
 */
export interface TensorSource {
  /** Its name in the file. */
  name: string;
  /** Of its elements. */
  dtype: Dtype;
  /** Of no dimension for a scalar. */
  shape: readonly number[];
  /** Its bytes, in order. */
  chunks: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** The tensors, with `onProgress` hearing of their bytes as they are written. */
export function withProgress(
  tensors: readonly TensorSource[],
  what: string,
  onProgress: OnProgress = () => {},
): TensorSource[] {
  const total = tensors.reduce((sum, tensor) => sum + sizeOf(tensor), 0);
  let done = 0;
  return tensors.map((tensor) => ({
    ...tensor,
    chunks: async function* () {
      for await (const chunk of tensor.chunks()) {
        yield chunk;
        done += chunk.length;
        onProgress({ what, done, total, unit: "bytes" });
      }
    },
  }));
}

/** How a file is written; every field may be left out. */
export interface WriteOptions {
  /** The header's `__metadata__`; transformers refuses files without a format. */
  metadata?: Record<string, string>;
  /** Wait until the bytes are on the disk; without it that is left to the caller. */
  flush?: boolean;
}

/**
 * Writes one safetensors file, a piece at a time: under a temporary name beside it, synchronised to the disk,
 * then renamed, so that `path` is never half a file. Tensors lie in the order given, those of wider dtypes
 * first: as in the reference implementation, every tensor then begins at a multiple of its element's size,
 * which PyTorch requires.
 *
 * @throws UserError where the file cannot be written (a full disk, no permission); Error where a name comes
 * twice, a shape has no size, or a tensor yields more or fewer bytes than its shape and dtype say: nothing is
 * left of the file then.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  { metadata = { format: "pt" }, flush = true }: WriteOptions = {},
): Promise<void> {
  const ordered = [...tensors].sort((a, b) => DTYPE_BITS[b.dtype] - DTYPE_BITS[a.dtype]);
  const header = serializeHeader(ordered, metadata);
  await writeStreamed(path, flush, async (write) => {
    await write(header);
    for (const tensor of ordered) {
      const expected = sizeOf(tensor);
      let written = 0;
      // One write is under way while the next chunk is made: read back from the GPU, perhaps, which blocks this thread.
      let writing = Promise.resolve();
      for await (const chunk of tensor.chunks()) {
        written += chunk.length;
        if (written > expected) break;
        await writing;
        writing = write(chunk);
        // Awaited below; should the next chunk fail first, this failure is not lost sight of as an unhandled one.
        writing.catch(() => {});
      }
      await writing;
      if (written !== expected) {
        throw new Error(
          `tensor ${tensor.name}: expected ${expected} bytes, found ${written > expected ? "more" : written}`,
        );
      }
    }
  });
}

/**
 * Writes a model's weights into `folder` (made if it is missing) as transformers' save_pretrained() does:
 * model.safetensors, or, where that would be more than `maxShardBytes` of data,
 * model-0000i-of-0000n.safetensors and then model.safetensors.index.json. Weights of an earlier save that are
 * not overwritten are removed at the end, since a stale model.safetensors would be loaded in place of the
 * shards.
 *
 * @throws as `writeSafetensors`.
 */
export async function saveCheckpoint(
  folder: string,
  tensors: readonly TensorSource[],
  { maxShardBytes = 5e9, flush = true }: { maxShardBytes?: number; flush?: boolean } = {},
): Promise<void> {
  const shards = splitIntoShards(tensors, maxShardBytes);
  const number = (i: number) => String(i).padStart(5, "0");
  const files = shards.map((_, i) =>
    shards.length === 1
      ? "model.safetensors"
      : `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`
  );
  await mkdir(folder, { recursive: true }).catch(throwUnwritable(folder));
  for (const [i, file] of files.entries()) {
    await writeSafetensors(join(folder, file), shards[i], { flush });
  }
  if (shards.length > 1) {
    const index = serializeIndex(shards, files);
    files.push("model.safetensors.index.json");
    await writeStreamed(
      join(folder, files[shards.length]),
      flush,
      (write) => write(new TextEncoder().encode(index)),
    );
  }
  await removeWeights(folder, files);
}

/** Removes the weights in a folder but for `kept` files. */
export async function removeWeights(folder: string, kept: readonly string[] = []): Promise<void> {
  for (const file of await readdir(folder)) {
    if (isWeightsFile(file) && !kept.includes(file)) await rm(join(folder, file));
  }
}

/**
 * Shards in transformers' way: in order, a new one where the next tensor would not fit; a larger tensor has
 * its own.
 */
function splitIntoShards(tensors: readonly TensorSource[], maxShardBytes: number): TensorSource[][] {
  const shards: TensorSource[][] = [];
  let open: TensorSource[] = [];
  let openBytes = 0;
  for (const tensor of tensors) {
    const bytes = sizeOf(tensor);
    if (bytes > maxShardBytes) {
      shards.push([tensor]);
      continue;
    }
    if (openBytes + bytes > maxShardBytes) {
      shards.push(open);
      [open, openBytes] = [[], 0];
    }
    open.push(tensor);
    openBytes += bytes;
  }
  if (open.length > 0 || shards.length === 0) shards.push(open);
  return shards;
}

function serializeIndex(shards: TensorSource[][], files: string[]): string {
  const tensors = shards.flat();
  const elements = tensors.map(({ shape }) => shape.reduce((product, dimension) => product * dimension, 1));
  const metadata = {
    total_parameters: elements.reduce((sum, count) => sum + count, 0),
    total_size: tensors.reduce((sum, tensor) => sum + sizeOf(tensor), 0),
  };
  const places = shards.flatMap((shard, i) => shard.map(({ name }) => [name, files[i]] as const));
  places.sort(([a], [b]) => a < b ? -1 : 1);
  return JSON.stringify({ metadata, weight_map: Object.fromEntries(places) }, null, 2) + "\n";
}

function serializeHeader(tensors: readonly TensorSource[], metadata: Record<string, string>): Uint8Array {
  // Joined by hand, because an object would move names that look like numbers to the front.
  const entries = [`"__metadata__":${JSON.stringify(metadata)}`];
  const names = new Set(["__metadata__"]);
  let offset = 0;
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    if (names.has(name)) throw new Error(`tensor name ${JSON.stringify(name)} comes twice or is reserved`);
    names.add(name);
    const end = offset + sizeOf(tensor);
    entries.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [offset, end] })}`);
    offset = end;
  }
  const json = new TextEncoder().encode(`{${entries.join(",")}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  return header;
}

function sizeOf({ name, dtype, shape }: TensorSource): number {
  const bytes = shape.every((dimension) => Number.isSafeInteger(dimension) && dimension >= 0)
    ? tensorBytes(dtype, shape)
    : undefined;
  if (bytes === undefined) {
    throw new Error(`tensor ${name}: shape [${shape.join(", ")}] in ${dtype} has no size`);
  }
  return bytes;
}

function isWeightsFile(file: string): boolean {
  return /^model(-\d{5}-of-\d{5})?\.safetensors$/.test(file) || file === "model.safetensors.index.json";
}
