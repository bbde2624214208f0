/** Matrices in textures of their own, for passes that read each of them for a few rows, over and over. */
import holdSource from "../../kernels/hold.wgsl" with { type: "text" };
import { bytesOf, PACK_BF16 } from "../../kernels/storage.ts";
import { withPrelude } from "../../kernels/prelude.ts";
import type { Tensor, TextureSlab } from "./memory.ts";
import type { MemoryPlan } from "./memory_plan.ts";
import { rowLength } from "./operations.ts";
import { SharedTensor } from "./placement.ts";
import { type KernelCall, line } from "./program.ts";

/** How matrices are held. */
export type HeldStorage = "f32" | "bf16";

/** Some rows of a matrix. */
export interface HeldRows {
  firstRow: number;
  rows: number;
  texture: TextureSlab;
}

/** Texels that every WebGPU adapter allows a texture in each direction. */
const MOST_TEXELS = 8192;

/**
 * A driver on the processor reads textures many times as fast as buffers, and copying a matrix before each product of few rows would
 * take longer than the product.
 */
export class HeldMatrices {
  readonly #held = new Map<Tensor, HeldRows[]>();

  /**
   * @param plan where the textures are planned.
   * @param storage in bfloat16 only what is such numbers anyway: nothing is rounded.
   */
  constructor(readonly plan: MemoryPlan, readonly storage: HeldStorage) {}

  /** Where a matrix is held from the next run of `calls` on; nowhere if its rows are no whole texels, or too many. */
  of(matrix: Tensor): readonly HeldRows[] {
    const known = this.#held.get(matrix);
    if (known) return known;
    const rows = matrix.shape[0];
    const texels = rowLength(matrix) * bytesOf(this.storage) / 16;
    // Another kernel of the same pass makes what is no parameter.
    const isParameter = !(matrix instanceof SharedTensor);
    const fits = isParameter && (matrix.storage ?? "f32") === "f32" && Number.isInteger(texels) &&
      texels <= MOST_TEXELS;
    const held = Array.from({ length: fits ? Math.ceil(rows / MOST_TEXELS) : 0 }, (_, i): HeldRows => {
      const firstRow = i * MOST_TEXELS;
      const height = Math.min(MOST_TEXELS, rows - firstRow);
      const texture = this.plan.texture(
        `${matrix.name} held`,
        "weights",
        texels,
        height,
        TEXEL[this.storage].format,
      );
      return { firstRow, rows: height, texture };
    });
    this.#held.set(matrix, held);
    return held;
  }

  /** Copies every matrix, as it is, to where it is held. */
  get calls(): KernelCall[] {
    return [...this.#held].flatMap(([matrix, held]) => held.map((rows) => hold(matrix, rows, this.storage)));
  }
}

/** WGSL of a texel, and the texture's format. */
const TEXEL = {
  f32: { format: "rgba32float", source: "fn texel(i: u32) -> vec4f { return matrix[i]; }" },
  bf16: {
    format: "rgba32uint",
    source: `${PACK_BF16}
fn texel(i: u32) -> vec4u { return vec4u(pack_bf16(matrix[2u * i]), pack_bf16(matrix[2u * i + 1u])); }`,
  },
} as const;

function hold(
  matrix: Tensor,
  { firstRow, rows, texture }: HeldRows,
  storage: HeldStorage,
): KernelCall {
  const { format, source } = TEXEL[storage];
  return {
    label: "hold",
    source: withPrelude(`${source}\n${holdSource.replace("HeldFormat", format)}`, {
      ROWS: rows,
      TEXELS: texture.width,
      FIRST: firstRow,
    }),
    bindings: [matrix, texture],
    grid: () => line(Math.ceil(rows * texture.width / 64)),
  };
}
