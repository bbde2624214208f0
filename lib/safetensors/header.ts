import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import { type Dtype, DTYPE_BITS, tensorBytes } from "./dtype.ts";

/** The longest header that the reference implementation accepts, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Where one tensor lies: `start` (inclusive) and `end` (exclusive) are absolute bytes of `file`. */
export interface TensorInfo {
  /** As the file has it. */
  name: string;
  /** Of its elements. */
  dtype: Dtype;
  /** Of no dimension for a scalar. */
  shape: number[];
  /** Path of the file. */
  file: string;
  /** Its first byte. */
  start: number;
  /** One past its last byte. */
  end: number;
}

/**
 * The length of a file's header in bytes, from its first eight bytes.
 *
 * @param prefix the first bytes of the file, eight or fewer if the file is shorter.
 * @throws UserError where the file is too short for the length, or for the header that it announces.
 */
export function headerLength(prefix: Uint8Array, fileBytes: number, file: string): number {
  if (prefix.length < 8) {
    throw new UserError(
      `${file}: not a safetensors file: expected at least 8 bytes, found ${prefix.length}. ${FETCH_AGAIN}`,
    );
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, 8);
  const length = view.getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    throw new UserError(
      `${file}: not a safetensors file: its header would be ${length} bytes, and ${MAX_HEADER_BYTES} is ` +
        `the most that the format allows. ${FETCH_AGAIN}`,
    );
  }
  const rest = fileBytes - 8;
  if (Number(length) > rest) {
    throw new UserError(
      `${file}: truncated: the header should be ${length} bytes, but only ${rest} follow. ${FETCH_AGAIN}`,
    );
  }
  return Number(length);
}

/**
 * The tensors of one file, in the order of their data, checked as the reference implementation checks them:
 * the data of all tensors covers the rest of the file without a hole or an overlap.
 *
 * @param header the header's bytes, without the eight of its length.
 * @throws UserError that names the file, the tensor and the key.
 */
export function parseHeader(header: Uint8Array, fileBytes: number, file: string): TensorInfo[] {
  const dataStart = 8 + header.length;
  const tensors: TensorInfo[] = [];
  for (const [name, entry] of Object.entries(parseObject(header, file))) {
    if (name === "__metadata__") checkMetadata(entry, file);
    else tensors.push(parseEntry(name, entry, dataStart, file));
  }
  tensors.sort((a, b) => a.start - b.start || a.end - b.end);
  checkCoverage(tensors, dataStart, fileBytes, file);
  return tensors;
}

const FETCH_AGAIN = "Fetch or copy it again.";

function parseObject(header: Uint8Array, file: string): Record<string, unknown> {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header);
    value = JSON.parse(text);
  } catch {
    throw new UserError(`${file}: not a safetensors file: its header is not JSON in UTF-8. ${FETCH_AGAIN}`);
  }
  if (!isObject(value)) {
    throw new UserError(`${file}: the header must be a JSON object, found ${show(value)}`);
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) {
    throw new UserError(`${file}: the header names ${show(twice)} twice: it is ambiguous which one counts`);
  }
  return value;
}

/**
 * The first key that the header or one of its entries holds twice, in valid JSON: JSON.parse keeps the last
 * and says nothing. Deeper objects have no meaning in the format.
 */
function duplicateKey(json: string): string | undefined {
  const keys = [new Set<string>(), new Set<string>()];
  let depth = 0;
  for (let i = 0; i < json.length; i++) {
    if (json[i] === "{" || json[i] === "[") keys[depth++]?.clear();
    else if (json[i] === "}" || json[i] === "]") depth--;
    if (json[i] !== '"') continue;
    const begin = i++;
    while (json[i] !== '"') i += json[i] === "\\" ? 2 : 1;
    let next = i + 1;
    while (json[next] === " " || json[next] === "\n" || json[next] === "\r" || json[next] === "\t") next++;
    if (json[next] !== ":" || depth > keys.length) continue;
    const key: string = JSON.parse(json.slice(begin, i + 1));
    if (keys[depth - 1].has(key)) return key;
    keys[depth - 1].add(key);
  }
  return undefined;
}

function checkMetadata(metadata: unknown, file: string): void {
  if (isObject(metadata) && Object.values(metadata).every((value) => typeof value === "string")) return;
  throw new UserError(`${file}: __metadata__ must be an object of strings`);
}

function parseEntry(name: string, entry: unknown, dataStart: number, file: string): TensorInfo {
  const fail = (problem: string) => new UserError(`${file}: tensor ${show(name)}: ${problem}`);
  if (!isObject(entry)) {
    throw fail(`expected an object with dtype, shape and data_offsets, found ${show(entry)}`);
  }
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(DTYPE_BITS, dtype)) {
    throw fail(`dtype must be one of ${Object.keys(DTYPE_BITS).join(", ")}, found ${show(dtype)}`);
  }
  if (!isCounts(shape)) {
    throw fail(`shape must be a list of whole numbers from 0 to 2^53 - 1, found ${show(shape)}`);
  }
  if (!isCounts(offsets) || offsets.length !== 2 || offsets[1] < offsets[0]) {
    throw fail(
      `data_offsets must be two whole numbers, the second not below the first, found ${show(offsets)}`,
    );
  }
  const bytes = tensorBytes(dtype as Dtype, shape);
  if (bytes === undefined) {
    throw fail(`the size of shape ${show(shape)} in ${dtype} is no valid count of bytes`);
  }
  if (bytes !== offsets[1] - offsets[0]) {
    throw fail(
      `shape ${show(shape)} in ${dtype} is ${bytes} bytes, but data_offsets ${show(offsets)} hold ${
        offsets[1] - offsets[0]
      }`,
    );
  }
  const [start, end] = offsets.map((offset) => dataStart + offset);
  return { name, dtype: dtype as Dtype, shape, file, start, end };
}

function checkCoverage(tensors: TensorInfo[], dataStart: number, fileBytes: number, file: string): void {
  let covered = dataStart;
  for (const { name, start, end } of tensors) {
    if (start < covered) {
      throw new UserError(
        `${file}: tensor ${
          show(name)
        }: its data begins at byte ${start}, within the tensor before it, which ends at ` +
          `${covered}: data must not overlap`,
      );
    }
    if (start > covered) {
      throw new UserError(
        `${file}: tensor ${
          show(name)
        }: its data begins at byte ${start}, but the data before it ends at ${covered}: ` +
          `bytes that belong to no tensor are not allowed`,
      );
    }
    covered = end;
  }
  if (covered > fileBytes) {
    throw new UserError(
      `${file}: truncated: expected ${covered} bytes by its header, found ${fileBytes}. ${FETCH_AGAIN}`,
    );
  }
  if (covered < fileBytes) {
    throw new UserError(
      `${file}: expected ${covered} bytes by its header, found ${fileBytes}: ` +
        `${fileBytes - covered} bytes at its end belong to no tensor`,
    );
  }
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}
