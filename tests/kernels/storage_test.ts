import assert from "node:assert/strict";
import type { StorageType } from "../../kernels/storage.ts";
import type { Tensor } from "../../lib/gpu/memory.ts";
import { readTensor } from "../../lib/gpu/program.ts";
import { packRows, unpackRows } from "../../lib/gpu/storage_operations.ts";
import { fromF32, toF32 } from "../../lib/safetensors/dtype.ts";
import { type KernelCase, kernelTest, useGpu } from "./harness.ts";

useGpu();

const SHAPES = [
  { rows: 1, width: 1 },
  { rows: 3, width: 3 },
  { rows: 31, width: 5 },
  { rows: 33, width: 62 },
  { rows: 130, width: 36 },
];
/** Ties in both directions, the largest finite values, infinities, NaNs of which one would round to minus zero. */
const SPECIAL = new Float32Array(
  Uint32Array.of(
    ...[0x3f808000, 0x3f818000, 0x3f808001, 0x7f7f0000, 0x7f7fffff, 0x7f800000, 0xff800000],
    ...[0x7fc00000, 0x7fffffff, 0xffffffff, 0x7f800001, 0x80000000, 0],
  ).buffer,
);

/** A tensor of 2-byte elements that begins with `data` and goes on with poison. */
function halves(
  kernels: KernelCase,
  storage: StorageType,
  shape: number[],
  data?: Uint16Array,
): Tensor {
  const words = data && new Uint32Array(Math.ceil(data.length / 2));
  if (words) new Uint16Array(words.buffer).set(data);
  const count = shape.reduce((product, n) => product * n, 1);
  return { ...kernels.tensor([Math.ceil(count / 2)], words), shape, storage };
}

kernelTest(
  "values are packed to bfloat16 as fromF32 rounds them, and what follows the last row is left",
  SHAPES,
  async (kernels, { rows, width }) => {
    const values = Float32Array.from(
      { length: rows * width },
      (_, i) => SPECIAL[i] ?? kernels.normal() * 10 ** kernels.integer(-30, 30),
    );
    const packed = halves(kernels, "bf16", [rows + 3, width]);
    const before = 0x7fc00dad;
    await kernels.run([packRows(kernels.rows(rows), kernels.tensor([rows, width], values), packed)]);
    const found = new Uint16Array(await readTensor(kernels.gpu, packed));
    const expected = new Uint16Array(fromF32(values, "BF16").buffer);
    // A NaN may have any payload.
    const isNaN = (bits: number) => (bits & 0x7fff) > 0x7f80;
    expected.forEach((bits, i) => {
      assert.ok(found[i] === bits || (isNaN(bits) && isNaN(found[i])), `${values[i]}: ${found[i]}, ${bits}`);
    });
    // The four that the last row ends within are written as one.
    const rest = new Uint32Array(found.buffer).subarray(Math.ceil(rows * width / 4) * 2);
    assert.ok(rest.every((word) => word === before));
  },
);

kernelTest(
  "every finite value of both types is unpacked exactly",
  [{ storage: "bf16", dtype: "BF16" }, { storage: "f16", dtype: "F16" }] as const,
  async (kernels, { storage, dtype }) => {
    const value = (bits: number) => toF32(new Uint8Array(Uint16Array.of(bits).buffer), dtype)[0];
    // Devices may take float32 values below 2^-126 for 0.
    const kept = Uint16Array.from({ length: 2 ** 16 }, (_, bits) => bits)
      .filter((bits) =>
        Number.isFinite(value(bits)) && (value(bits) === 0 || Math.abs(value(bits)) >= 2 ** -126)
      );
    assert.ok(kept.length > 63_000);
    // Zeros up to a multiple of the four that are written as one.
    const all = new Uint16Array(Math.ceil(kept.length / 4) * 4);
    all.set(kept);
    const values = kernels.tensor([all.length, 1]);
    await kernels.run([
      unpackRows(kernels.rows(all.length), halves(kernels, storage, [all.length, 1], all), values),
    ]);
    await kernels.compare(values, toF32(new Uint8Array(all.buffer), dtype), { tolerance: 0 });
  },
);
