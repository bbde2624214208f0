/** Types of tensors in ggml's files, and numbers as they are stored there. */
import { fromF32 } from "../safetensors/dtype.ts";

/** How matrices are stored: `q8_0` has a float16 scale for each 32 of them, and 8 bits for each. */
export type GgmlType = "f32" | "f16" | "bf16" | "q8_0";

/** Numbers of ggml: of the type, and of a file most of whose tensors are of it; elements of a block and its bytes. */
export const GGML_TYPES: Readonly<
  Record<GgmlType, { type: number; fileType: number; elements: number; bytes: number }>
> = {
  f32: { type: 0, fileType: 0, elements: 1, bytes: 4 },
  f16: { type: 1, fileType: 1, elements: 1, bytes: 2 },
  bf16: { type: 30, fileType: 32, elements: 1, bytes: 2 },
  q8_0: { type: 8, fileType: 7, elements: 32, bytes: 34 },
};

/** Bytes of so many elements, a whole number of blocks. */
export function ggmlBytes(type: GgmlType, elements: number): number {
  const block = GGML_TYPES[type];
  return elements / block.elements * block.bytes;
}

/**
 * Numbers as ggml stores them. For `q8_0` as its reference, quantize_row_q8_0_ref: the scale is the largest magnitude
 * of a block / 127, and halves are rounded away from zero.
 *
 * @param values a whole number of blocks.
 */
export function toGgml(values: Float32Array, type: GgmlType): Uint8Array {
  if (type !== "q8_0") return fromF32(values, type === "f32" ? "F32" : type === "f16" ? "F16" : "BF16");
  const { elements, bytes } = GGML_TYPES.q8_0;
  const out = new Uint8Array(ggmlBytes("q8_0", values.length));
  const view = new DataView(out.buffer);
  for (let first = 0, at = 0; first < values.length; first += elements, at += bytes) {
    let largest = 0;
    for (let i = first; i < first + elements; i++) largest = Math.max(largest, Math.abs(values[i]));
    const scale = Math.fround(largest / 127);
    // Of float32 arithmetic, as there: the rounding of a product decides which way a half goes.
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    view.setFloat16(at, scale, true);
    for (let i = 0; i < elements; i++) {
      const scaled = Math.fround(values[first + i] * inverse);
      view.setInt8(at + 2 + i, Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5));
    }
  }
  return out;
}
