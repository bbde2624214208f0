/** Matrix products as kernel calls, by the way of computing that suits the adapter: see `tuning.ts`. */
import {
  type Adds,
  gemmGroupTile,
  type GemmLayout,
  type GemmSize,
  type GemmTile,
  gemmVariant,
  type MatrixTile,
  sizeWords,
  takesPairs,
} from "../../kernels/gemm.ts";
import { largestGroups, largestParts, largestSource } from "../../kernels/gemm_largest.ts";
import { partsGroups, partsSource } from "../../kernels/gemm_parts.ts";
import { gemmSource } from "../../kernels/gemm_source.ts";
import { type Epilogue, isPaired } from "../../kernels/gemm_epilogue.ts";
import {
  TEXTURE_WORKGROUP,
  textureSource,
  type TextureTile,
  textureWidth,
} from "../../kernels/gemm_texture.ts";
import type { Gpu } from "./device.ts";
import { HeldMatrices } from "./held_matrices.ts";
import type { ProductEpilogue } from "./epilogues.ts";
import { align, ALIGNMENT, type Tensor, type TextureSlab, view, weightStorage } from "./memory.ts";
import type { MemoryPlan } from "./memory_plan.ts";
import { type KernelCall, line, type RowSlot } from "./program.ts";
import { isCopied, type Texel, type TextureCopy } from "./texture_copy.ts";
import { blockWords, fillTexture } from "./texture_fill.ts";
import { rowLength } from "./operations.ts";
import { Sources } from "./sources.ts";
import { partsOf, type ProductTiles, shapeClass, type TextureProductTile } from "./tuning.ts";

/**
 * The matrices of a product; see `GemmLayout`. A `bias` is added to every row of it, and a `residual` of C's shape to
 * what is then scaled. B of `nt` and `nn` may be stored in less than 4 bytes an element, where its rows are multiples
 * of 4.
 */
export interface Operands {
  a: Tensor;
  b: Tensor;
  c: Tensor;
  bias?: Tensor;
  residual?: Tensor;
  /** Of another product of C's shape (`nt`, `nn`), which is added to that of A and B: what a layer's adapters give. */
  more?: { a: Tensor; b: Tensor };
}

/** What else is done with a product. */
export interface ProductOptions {
  /** Whether C is added to; by default never. */
  adds?: Adds;
  /** What the product, and its bias, are multiplied by. */
  scale?: number;
  /** Done as the sums are stored, where tiles and sizes allow it, and else by its own kernel after the product. */
  epilogue?: ProductEpilogue;
}

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

/** Sizes that one slab holds: each is a uniform of 256 bytes. Hardly a model needs a second. */
const SIZES = 256;

/** The products of one plan, and what they share. */
export class Products {
  /** The matrices of products of few rows. */
  readonly held?: HeldMatrices;
  /** Where textures hold an operand's block. */
  readonly #textures?: { a: TextureSlab; b: TextureSlab };
  /** What kernels of one product leave for each other, by name. */
  readonly #between = new Map<string, Tensor>();
  /** The other operand of products whose matrix is held. */
  readonly #left?: TextureSlab;
  readonly #slabs: Tensor[] = [];
  readonly #sources = new Sources();
  /** The uniform of each size, by its words. */
  readonly #sizes = new Map<string, { tensor: Tensor; words: number[] }>();
  readonly #blocks = new Map<string, readonly Block[]>();

