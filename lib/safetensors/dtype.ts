/** The name of a dtype as the header of a safetensors file spells it. */
export type Dtype =
  | "BOOL"
  | "F4"
  | "F6_E2M3"
  | "F6_E3M2"
  | "U8"
  | "I8"
  | "F8_E5M2"
  | "F8_E4M3"
  | "F8_E8M0"
  | "F8_E4M3FNUZ"
  | "F8_E5M2FNUZ"
  | "I16"
  | "U16"
  | "F16"
  | "BF16"
  | "I32"
  | "U32"
  | "F32"
  | "C64"
  | "F64"
  | "I64"
  | "U64";

/**
 * Bits of one element of every dtype of the safetensors format (version 0.8 of the reference implementation).
 */
export const DTYPE_BITS: Readonly<Record<Dtype, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
};

/** The dtypes that are read and written as numbers. */
export type FloatDtype = "F32" | "F16" | "BF16";

/** Whether `dtype` is one that `toF32` and `fromF32` convert. */
export function isFloatDtype(dtype: Dtype): dtype is FloatDtype {
  return dtype === "F32" || dtype === "F16" || dtype === "BF16";
}

/**
 * Bytes of a tensor of this shape (`[]` is a scalar), or undefined where the count is not exact in a number
 * (2^53 and more) or no whole number of bytes (possible for the 4 and 6 bit dtypes).
 */
export function tensorBytes(dtype: Dtype, shape: readonly number[]): number | undefined {
  let bits: number = DTYPE_BITS[dtype];
  for (const dimension of shape) {
    bits *= dimension;
    if (!Number.isSafeInteger(bits)) return undefined;
  }
  return bits % 8 === 0 ? bits / 8 : undefined;
}

/**
 * Little-endian elements as float32: exact, since every f16 and bf16 value is a float32. F32 is returned as a
 * view on the bytes where they are aligned, so it shares their memory. (Typed arrays are little-endian
 * wherever WebGPU runs.)
 *
 * @throws RangeError where the bytes hold no whole number of elements.
 */
export function toF32(bytes: Uint8Array, dtype: FloatDtype): Float32Array<ArrayBuffer> {
  const size = DTYPE_BITS[dtype] / 8;
  if (bytes.length % size !== 0) {
    throw new RangeError(`${bytes.length} bytes are no whole number of ${dtype} elements of ${size} bytes`);
  }
  // A typed array's view must begin at a multiple of its element size.
  const aligned = bytes.byteOffset % size === 0 && bytes.buffer instanceof ArrayBuffer
    ? bytes as Uint8Array<ArrayBuffer>
    : new Uint8Array(bytes);
  const at = [aligned.buffer, aligned.byteOffset, aligned.length / size] as const;
  if (dtype === "F32") return new Float32Array(...at);
  if (dtype === "F16") return new Float32Array(new Float16Array(...at));
  const halves = new Uint16Array(...at);
  const words = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) words[i] = halves[i] << 16;
  return new Float32Array(words.buffer);
}

/**
 * Float32 values as little-endian elements of `dtype`: round to nearest, ties to even; beyond the largest
 * finite value infinity; NaN stays NaN. F32 is returned as a view on the values, so it shares their memory.
 */
export function fromF32(values: Float32Array, dtype: FloatDtype): Uint8Array {
  if (dtype === "F32") return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  if (dtype === "F16") return new Uint8Array(new Float16Array(values).buffer);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(words.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    const isNaN = (word & 0x7fffffff) > 0x7f800000;
    // A NaN whose payload lies in the dropped half would become infinity: its quiet bit is set instead of
    // rounding.
    halves[i] = isNaN ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return new Uint8Array(halves.buffer);
}
