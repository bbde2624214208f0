/** Matrix products by way of textures, block by block: see `tuning.ts` for where they are taken. */
import type { GemmLayout, GemmSize } from "../../kernels/gemm.ts";
import { TEXTURE_WORKGROUP, textureRows, textureSource, textureWidth } from "../../kernels/gemm_texture.ts";
import type { Tensor, TextureSlab } from "./memory.ts";
import type { MemoryPlan } from "./memory_plan.ts";
import { rowLength } from "./operations.ts";
import { epilogueOf, from, labelOf, type Operands } from "./product_operands.ts";
import type { ProductSizes } from "./product_sizes.ts";
import { type KernelCall, line, type RowSlot } from "./program.ts";
import type { Sources } from "./sources.ts";
import { isCopied, type Texel, type TextureCopy } from "./texture_copy.ts";
import { blockWords, fillTexture } from "./texture_fill.ts";
import type { TextureProductTile } from "./tuning.ts";

type Range = readonly [first: number, length: number];

/**
 * What one dispatch computes of a product by way of textures: its rows and columns of C, its part of the inner
 * dimension.
 */
interface Block extends Record<"m" | "n" | "k", Range> {
  /** Whether the inner dimension goes on with that of what is added. */
  hasMore: boolean;
  /** The first of the counted rows. */
  first: number;
  /** The uniform of its size. */
  size: Tensor;
}

/** The products of a plan that go through textures, and these. */
export class TextureProducts {
  /** Where an operand's block is held. */
  readonly #textures: { a: TextureSlab; b: TextureSlab };
  readonly #blocks = new Map<string, readonly Block[]>();

  constructor(
    readonly plan: MemoryPlan,
    readonly tile: TextureProductTile,
    readonly sizes: ProductSizes,
    readonly sources: Sources,
  ) {
    const texture = (name: string) => plan.texture(name, "scratch", textureWidth(tile), textureRows(tile));
    this.#textures = { a: texture("left operand"), b: texture("right operand") };
  }

  /** Whether rows of the operands and of C are whole texels, and textures gain by it. */
  takes({ m, n, k, lda, ldb, ldc }: GemmSize): boolean {
    return [lda, ldb, ldc].every((floats) => floats % 4 === 0) && m * n * k >= this.tile.worth;
  }

  /**
   * Whether textures hold what is added to a product behind its own operands: in whole texels, and in less than half
   * of a block.
   */
  canJoin(layout: GemmLayout, { k }: GemmSize, { a, b }: { a: Tensor; b: Tensor }): boolean {
    const { rows, columns } = this.tile;
    const depth = rowLength(a);
    const areTexels = [k, depth, rowLength(b)].every((floats) => floats % 4 === 0);
    return areTexels && depth <= (layout === "nt" ? columns : rows) / 2;
  }