  constructor(readonly plan: MemoryPlan, readonly tiles: ProductTiles) {
    this.#addSlab();
    const { texture: tile, held } = tiles;
    const texture = (name: string, tile: TextureTile) =>
      plan.texture(name, "scratch", textureWidth(tile), tile.rows);
    if (tile) this.#textures = { a: texture("left operand", tile), b: texture("right operand", tile) };
    if (!held) return;
    this.held = new HeldMatrices(plan, (words) => this.#uniform(words), held.storage);
    // A thread reads all the rows that it could have.
    this.#left = texture("rows", { ...held, rows: Math.ceil(held.rows / held.threadRows) * held.threadRows });
  }

  /**
   * C = A B in one of three layouts. `rows` counts the rows of A and C (`nt`, `nn`) or the inner dimension (`tn`); the
   * other sizes come from the operands' shapes.
   */
  calls(
    layout: GemmLayout,
    rows: RowSlot,
    operands: Operands,
    { adds = "never", scale, epilogue }: ProductOptions = {},
  ): KernelCall[] {
    const size: GemmSize = { ...sizeOf(layout, operands), first: 0, adds, scale };
    const { texture, textured, buffer } = this.tiles;
    const shape = shapeClass(layout, size.m, size.n);
    const isTextured = textured.includes(shape) && texture && isForTextures(size, texture);
    const { more, ...own } = operands;
    if (more && !(isTextured && canJoin(layout, size, more, texture))) {
      return [
        ...this.calls(layout, rows, { ...more, c: own.c }, { adds, scale }),
        ...this.calls(layout, rows, own, { adds: "always", scale, epilogue }),
      ];
    }
    const held = layout === "nt" ? this.#heldCalls(rows, operands, size) : [];
    if (held.length > 0) return epilogue ? [...held, epilogue.alone] : held;
    const tile = buffer[shape];
    const isFused = !isTextured && epilogue && this.tiles.fuses &&
      canFuse(layout, epilogue, operands, size, tile);
    const calls = isTextured
      ? this.#textureCalls(layout, rows, operands, size, texture)
      : tile.memory === "matrix"
      ? this.#matrixCalls(layout, rows, operands, size, tile, isFused ? epilogue : undefined)
      : this.#bufferCalls(layout, rows, operands, size, tile, isFused ? epilogue : undefined);
    return epilogue && !isFused ? [...calls, epilogue.alone] : calls;
  }

  /** Writes the sizes of the calls; after all calls were made and the plan is allocated. */
  upload(gpu: Gpu): void {
    for (const { tensor, words } of this.#sizes.values()) {
      gpu.device.queue.writeBuffer(tensor.slab.buffer!, tensor.offset, Uint32Array.from(words));
    }
  }

  /** The product, after the largest magnitudes of its operands. */
  #matrixCalls(
    layout: GemmLayout,
    rows: RowSlot,
    operands: Operands,
    size: GemmSize,
    tile: MatrixTile,
    fused?: ProductEpilogue,
  ): KernelCall[] {
    const variant = gemmVariant(layout, { kind: "none" }, size, weightStorage(operands.b));
    const words = this.#size(size);
    const [a, b] = (["a", "b"] as const).map((operand) => {
      const lines = operand === "a" ? size.m : size.n;
      const found = this.#wordsOf(`largest of ${operand}`, lines * largestParts(layout, operand));
      const groups = line(largestGroups(layout, operand, lines));
      const call: KernelCall = {
        label: "gemm_largest",
        source: this.#sources.of(["largest", operand, variant], () => largestSource(variant, operand)),
        bindings: [rows.tensor, words, operands[operand], found],
        grid: (counts) => counts[rows.slot] === 0 ? [0, 0] : groups,
      };
      return { call, found };
    });
    const [product, ...after] = this.#bufferCalls(layout, rows, operands, size, tile, fused);
    return [
      a.call,
      b.call,
      { ...product, bindings: [...product.bindings, a.found, b.found] },
      ...after,
    ];
  }

