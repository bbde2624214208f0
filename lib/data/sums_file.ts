/** The cached file of a split's reference sums: two float32 a pair, NaN where none was computed, and their CRC-32. */
import { open } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { UserError } from "../errors.ts";
import { writeWhole } from "../files/whole_file.ts";

/** @returns undefined where there is no such file, or "damaged" where it is not what was written for so many pairs. */
export async function readSums(
  path: string,
  pairs: number,
): Promise<Float32Array<ArrayBuffer> | "damaged" | undefined> {
  const file = await open(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
    throw new UserError(`${path}: cannot be read: ${error.message}`);
  });
  if (!file) return undefined;
  try {
    const stats = await file.stat();
    if (!stats.isFile() || stats.size !== 8 * pairs + 4) return "damaged";
    const bytes = Uint8Array.from(await file.readFile());
    if (bytes.length !== stats.size) return "damaged";
    const checksum = new DataView(bytes.buffer).getUint32(8 * pairs, true);
    return crc32(bytes.subarray(0, 8 * pairs)) === checksum
      ? new Float32Array(bytes.buffer, 0, 2 * pairs)
      : "damaged";
  } finally {
    await file.close();
  }
}

/** @throws {UserError} where it cannot be written; then the file is as it was. */
export async function writeSums(folder: string, name: string, sums: Float32Array): Promise<void> {
  const bytes = new Uint8Array(sums.byteLength + 4);
  bytes.set(new Uint8Array(sums.buffer, sums.byteOffset, sums.byteLength));
  new DataView(bytes.buffer).setUint32(sums.byteLength, crc32(bytes.subarray(0, sums.byteLength)), true);
  await writeWhole(folder, name, bytes);
}
