/**
 * Writes GGUF, version 3: metadata by key, then tensors (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
 */
import type { OnProgress } from "../progress/progress.ts";
import { writeStreamed } from "../files/whole_file.ts";
import { GGML_TYPES, ggmlBytes, type GgmlType } from "./ggml.ts";

/** A value of the metadata with its type. */
export type GgufValue =
  | { type: "uint32" | "float32"; value: number }
  | { type: "bool"; value: boolean }
  | { type: "string"; value: string }
  | { type: "string[]"; value: readonly string[] }
  | { type: "bool[]"; value: readonly boolean[] }
  | { type: "int32[]" | "float32[]"; value: readonly number[] };

/** A tensor to write. */
export interface GgufTensor {
  name: string;
  /** Rows before columns, as in PyTorch; the file has them the other way round. */
  shape: readonly number[];
  type: GgmlType;
  /** Its bytes in order; called once, when its turn comes. */
  chunks(): AsyncIterable<Uint8Array>;
}

const VERSION = 3;
/** Tensors begin at multiples of it. */
const ALIGNMENT = 32;
/** Numbers of the types of values; a list has one of its own, and then that of its items. */
const TYPES = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8 } as const;
const LIST = 9;

/**
 * Writes one file, a piece at a time, under a temporary name beside it until it is whole.
 * @throws {UserError} where it cannot be written.
 */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensor[],
  { flush = true, onProgress = () => {} }: { flush?: boolean; onProgress?: OnProgress } = {},
): Promise<void> {
  const sizes = tensors.map(({ type, shape }) => ggmlBytes(type, elementsOf(shape)));
  const header = headerOf(metadata, tensors, sizes);
  const total = header.length + sizes.reduce((sum, size) => sum + aligned(size), 0);
  let done = 0;
  await writeStreamed(path, flush, async (write) => {
    const writeCounted = async (bytes: Uint8Array) => {
      await write(bytes);
      done += bytes.length;
      onProgress({ what: `writing ${path}`, done, total, unit: "bytes" });
    };
    await writeCounted(header);
    for (const [i, tensor] of tensors.entries()) {
      let written = 0;
      for await (const chunk of tensor.chunks()) {
        written += chunk.length;
        await writeCounted(chunk);
      }
      if (written !== sizes[i]) {
        throw new Error(`tensor ${tensor.name}: expected ${sizes[i]} bytes, found ${written}`);
      }
      await writeCounted(new Uint8Array(aligned(written) - written));
    }
  });
}

const aligned = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

const elementsOf = (shape: readonly number[]) => shape.reduce((product, dimension) => product * dimension, 1);

function headerOf(
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensor[],
  sizes: readonly number[],
): Uint8Array {
  const out = new Bytes();
  out.raw(new TextEncoder().encode("GGUF"));
  out.uint32(VERSION);
  out.uint64(tensors.length);
  out.uint64(metadata.size);
  for (const [key, value] of metadata) {
    out.string(key);
    out.value(value);
  }
  let offset = 0;
  for (const [i, { name, shape, type }] of tensors.entries()) {
    out.string(name);
    out.uint32(shape.length);
    for (const dimension of shape.toReversed()) out.uint64(dimension);
    out.uint32(GGML_TYPES[type].type);
    out.uint64(offset);
    offset += aligned(sizes[i]);
  }
  return out.toBytes(ALIGNMENT);
}

/** Little-endian bytes that grow. */
class Bytes {
  #bytes = new Uint8Array(2 ** 16);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  raw(bytes: Uint8Array): void {
    const at = this.#take(bytes.length);
    this.#bytes.set(bytes, at);
  }

  uint32(value: number): void {
    const at = this.#take(4);
    this.#view.setUint32(at, value, true);
  }

  uint64(value: number): void {
    const at = this.#take(8);
    this.#view.setBigUint64(at, BigInt(value), true);
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.uint64(bytes.length);
    this.raw(bytes);
  }

  value(of: GgufValue): void {
    const isList = of.type.endsWith("[]");
    const item = (isList ? of.type.slice(0, -2) : of.type) as keyof typeof TYPES;
    if (isList) this.uint32(LIST);
    this.uint32(TYPES[item]);
    if (!isList) return this.#item(item, of.value as string | number | boolean);
    const items = of.value as readonly (string | number | boolean)[];
    this.uint64(items.length);
    for (const value of items) this.#item(item, value);
  }

  #item(type: keyof typeof TYPES, value: string | number | boolean): void {
    if (type === "string") return this.string(value as string);
    const at = this.#take(type === "bool" ? 1 : 4);
    if (type === "bool") this.#view.setUint8(at, Number(value));
    else if (type === "uint32") this.#view.setUint32(at, value as number, true);
    else if (type === "int32") this.#view.setInt32(at, value as number, true);
    else this.#view.setFloat32(at, value as number, true);
  }

  /** All of them, with zeros up to a multiple of `alignment`. */
  toBytes(alignment: number): Uint8Array {
    const end = Math.ceil(this.#length / alignment) * alignment;
    this.#take(end - this.#length);
    return this.#bytes.slice(0, end);
  }

  /** Where the next `count` bytes are. */
  #take(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      grown.set(this.#bytes);
      [this.#bytes, this.#view] = [grown, new DataView(grown.buffer)];
    }
    return at;
  }
}
