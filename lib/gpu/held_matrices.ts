/** Matrices in textures of their own, for passes that read each of them for a few rows, over and over. */
import { bytesOf } from "../../kernels/storage.ts";
import type { Tensor, TextureSlab } from "./memory.ts";
import type { MemoryPlan } from "./memory_plan.ts";
import { rowLength } from "./operations.ts";
import { SharedTensor } from "./placement.ts";
import type { KernelCall } from "./program.ts";
import { blockWords, fillTexture, heldFormat, type HeldStorage, type MatrixBlock } from "./texture_fill.ts";

/** Some rows of a matrix. */
export interface HeldRows {
  firstRow: number;
  rows: number;
  texture: TextureSlab;
  /** That these rows are, for the kernel that fills the texture, and its uniform. */
  block: MatrixBlock;
  uniform: Tensor;
}

/** Texels that every WebGPU adapter allows a texture in each direction. */
const MOST_TEXELS = 8192;

/**
 * A driver on the processor reads textures many times as fast as buffers, and copying a matrix before each product of
 * few rows would take longer than the product.
 */
export class HeldMatrices {
  readonly #held = new Map<Tensor, HeldRows[]>();

  /**
   * @param plan where the textures are planned.
   * @param uniform a tensor that will hold these words when kernels run.
   * @param storage in bfloat16 only what is such numbers anyway: nothing is rounded.
   */
  constructor(
    readonly plan: MemoryPlan,
    readonly uniform: (words: number[]) => Tensor,
    readonly storage: HeldStorage,
  ) {}

  /** Where a matrix is held from the next run of `calls` on; nowhere if its rows are no whole texels, or too many. */
  of(matrix: Tensor): readonly HeldRows[] {
    const known = this.#held.get(matrix);
    if (known) return known;
    const rows = matrix.shape[0];
    const texels = rowLength(matrix) * bytesOf(this.storage) / 16;
    // Another kernel of the same pass makes what is no parameter.
    const isParameter = !(matrix instanceof SharedTensor);
    const fits = isParameter && Number.isInteger(texels) && texels <= MOST_TEXELS;
    const held = Array.from({ length: fits ? Math.ceil(rows / MOST_TEXELS) : 0 }, (_, i): HeldRows => {
      const firstRow = i * MOST_TEXELS;
      const height = Math.min(MOST_TEXELS, rows - firstRow);
      const format = heldFormat(this.storage);
      const texture = this.plan.texture(`${matrix.name} held`, "weights", texels, height, format);
      const block = { firstRow, rows: height, firstColumn: 0, texels };
      return { firstRow, rows: height, texture, block, uniform: this.uniform(blockWords(matrix, block)) };
    });
    this.#held.set(matrix, held);
    return held;
  }

  /** Copies every matrix to where it is held. */
  get calls(): KernelCall[] {
    return [...this.#held].flatMap(([matrix, held]) =>
      held.map(({ texture, block, uniform }) =>
        fillTexture(matrix, texture, block, uniform, { storage: this.storage })
      )
    );
  }
}
