import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  dequantize4bit,
  dequantizeRow,
  dequantizeScales,
  DYNAMIC_MAP,
  fourBits,
  quantize4bit,
  quantizeRows,
  quantizeScales,
} from "../../lib/parameters/quantize.ts";
import golden from "../golden/quantized/bitsandbytes.json" with { type: "json" };

/** As `weights` of golden/quantized/make.py. */
function weights(count: number, seed: number): Float32Array {
  let state = seed;
  const values = Float32Array.from({ length: count }, (_, i) => {
    let total = 0;
    for (let part = 0; part < 4; part++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      total += (state >>> 8) / 2 ** 24 - 0.5;
    }
    return total * 10 ** (Math.floor(i / 1000) % 4) / 1000;
  });
  return values.fill(0, 128, 192);
}

function assertBytes(found: ArrayBufferView, expected: string, what: string): void {
  const bytes = new Uint8Array(found.buffer, found.byteOffset, found.byteLength);
  const text = expected.startsWith("sha256 ")
    ? `sha256 ${createHash("sha256").update(bytes).digest("hex")}`
    : bytes.toBase64();
  assert.equal(text, expected, what);
}

Deno.test("the dynamic map is bitsandbytes'", () => {
  assertBytes(DYNAMIC_MAP, golden.dynamic_map, "map");
});

for (const { type, count, codes, absmax, values, double } of golden.four_bits) {
  Deno.test(`${count} weights in ${type} are bitsandbytes' to the bit`, () => {
    const kind = type as "nf4" | "fp4";
    const all = weights(count, count);
    const found = fourBits(count);
    // In pieces, as tensors are read.
    for (let at = 0; at < count; at += 640) quantize4bit(all.subarray(at, at + 640), kind, found, at);
    assertBytes(found.codes, codes, "codes");
    assertBytes(found.absmax, absmax, "absmax");
    // Its zeros may have a sign.
    assertBytes(dequantize4bit(found, kind, count).map((value) => value + 0), values, "values");
    const scales = quantizeScales(found.absmax);
    assert.ok(Math.abs(scales.offset - double.offset) <= 2 ** -23 * double.offset, "offset");
    assertBytes(scales.codes, double.codes, "codes of scales");
    if (scales.offset !== double.offset) return;
    assertBytes(scales.absmax, double.absmax, "absmax of scales");
    assertBytes(dequantizeScales(scales), double.scales, "scales");
  });
}

for (const { rows, columns, codes, absmax, values } of golden.rows) {
  Deno.test(`${rows} rows of ${columns} in 8 bits are bitsandbytes' to the bit`, () => {
    const found = { codes: new Int8Array(rows * columns), absmax: new Float32Array(rows) };
    quantizeRows(weights(rows * columns, columns), columns, found);
    assertBytes(found.codes, codes, "codes");
    assertBytes(found.absmax, absmax, "absmax");
    const all = Array.from(
      found.absmax,
      (scale, row) => [...dequantizeRow(found.codes.subarray(row * columns, (row + 1) * columns), scale)],
    );
    assertBytes(Float32Array.from(all.flat(), (value) => value + 0), values, "values");
  });
}