  /**
   * A call for each block, of which the first stands for all; what a texture still holds is not copied again.
   */
  calls(
    layout: GemmLayout,
    rows: RowSlot,
    { a, b, c, bias, residual, more }: Operands,
    size: GemmSize,
  ): KernelCall[] {
    const depth = more ? rowLength(more.a) : 0;
    const blocks = this.#blocksOf(layout, size, depth);
    const copiesOf = ({ m, n, k, hasMore }: Block): TextureCopy[] => [
      layout === "tn" ? this.#copy("a", a, k, m, rows) : this.#copy("a", a, m, k, rows),
      layout === "nt"
        ? this.#copy("b", b, n, k)
        : this.#copy("b", b, k, n, layout === "tn" ? rows : undefined),
      // Behind them: columns of A, and rows or columns of B.
      ...(more && hasMore
        ? [
          this.#copy("a", more.a, m, [0, depth], rows, [k[1] / 4, 0]),
          layout === "nt"
            ? this.#copy("b", more.b, n, [0, depth], undefined, [k[1] / 4, 0])
            : this.#copy("b", more.b, [0, depth], n, undefined, [0, k[1]]),
        ]
        : []),
    ];
    // The uniforms of kernels that copy: other blocks' calls are made when nothing can be planned any more.
    if (![a, b, ...Object.values(more ?? {})].every(isCopied)) blocks.forEach(copiesOf);
    const call = (block: Block): KernelCall => {
      const { m, n, k, first, hasMore, size: words } = block;
      const [[row, height], [column, columns], [deep, own]] = [m, n, k];
      const inner = own + (hasMore ? depth : 0);
      const place = row * size.ldc + column;
      const added = deep === 0
        ? { bias: bias && from(bias, column), residual: residual && from(residual, place) }
        : {};
      const epilogue = epilogueOf(added);
      return {
        label: labelOf(layout, size, epilogue, depth),
        source: this.sources.of(
          `texture ${layout} ${epilogue.bias} ${epilogue.kind}`,
          () => textureSource(layout, epilogue, this.tile),
        ),
        copies: copiesOf(block),
        bindings: [
          rows.tensor,
          words,
          this.#textures.a,
          this.#textures.b,
          from(c, place),
          ...(added.bias ? [added.bias] : []),
          ...(added.residual ? [added.residual] : []),
        ],
        grid: (counts) => {
          const left = Math.max(0, counts[rows.slot] - first);
          const tall = layout === "tn" ? height : Math.min(height, left);
          if (left === 0) return [0, 0];
          const tiles = Math.ceil(tall / this.tile.threadRows) * Math.ceil(columns / this.tile.threadColumns);
          return line(Math.ceil(tiles / TEXTURE_WORKGROUP));
        },
        flops: (counts) => {
          const left = Math.max(0, counts[rows.slot] - first);
          return 2 * columns *
            (layout === "tn" ? height * Math.min(inner, left) : Math.min(height, left) * inner);
        },
      };
    };
    return [{ ...call(blocks[0]), rest: () => blocks.slice(1).map(call) }];
  }

  /** A block of an operand into its texture; only the rows that are counted, where `counted` says how. */
  #copy(
    operand: "a" | "b",
    source: Tensor,
    [firstRow, rows]: Range,
    [firstColumn, columns]: Range,
    counted?: RowSlot,
    at?: Texel,
  ): TextureCopy {
    const texture = this.#textures[operand];
    const copy = { source, texture, at, firstRow, rows, firstColumn, columns, slot: counted?.slot };
    if (isCopied(source)) return copy;
    const block = { firstRow, rows, firstColumn, texels: Math.ceil(columns / 4), at };
    const uniform = this.sizes.uniform(blockWords(source, block));
    return { ...copy, by: fillTexture(source, texture, block, uniform, { slot: counted?.slot }) };
  }

  /**
   * The blocks of C and of the inner dimension that fill textures: the same in every layer, and so made once a size.
   */
  #blocksOf(layout: GemmLayout, size: GemmSize, more: number): readonly Block[] {
    const { m, n, k, lda, ldb, ldc, adds, scale } = size;
    const key = `${layout} ${m} ${n} ${k} ${lda} ${ldb} ${ldc} ${adds} ${scale} ${more}`;
    const known = this.#blocks.get(key);
    if (known) return known;
    const counted = layout === "tn" ? "k" : "m";
    // Rows of an operand lie along the texture's height, and its columns along the width.
    const { rows, columns } = this.tile;
    const deepest = { nt: columns, nn: Math.min(rows, columns), tn: rows };
    const most = {
      m: layout === "tn" ? columns : rows,
      n: layout === "nt" ? rows : columns,
      // The first block has room for what is added, and so binds all that the others do.
      k: deepest[layout] - more,
    };
    const blocks: Block[] = [];
    for (const n of pieces(size.n, most.n)) {
      for (const k of pieces(size.k, most.k)) {
        for (const m of pieces(size.m, most.m)) {
          const [first] = { m, k }[counted];
          const adds = k[0] > 0 ? "always" : size.adds;
          const hasMore = more > 0 && k[0] === 0;
          const inner = k[1] + (hasMore ? more : 0);
          const words = this.sizes.of({ ...size, m: m[1], n: n[1], k: inner, first, adds });
          blocks.push({ m, n, k, hasMore, first, size: words });
        }
      }
    }
    this.#blocks.set(key, blocks);
    return blocks;
  }
}

/** `length` in pieces of at most `most`: where each begins, and its length. */
const pieces = (length: number, most: number): Range[] =>
  Array.from({ length: Math.ceil(length / most) }, (_, i) => [i * most, Math.min(most, length - i * most)]);
