/** Kernels that fill textures with blocks of matrices, however these are stored. */
import holdSource from "../../kernels/hold.wgsl" with { type: "text" };
import { withPrelude } from "../../kernels/prelude.ts";
import { matrixReader, PACK_BF16, readerElement } from "../../kernels/storage.ts";
import { elements, type Tensor, type TextureSlab, weightStorage } from "./memory.ts";
import { rowLength } from "./operations.ts";
import { type KernelCall, line } from "./program.ts";
import type { Texel } from "./texture_copy.ts";

/** How a matrix lies in a texture. */
export type HeldStorage = "f32" | "bf16";

/** Rows of a matrix, and of each as many of its columns as the texels hold. */
export interface MatrixBlock {
  firstRow: number;
  rows: number;
  firstColumn: number;
  texels: number;
  /** Where it goes, by default to the texture's first texel. */
  at?: Texel;
}

/** Elements of a texel, its WGSL, and the texture's format. */
const TEXEL = {
  f32: {
    perTexel: 4,
    format: "rgba32float",
    source: "fn texel(i: u32) -> vec4f { return matrix4(i); }",
  },
  bf16: {
    perTexel: 8,
    format: "rgba32uint",
    source: `${PACK_BF16}
fn texel(i: u32) -> vec4u { return vec4u(pack_bf16(matrix4(i)), pack_bf16(matrix4(i + 4u))); }`,
  },
} as const;

/** The format of a texture that holds a matrix so. */
export const heldFormat = (storage: HeldStorage): TextureSlab["format"] => TEXEL[storage].format;

/** The words of a block's uniform. */
export const blockWords = (
  matrix: Tensor,
  { firstRow, rows, firstColumn, texels, at = [0, 0] }: MatrixBlock,
): number[] => [
  ...[firstRow, firstColumn, rows, texels],
  ...[rowLength(matrix), elements(matrix.shape)],
  ...at,
];

/**
 * A block of `matrix` to `texture`; where there is a `slot`, the rows of it that this counts.
 *
 * @param uniform of `blockWords`.
 */
export function fillTexture(
  matrix: Tensor,
  texture: TextureSlab,
  { firstRow, rows, texels }: MatrixBlock,
  uniform: Tensor,
  { storage = "f32", slot }: { storage?: HeldStorage; slot?: number } = {},
): KernelCall {
  const { format, source, perTexel } = TEXEL[storage];
  const stored = weightStorage(matrix);
  const reader = matrixReader("matrix", stored, "block.elements");
  const kernel = holdSource.replace("HeldFormat", format).replace("MatrixElement", readerElement(stored));
  return {
    label: "hold",
    source: withPrelude(`${reader}\n${source}\n${kernel}`, { PER_TEXEL: perTexel }),
    bindings: [uniform, matrix, texture],
    grid: (counts) => {
      const there = slot === undefined ? rows : Math.min(rows, counts[slot] - firstRow);
      return line(Math.ceil(there * texels / 64));
    },
  };
}