  /** So many words of the one slab that the products have for it, which grows with the largest of them. */
  #wordsOf(name: string, words: number): Tensor {
    const bytes = align(4 * words);
    const all = this.#between.get(name) ?? this.plan.tensor(name, "scratch", [words]);
    this.#between.set(name, all);
    Object.assign(all.slab, { bytes: Math.max(all.slab.bytes, bytes) });
    return { ...all, shape: [words], bytes };
  }

  /** The product or, where that is to be split, its parts and their sum. */
  #bufferCalls(
    layout: GemmLayout,
    rows: RowSlot,
    operands: Operands,
    size: GemmSize,
    tile: GemmTile,
    fused?: ProductEpilogue,
  ): KernelCall[] {
    const { split } = this.tiles;
    const parts = split ? partsOf(layout, size, tile, split) : 1;
    if (parts === 1) return [this.#bufferCall(layout, rows, operands, size, tile, fused)];
    const ldc = Math.ceil(size.n / 4) * 4;
    const sums = this.#wordsOf("sums of parts", parts * size.m * ldc);
    const { a, b, c } = operands;
    const epilogue = epilogueOf(operands, fused);
    const aligned = size.ldc % 4 === 0;
    const part = { m: size.m, n: size.n, k: size.k, lda: size.lda, ldb: size.ldb, ldc, first: size.first };
    return [
      this.#bufferCall(layout, rows, { a, b, c: sums }, { ...part, adds: "never", parts }, tile),
      {
        label: "gemm_parts",
        source: this.#sources.of(
          ["parts", layout, epilogue, aligned],
          () => partsSource(layout, epilogue, aligned),
        ),
        bindings: [
          rows.tensor,
          this.#sizeOf({ ...size, parts }, fused),
          sums,
          c,
          ...boundBy(operands, fused),
        ],
        grid: (counts) => {
          const count = counts[rows.slot];
          return count === 0 ? [0, 0] : line(partsGroups(layout === "tn" ? size.m : count, size.n));
        },
      },
    ];
  }

  #bufferCall(
    layout: GemmLayout,
    rows: RowSlot,
    t: Operands,
    size: GemmSize,
    tile: GemmTile,
    fused?: ProductEpilogue,
  ): KernelCall {
    const { parts = 1 } = size;
    const epilogue: Epilogue = parts > 1 ? { kind: "part" } : epilogueOf(t, fused);
    const variant = gemmVariant(layout, epilogue, size, weightStorage(t.b));
    const group = gemmGroupTile(tile);
    const columns = Math.ceil(size.n / group.columns);
    return {
      label: labelOf(layout, size, epilogue),
      source: this.#sources.of([variant, tile], () => gemmSource(variant, tile)),
      bindings: [
        rows.tensor,
        this.#sizeOf(size, fused),
        t.a,
        t.b,
        t.c,
        ...boundBy(t, fused),
      ],
      grid: (counts) => {
        const count = counts[rows.slot];
        const down = Math.ceil((layout === "tn" ? size.m : count) / group.rows);
        return count === 0 ? [0, 0] : [columns, down, parts];
      },
      flops: (counts) => 2 * counts[rows.slot] * size.n * (layout === "tn" ? size.m : size.k),
    };
  }

  /**
   * A call for each texture that holds the matrix; none where nothing does, or the rows cannot be copied to a
   * texture.
   */
  #heldCalls(rows: RowSlot, { a, b, c, bias, residual }: Operands, size: GemmSize): KernelCall[] {
    const { held: tile } = this.tiles;
    if (!tile || size.k > tile.columns || size.lda * 4 % ALIGNMENT || size.ldc % 4) return [];
    return this.held!.of(b).map(({ firstRow, rows: columns, texture }) => {
      const added = { bias: bias && from(bias, firstRow), residual: residual && from(residual, firstRow) };
      const epilogue = epilogueOf(added);
      return {
        label: labelOf("nt", size, epilogue),
        source: this.#sources.of(
          [epilogue, tile],
          () => textureSource("nt", epilogue, tile, tile.storage),
        ),
        copies: [{
          source: a,
          texture: this.#left!,
          firstRow: 0,
          rows: size.m,
          firstColumn: 0,
          columns: size.k,
          slot: rows.slot,
        }],
        bindings: [
          rows.tensor,
          this.#size({ ...size, n: columns }),
          this.#left!,
          texture,
          from(c, firstRow),
          ...(added.bias ? [added.bias] : []),
          ...(added.residual ? [added.residual] : []),
        ],
        grid: (counts) => {
          const tiles = Math.ceil(counts[rows.slot] / tile.threadRows) *
            Math.ceil(columns / tile.threadColumns);
          return line(Math.ceil(tiles / TEXTURE_WORKGROUP));
        },
        flops: (counts) => 2 * counts[rows.slot] * columns * size.k,
      };
    });
  }

  /**
   * A call for each block, of which the first stands for all; what a texture still holds is not copied again.
   */
  #textureCalls(
    layout: GemmLayout,
    rows: RowSlot,
    { a, b, c, bias, residual, more }: Operands,
    size: GemmSize,
    tile: TextureProductTile,
  ): KernelCall[] {
    const depth = more ? rowLength(more.a) : 0;
    const blocks = this.#blocksOf(layout, size, tile, depth);
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
        source: this.#sources.of(
          `texture ${layout} ${epilogue.bias} ${epilogue.kind}`,
          () => textureSource(layout, epilogue, tile),
        ),
        copies: copiesOf(block),
        bindings: [
          rows.tensor,
          words,
          this.#textures!.a,
          this.#textures!.b,
          from(c, place),
          ...(added.bias ? [added.bias] : []),
          ...(added.residual ? [added.residual] : []),
        ],
        grid: (counts) => {
          const left = Math.max(0, counts[rows.slot] - first);
          const tall = layout === "tn" ? height : Math.min(height, left);
          if (left === 0) return [0, 0];
          const tiles = Math.ceil(tall / tile.threadRows) * Math.ceil(columns / tile.threadColumns);
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
    const texture = this.#textures![operand];
    const copy = { source, texture, at, firstRow, rows, firstColumn, columns, slot: counted?.slot };
    if (isCopied(source)) return copy;
    const block = { firstRow, rows, firstColumn, texels: Math.ceil(columns / 4), at };
    const uniform = this.#uniform(blockWords(source, block));
    return { ...copy, by: fillTexture(source, texture, block, uniform, { slot: counted?.slot }) };
  }

  /**
   * The blocks of C and of the inner dimension that fill textures: the same in every layer, and so made once a size.
   */
  #blocksOf(layout: GemmLayout, size: GemmSize, tile: TextureProductTile, more: number): readonly Block[] {
    const { m, n, k, lda, ldb, ldc, adds, scale } = size;
    const key = `${layout} ${m} ${n} ${k} ${lda} ${ldb} ${ldc} ${adds} ${scale} ${more}`;
    const known = this.#blocks.get(key);
    if (known) return known;
    const counted = layout === "tn" ? "k" : "m";
    // Rows of an operand lie along the texture's height, and its columns along the width.
    const most = {
      m: layout === "tn" ? tile.columns : tile.rows,
      n: layout === "nt" ? tile.rows : tile.columns,
      // The first block has room for what is added, and so binds all that the others do.
      k: (layout === "nt" ? tile.columns : tile.rows) - more,
    };
    const blocks: Block[] = [];
    for (const n of pieces(size.n, most.n)) {
      for (const k of pieces(size.k, most.k)) {
        for (const m of pieces(size.m, most.m)) {
          const [first] = { m, k }[counted];
          const adds = k[0] > 0 ? "always" : size.adds;
          const hasMore = more > 0 && k[0] === 0;
          const inner = k[1] + (hasMore ? more : 0);
          const words = this.#size({ ...size, m: m[1], n: n[1], k: inner, first, adds });
          blocks.push({ m, n, k, hasMore, first, size: words });
        }
      }
    }
    this.#blocks.set(key, blocks);
    return blocks;
  }

  /** The uniform that holds `size`. */
  #size(size: GemmSize): Tensor {
    return this.#uniform(sizeWords(size));
  }

  /** The same, with what an epilogue needs to know. */
  #sizeOf(size: GemmSize, fused?: ProductEpilogue): Tensor {
    return this.#size({ ...size, half: fused?.half, rotated: fused?.rotated, head: fused?.head });
  }

  /** The uniform that holds these words. */
  #uniform(words: number[]): Tensor {
    const key = words.join(" ");
    const known = this.#sizes.get(key);
    if (known) return known.tensor;
    const index = this.#sizes.size % SIZES;
    if (index === 0 && this.#sizes.size > 0) this.#addSlab();
    const tensor = { ...this.#slabs.at(-1)!, offset: index * ALIGNMENT, bytes: words.length * 4 };
    this.#sizes.set(key, { tensor, words });
    return tensor;
  }

  #addSlab(): void {
    const sizes = this.plan.tensor("product sizes", "batch", [SIZES, ALIGNMENT / 4]);
    // UNIFORM, COPY_DST
    Object.assign(sizes.slab, { usage: 0x40 | 0x08 });
    this.#slabs.push(sizes);
  }
}

