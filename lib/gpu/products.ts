/** Matrix products as kernel calls, by the way of computing that suits the adapter: see `tuning.ts`. */
import {
  type GemmEpilogue,
  gemmGroupTile,
  type GemmLayout,
  type GemmSize,
  gemmSource,
  type GemmTile,
  gemmVariant,
} from "../../kernels/gemm.ts";
import {
  blockWords,
  TEXTURE_WORKGROUP,
  type TextureBlock,
  textureSource,
  textureWidth,
} from "../../kernels/gemm_texture.ts";
import type { Gpu } from "./device.ts";
import { ALIGNMENT, type MemoryPlan, type Tensor, type TextureSlab } from "./memory.ts";
import { type KernelCall, line, type RowSlot, type TextureCopy } from "./program.ts";
import { rowLength } from "./operations.ts";
import { bufferTile, type ProductTiles, type TextureProductTile } from "./tuning.ts";

/** The matrices of a product; see `GemmLayout`. `residual` is for the epilogue of that name. */
export interface Operands {
  a: Tensor;
  b: Tensor;
  c: Tensor;
  residual?: Tensor;
}

/** Kinds of blocks that the products of one plan may have: each is a uniform of 256 bytes. */
const MOST_BLOCKS = 256;

/** The products of one plan, and what they share. */
export class Products {
  readonly #textures?: { a: TextureSlab; b: TextureSlab; blocks: Tensor };
  /** Words of each kind of block, at its place among the uniforms. */
  readonly #blocks = new Map<string, number[]>();

  constructor(plan: MemoryPlan, readonly tiles: ProductTiles) {
    const textured = Object.values(tiles).filter((tile) => tile.memory === "texture");
    if (textured.length === 0) return;
    const width = Math.max(...textured.map(textureWidth));
    const height = Math.max(...textured.map(({ rows }) => rows));
    const texture = (name: string) => plan.texture(name, "scratch", width, height);
    const blocks = plan.tensor("product blocks", "scratch", [MOST_BLOCKS, ALIGNMENT / 4]);
    // UNIFORM, COPY_DST
    Object.assign(blocks.slab, { usage: 0x40 | 0x08 });
    this.#textures = { a: texture("left operand"), b: texture("right operand"), blocks };
  }

  /**
   * C = A B in one of three layouts. `rows` counts the rows of A and C (`nt`, `nn`) or the inner dimension (`tn`); the
   * other sizes come from the operands' shapes.
   */
  calls(
    layout: GemmLayout,
    rows: RowSlot,
    operands: Operands,
    epilogue: GemmEpilogue = "none",
  ): KernelCall[] {
    const size = sizeOf(layout, operands);
    const tile = this.tiles[layout];
    return tile.memory === "texture" && isForTextures(size, tile)
      ? this.#textureCalls(layout, rows, operands, epilogue, size, tile)
      : [bufferCall(layout, rows, operands, epilogue, size, bufferTile(tile, size.n))];
  }

