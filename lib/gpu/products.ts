/** Matrix products as kernel calls, by the way of computing that suits the adapter: see `tuning.ts`. */
import {
  type Adds,
  gemmGroupTile,
  type GemmLayout,
  type GemmSize,
  type GemmTile,
  gemmVariant,
  isScaled,
  type MatrixTile,
  takesPairs,
} from "../../kernels/gemm.ts";
import { largestGroups, largestParts, largestSource } from "../../kernels/gemm_largest.ts";
import { partsGroups, partsSource } from "../../kernels/gemm_parts.ts";
import { gemmSource } from "../../kernels/gemm_source.ts";
import { type Epilogue, isPaired } from "../../kernels/gemm_epilogue.ts";
import { TEXTURE_WORKGROUP, textureRows, textureSource, textureWidth } from "../../kernels/gemm_texture.ts";
import type { Gpu } from "./device.ts";
import { HeldMatrices } from "./held_matrices.ts";
import type { ProductEpilogue } from "./epilogues.ts";
import { align, ALIGNMENT, type Tensor, type TextureSlab, weightStorage } from "./memory.ts";
import type { MemoryPlan } from "./memory_plan.ts";
import { boundBy, epilogueOf, from, labelOf, type Operands, sizeOf } from "./product_operands.ts";
import { ProductSizes } from "./product_sizes.ts";
import { type KernelCall, line, type RowSlot } from "./program.ts";
import { Sources } from "./sources.ts";
import { TextureProducts } from "./texture_products.ts";
import { partsOf, type ProductTiles, shapeClass } from "./tuning.ts";

/** What else is done with a product. */
export interface ProductOptions {
  /** Whether C is added to; by default never. */
  adds?: Adds;
  /** What the product, and its bias, are multiplied by. */
  scale?: number;
  /** Done as the sums are stored, where tiles and sizes allow it, and else by its own kernel after the product. */
  epilogue?: ProductEpilogue;
}

/** The products of one plan, and what they share. */
export class Products {
  /** The matrices of products of few rows. */
  readonly held?: HeldMatrices;
  readonly #textures?: TextureProducts;
  /** What kernels of one product leave for each other, by name. */
  readonly #between = new Map<string, Tensor>();
  /** The other operand of products whose matrix is held. */
  readonly #left?: TextureSlab;
  readonly #sizes: ProductSizes;
  readonly #sources = new Sources();

  constructor(readonly plan: MemoryPlan, readonly tiles: ProductTiles) {
    this.#sizes = new ProductSizes(plan);
    const { texture, held } = tiles;
    if (texture) this.#textures = new TextureProducts(plan, texture, this.#sizes, this.#sources);
    if (!held) return;
    this.held = new HeldMatrices(plan, (words) => this.#sizes.uniform(words), held.storage);
    this.#left = plan.texture("rows", "scratch", textureWidth(held), textureRows(held));
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
    const { textured, buffer } = this.tiles;
    const shape = shapeClass(layout, size.m, size.n);
    const textures = textured.includes(shape) && this.#textures?.takes(size) ? this.#textures : undefined;
    const { more, ...own } = operands;
    if (more && !textures?.canJoin(layout, size, more)) {
      return [
        ...this.calls(layout, rows, { ...more, c: own.c }, { adds, scale }),
        ...this.calls(layout, rows, own, { adds: "always", scale, epilogue }),
      ];
    }
    const held = layout === "nt" ? this.#heldCalls(rows, operands, size) : [];
    if (held.length > 0) return epilogue ? [...held, epilogue.alone] : held;
    const tile = buffer[shape];
    const isFused = !textures && epilogue && this.tiles.fuses &&
      canFuse(layout, epilogue, operands, size, tile);
    const calls = textures
      ? textures.calls(layout, rows, operands, size)
      : isScaled(tile)
      ? this.#scaledCalls(layout, rows, operands, size, tile, isFused ? epilogue : undefined)
      : this.#bufferCalls(layout, rows, operands, size, tile, isFused ? epilogue : undefined);
    return epilogue && !isFused ? [...calls, epilogue.alone] : calls;
  }

  /** Writes the sizes of the calls; after all calls were made and the plan is allocated. */
  upload(gpu: Gpu): void {
    this.#sizes.upload(gpu);
  }

  /** The product of float16 matrices, after the largest magnitudes of its operands. */
  #scaledCalls(
    layout: GemmLayout,
    rows: RowSlot,
    operands: Operands,
    size: GemmSize,
    tile: MatrixTile,
    fused?: ProductEpilogue,
  ): KernelCall[] {
    const variant = gemmVariant(layout, { kind: "none" }, size, weightStorage(operands.b));
    const words = this.#sizes.of(size);
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
          this.#sizes.of({ ...size, n: columns }),
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

  /** The same, with what an epilogue needs to know. */
  #sizeOf(size: GemmSize, fused?: ProductEpilogue): Tensor {
    return this.#sizes.of({ ...size, half: fused?.half, rotated: fused?.rotated, head: fused?.head });
  }
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
