/** Weights as a pack has them: hashes, and a few numbers, so that another run's can be compared without them. */
import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { OnProgress } from "../progress/progress.ts";
import { isFloatDtype } from "../safetensors/dtype.ts";
import { openSafetensors } from "../safetensors/read.ts";

/** A tensor of a result. */
export interface PackedTensor {
  dtype: string;
  shape: number[];
  /** Of its bytes in the file. */
  sha256: string;
  /** Numbers at places evenly apart, where it has numbers of 16 or 32 bits. */
  sample: number[];
}

/** Numbers of a tensor that are kept. */
const SAMPLE = 8;
const PIECE = 2 ** 22;

/** The tensors of all safetensors files right in `folder`, by name: a model's, or an adapter's. */
export async function packedTensors(
  folder: string,
  onProgress?: OnProgress,
): Promise<Record<string, PackedTensor>> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".safetensors")).sort();
  const found: Record<string, PackedTensor> = {};
  for (const file of names) {
    const reader = await openSafetensors(join(folder, file));
    try {
      const total = [...reader.tensors.values()].reduce((sum, { start, end }) => sum + end - start, 0);
      let done = 0;
      for (const [name, { dtype, shape, start, end }] of reader.tensors) {
        const hash = createHash("sha256");
        for (let at = 0; at < end - start; at += PIECE) {
          const bytes = await reader.readBytes(name, at, Math.min(PIECE, end - start - at));
          hash.update(bytes);
          done += bytes.length;
          onProgress?.({ what: `hashing ${file}`, done, total, unit: "bytes" });
        }
        const elements = shape.reduce((product, dimension) => product * dimension, 1);
        const count = isFloatDtype(dtype) ? Math.min(SAMPLE, elements) : 0;
        const sample: number[] = [];
        for (let i = 0; i < count; i++) {
          sample.push((await reader.readF32(name, Math.floor(i * elements / count), 1))[0]);
        }
        found[name] = { dtype, shape, sha256: hash.digest("hex"), sample };
      }
    } finally {
      await reader.close();
    }
  }
  return found;
}