const epilogueOf = (
  { bias, residual }: Pick<Operands, "bias" | "residual">,
  fused?: ProductEpilogue,
): Epilogue => ({
  bias: bias !== undefined,
  kind: fused?.kind ?? (residual ? "residual" : "none"),
  activation: fused?.activation,
});

/** What an epilogue's kernel binds behind C. */
const boundBy = (
  { bias, residual }: Pick<Operands, "bias" | "residual">,
  fused?: ProductEpilogue,
): Tensor[] => [
  ...(bias ? [bias] : []),
  ...(residual ? [residual] : []),
  ...(fused?.tensors ?? []),
];

const labelOf = (layout: GemmLayout, { m, n, k }: GemmSize, { bias, kind }: Epilogue, more = 0) =>
  `gemm_${layout} ${layout === "tn" ? m : "rows"}x${n}x${layout === "tn" ? "rows" : k}` +
  (more > 0 ? `+${more}` : "") +
  (bias ? " + bias" : "") +
  (kind === "none" || kind === "residual" ? "" : kind === "part" ? " in parts" : ` + ${kind}`);

/** Sizes of a product from its operands' shapes; rows of A and C may be longer than the product needs. */
function sizeOf(layout: GemmLayout, { a, b, c }: Operands): Omit<GemmSize, "first" | "adds"> {
  const [lda, ldb, ldc] = [rowLength(a), rowLength(b), rowLength(c)];
  const n = layout === "nt" ? b.shape[0] : ldb;
  const k = layout === "nt" ? ldb : b.shape[0];
  return { m: c.shape[0], n, k, lda, ldb, ldc };
}