  /** Writes what the calls' blocks are; after all calls were made and the plan is allocated. */
  upload(gpu: Gpu): void {
    if (!this.#textures || this.#blocks.size === 0) return;
    const words = new Uint32Array(this.#blocks.size * ALIGNMENT / 4);
    [...this.#blocks.values()].forEach((block, i) => words.set(block, i * ALIGNMENT / 4));
    gpu.device.queue.writeBuffer(this.#textures.blocks.slab.buffer!, 0, words);
  }

  /** A call for each block of C and of the inner dimension; what a texture still holds is not copied again. */
  #textureCalls(
    layout: GemmLayout,
    rows: RowSlot,
    { a, b, c, residual }: Operands,
    epilogue: GemmEpilogue,
    size: GemmSize,
    tile: TextureProductTile,
  ): KernelCall[] {
    const counted = layout === "tn" ? "k" : "m";
    // Rows of an operand lie along the texture's height, and its columns along the width.
    const most = {
      m: layout === "tn" ? tile.columns : tile.rows,
      n: layout === "nt" ? tile.rows : tile.columns,
      k: layout === "nt" ? tile.columns : tile.rows,
    };
    const k = layout === "tn" ? a.shape[0] : size.k;
    const calls: KernelCall[] = [];
    for (const [n, columns] of pieces(size.n, most.n)) {
      for (const [depth, inner] of pieces(k, most.k)) {
        for (const [m, height] of pieces(size.m, most.m)) {
          const first = { m, k: depth }[counted];
          const adds = depth > 0 ? "always" : epilogue === "accumulate" ? "accumulating" : "never";
          const block: TextureBlock = { m: height, n: columns, k: inner, ldc: size.ldc, first, adds };
          const isResidual = epilogue === "residual" && depth === 0;
          const copy = (
            operand: "a" | "b",
            source: Tensor,
            [firstRow, rowCount]: number[],
            [firstColumn, columnCount]: number[],
            isCounted: boolean,
          ): TextureCopy => ({
            source,
            texture: this.#textures![operand],
            firstRow,
            rows: rowCount,
            firstColumn,
            columns: columnCount,
            slot: isCounted ? rows.slot : undefined,
          });
          const [alongM, alongN, alongK] = [[m, height], [n, columns], [depth, inner]];
          calls.push({
            label: labelOf(layout, size),
            source: textureSource(layout, isResidual, tile),
            copies: [
              layout === "tn" ? copy("a", a, alongK, alongM, true) : copy("a", a, alongM, alongK, true),
              layout === "nt"
                ? copy("b", b, alongN, alongK, false)
                : copy("b", b, alongK, alongN, layout === "tn"),
            ],
            bindings: [
              rows.tensor,
              this.#block(block),
              this.#textures!.a,
              this.#textures!.b,
              from(c, m * size.ldc + n),
              ...(isResidual ? [from(residual!, m * size.ldc + n)] : []),
            ],
            grid: (counts) => {
              const left = Math.max(0, counts[rows.slot] - first);
              const tall = layout === "tn" ? height : Math.min(height, left);
              if (left === 0) return [0, 0];
              const tiles = Math.ceil(tall / tile.threadRows) * Math.ceil(columns / tile.threadColumns);
              return line(Math.ceil(tiles / TEXTURE_WORKGROUP));
            },
          });
        }
      }
    }
    return calls;
  }

  /** The uniform that tells of `block`. */
  #block(block: TextureBlock): Tensor {
    const words = blockWords(block);
    const key = words.join(" ");
    if (!this.#blocks.has(key)) this.#blocks.set(key, words);
    const index = [...this.#blocks.keys()].indexOf(key);
    if (index >= MOST_BLOCKS) throw new RangeError(`more than ${MOST_BLOCKS} kinds of product blocks`);
    return { ...this.#textures!.blocks, offset: index * ALIGNMENT, bytes: 32 };
  }
}

/** A product that reads its operands from buffers. */
function bufferCall(
  layout: GemmLayout,
  rows: RowSlot,
  t: Operands,
  epilogue: GemmEpilogue,
  size: GemmSize,
  tile: GemmTile,
): KernelCall {
  const variant = gemmVariant(layout, epilogue, size);
  const group = gemmGroupTile(tile);
  const columns = Math.ceil(size.n / group.columns);
  return {
    label: labelOf(layout, size),
    source: gemmSource(variant, tile, size),
    bindings: [rows.tensor, t.a, t.b, t.c, ...(epilogue === "residual" ? [t.residual!] : [])],
    grid: (counts) => {
      const count = counts[rows.slot];
      return count === 0 ? [0, 0] : [columns, Math.ceil((layout === "tn" ? size.m : count) / group.rows)];
    },
  };
}

const labelOf = (layout: GemmLayout, { m, n, k }: GemmSize) =>
  `gemm_${layout} ${layout === "tn" ? m : "rows"}x${n}x${layout === "tn" ? "rows" : k}`;

/** Sizes of a product from its operands' shapes; rows of A and C may be longer than the product needs. */
function sizeOf(layout: GemmLayout, { a, b, c }: Operands): GemmSize {
  const [lda, ldb, ldc] = [rowLength(a), rowLength(b), rowLength(c)];
  const n = layout === "nt" ? b.shape[0] : ldb;
  const k = layout === "nt" ? ldb : b.shape[0];
  return { m: c.shape[0], n, k, lda, ldb, ldc };
}

/** Whether the operands can be copied to textures, row by row and in blocks that start on aligned bytes, and gain by it. */
function isForTextures({ m, n, k, lda, ldb, ldc }: GemmSize, { worth }: TextureProductTile): boolean {
  const isAligned = [lda, ldb, ldc].every((floats) => floats * 4 % ALIGNMENT === 0);
  return isAligned && m * n * k >= worth;
}

/** `length` in pieces of at most `most`: where each begins, and its length. */
const pieces = (length: number, most: number): [first: number, length: number][] =>
  Array.from({ length: Math.ceil(length / most) }, (_, i) => [i * most, Math.min(most, length - i * most)]);

/** `tensor` from one of its elements on. */
const from = (tensor: Tensor, element: number): Tensor => ({
  ...tensor,
  offset: tensor.offset + element * 4,
  bytes: tensor.bytes - element * 4,
});
