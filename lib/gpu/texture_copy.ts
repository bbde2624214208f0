/** Copies of blocks of tensors to textures, which some kernels read faster. */
import { ALIGNMENT, elements, type Slab, type Tensor, type TextureSlab, weightStorage } from "./memory.ts";

/** A block of a tensor that is copied to a texture before a kernel reads it there. */
export interface TextureCopy {
  source: Tensor;
  texture: TextureSlab;
  /** The texel where it begins, by default the texture's first. */
  at?: Texel;
  /** First row and column of the block, in rows of the tensor and floats, and its size; whole texels are copied. */
  firstRow: number;
  rows: number;
  firstColumn: number;
  columns: number;
  /** Where given, only the rows that this slot counts are copied. */
  slot?: number;
  /** The kernel that does it, where WebGPU cannot. */
  by?: CopyKernel;
}

/** A `KernelCall` that does no more than a copy. */
export interface CopyKernel {
  label: string;
  source: string;
  bindings: (Tensor | TextureSlab)[];
  grid: (counts: Uint32Array) => [x: number, y: number, z?: number];
}

/** A place in a texture. */
export type Texel = readonly [x: number, y: number];

/** Whether WebGPU copies rows of `tensor` as they are: float32 rows that begin on aligned bytes. */
export const isCopied = (tensor: Tensor): boolean =>
  weightStorage(tensor) === "f32" && elements(tensor.shape.slice(1)) * 4 % ALIGNMENT === 0;

/** The calls' copies, with one object for all that are the same: what a texture holds need not be copied again. */
export function distinctCopies(calls: readonly { copies?: TextureCopy[] }[]): TextureCopy[][] {
  const known = new Map<string, TextureCopy>();
  const ids = new Map<Slab | TextureSlab, number>();
  const idOf = (slab: Slab | TextureSlab) => ids.get(slab) ?? ids.set(slab, ids.size).get(slab);
  return calls.map(({ copies = [] }) =>
    copies.map((copy) => {
      const { source, texture, at, firstRow, rows, firstColumn, columns, slot, by } = copy;
      const block = [
        source.offset,
        elements(source.shape.slice(1)),
        firstRow,
        rows,
        firstColumn,
        columns,
        slot,
        by?.source,
        at,
      ];
      const key = [idOf(source.slab), idOf(texture), ...block].join(" ");
      return known.get(key) ?? known.set(key, copy).get(key)!;
    })
  );
}

/** Whether two copies go to the same texels. */
export const meets = (one: TextureCopy, other: TextureCopy): boolean => {
  if (one.texture !== other.texture) return false;
  const [a, b] = [one, other].map(({ at: [x, y] = [0, 0], columns, rows }) => (
    { x, y, right: x + Math.ceil(columns / 4), end: y + rows }
  ));
  return a.x < b.right && b.x < a.right && a.y < b.end && b.y < a.end;
};

/** Copies the rows of a block that there are, where no kernel does it. */
export function encodeCopy(encoder: GPUCommandEncoder, copy: TextureCopy, counts: Uint32Array): void {
  const { source, texture, at = [0, 0], firstRow, firstColumn, columns, slot } = copy;
  const rows = slot === undefined ? copy.rows : Math.min(copy.rows, counts[slot] - firstRow);
  const bytesPerRow = elements(source.shape.slice(1)) * 4;
  const offset = source.offset + firstRow * bytesPerRow + firstColumn * 4;
  encoder.copyBufferToTexture(
    { buffer: source.slab.buffer!, offset, bytesPerRow },
    { texture: texture.texture!, origin: [...at] },
    [Math.ceil(columns / 4), rows],
  );
}