/** Whether rows of the operands and of C are whole texels, and textures gain by it. */
function isForTextures({ m, n, k, lda, ldb, ldc }: GemmSize, { worth }: TextureProductTile): boolean {
  return [lda, ldb, ldc].every((floats) => floats % 4 === 0) && m * n * k >= worth;
}

/**
 * Whether textures hold what is added to a product behind its own operands: in whole texels, and in less than half of
 * a block.
 */
function canJoin(
  layout: GemmLayout,
  { k }: GemmSize,
  { a, b }: { a: Tensor; b: Tensor },
  { rows, columns }: TextureProductTile,
): boolean {
  const depth = rowLength(a);
  const areTexels = [k, depth, rowLength(b)].every((floats) => floats % 4 === 0);
  return areTexels && depth <= (layout === "nt" ? columns : rows) / 2;
}

/** Whether a product can do `epilogue`. */
const canFuse = (
  layout: GemmLayout,
  epilogue: ProductEpilogue,
  { b, residual }: Operands,
  size: GemmSize,
  tile: GemmTile,
): boolean =>
  !epilogue.isAlone && size.adds !== "accumulating" && !residual && epilogue.half % 4 === 0 &&
  gemmVariant(layout, epilogue, size, weightStorage(b)).aligned &&
  (!isPaired(epilogue) || (layout === "nt" && takesPairs(tile)));

/** `length` in pieces of at most `most`: where each begins, and its length. */
const pieces = (length: number, most: number): Range[] =>
  Array.from({ length: Math.ceil(length / most) }, (_, i) => [i * most, Math.min(most, length - i * most)]);

/** `tensor` from one of its elements on. */
const from = (tensor: Tensor, element: number): Tensor =>
  element === 0 ? tensor : view(tensor, element * 4, tensor.bytes - element * 4, tensor.shape);
