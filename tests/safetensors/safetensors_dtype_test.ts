import assert from "node:assert/strict";
import { type FloatDtype, fromF32, toF32 } from "../../lib/safetensors/dtype.ts";
import { assertEqualBytes } from "../equal_bytes.ts";

/**
 * The value of 16 bits by the definition of IEEE 754: a sign, `exponentBits` of exponent, the rest the
 * fraction.
 */
function decode(pattern: number, exponentBits: number): number {
  const fractionBits = 15 - exponentBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = pattern >> 15 ? -1 : 1;
  const exponent = (pattern >> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (pattern & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

function narrow(values: number[], dtype: FloatDtype): Uint16Array {
  return new Uint16Array(fromF32(Float32Array.from(values), dtype).buffer as ArrayBuffer);
}

/** The float32 next to `value` (positive and finite) in the direction of `step`. */
function neighbour(value: number, step: 1 | -1): number {
  const word = new Uint32Array(Float32Array.of(value).buffer);
  word[0] += step;
  return new Float32Array(word.buffer)[0];
}

for (
  const { dtype, exponentBits } of [{ dtype: "F16", exponentBits: 5 }, {
    dtype: "BF16",
    exponentBits: 8,
  }] as const
) {
  const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const bytes = new Uint8Array(patterns.buffer);
  const infinity = (2 ** exponentBits - 1) << (15 - exponentBits);

  Deno.test(`toF32() decodes every pattern of ${dtype}`, () => {
    const values = toF32(bytes, dtype);
    assert.equal(values.length, 65536);
    for (const pattern of patterns) {
      assert.ok(
        Object.is(values[pattern], decode(pattern, exponentBits)),
        `pattern ${pattern}: ${values[pattern]}`,
      );
    }
  });

  Deno.test(`toF32() decodes ${dtype} that lies at an odd byte`, () => {
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    assertEqualBytes(toF32(shifted.subarray(1), dtype), toF32(bytes, dtype));
  });

  Deno.test(`fromF32() gives every pattern of ${dtype} back, and NaN for NaN`, () => {
    const narrowed = new Uint16Array(fromF32(toF32(bytes, dtype), dtype).buffer as ArrayBuffer);
    for (const pattern of patterns) {
      if (Number.isNaN(decode(pattern, exponentBits))) {
        assert.ok(Number.isNaN(decode(narrowed[pattern], exponentBits)));
      } else assert.equal(narrowed[pattern], pattern);
    }
  });

  Deno.test(`fromF32() rounds to the nearest ${dtype}, ties to even`, () => {
    for (let low = 0; low < infinity; low++) {
      // Above the largest finite value, infinity stands for the next power of two.
      const high = low + 1 === infinity ? 2 ** (2 ** (exponentBits - 1)) : decode(low + 1, exponentBits);
      const middle = decode(low, exponentBits) / 2 + high / 2;
      const even = low % 2 === 0 ? low : low + 1;
      const values = [neighbour(middle, -1), middle, neighbour(middle, 1)];
      assert.deepEqual(narrow(values, dtype), Uint16Array.of(low, even, low + 1), `above pattern ${low}`);
      const negative = values.map((value) => -value);
      assert.deepEqual(
        narrow(negative, dtype),
        Uint16Array.of(low | 0x8000, even | 0x8000, (low + 1) | 0x8000),
        `below minus pattern ${low}`,
      );
    }
  });

  Deno.test(`fromF32() keeps every kind of NaN a NaN in ${dtype}`, () => {
    const words = Uint32Array.of(0x7f800001, 0x7f80ffff, 0x7fffffff, 0xff800001, 0xffffffff, 0x7fc00000);
    const narrowed = fromF32(new Float32Array(words.buffer), dtype);
    for (const value of toF32(narrowed, dtype)) assert.ok(Number.isNaN(value));
  });
}

Deno.test("toF32() and fromF32() keep the bits of F32", () => {
  const bytes = new Uint8Array(Float32Array.of(1.5, -0, 2 ** -149, Infinity).buffer);
  assert.deepEqual(fromF32(toF32(bytes, "F32"), "F32"), bytes);
  const shifted = new Uint8Array(17);
  shifted.set(bytes, 1);
  assert.deepEqual(toF32(shifted.subarray(1), "F32"), Float32Array.of(1.5, -0, 2 ** -149, Infinity));
});

Deno.test("toF32() refuses a part of an element", () => {
  assert.throws(() => toF32(new Uint8Array(6), "F32"), RangeError);
  assert.throws(() => toF32(new Uint8Array(3), "BF16"), RangeError);
});
