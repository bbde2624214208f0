import type { Gpu } from "./device.ts";
import type { GemmLayout, GemmTile } from "../../kernels/gemm.ts";
import type { TextureTile } from "../../kernels/gemm_texture.ts";

/** Whether a device is a driver on the processor, where loads are everything, or a GPU. */
export type DeviceClass = "software" | "gpu";

export const deviceClass = ({ isSoftware }: Pick<Gpu, "isSoftware">): DeviceClass =>
  isSoftware ? "software" : "gpu";

/** Products by way of textures where the operands' rows allow it, and `otherwise` from buffers. */
export interface TextureProductTile extends TextureTile {
  memory: "texture";
  /** Multiply-adds of a product below which copying its operands costs more than the textures save. */
  worth: number;
  otherwise: GemmTile;
}

/** How products are computed. */
export type ProductTile = GemmTile | TextureProductTile;

/** The way of each layout. */
export type ProductTiles = Record<GemmLayout, ProductTile>;

const STORAGE: GemmTile = {
  memory: "storage",
  threadRows: 16,
  threadColumns: 16,
  groupRows: 2,
  groupColumns: 8,
};
const WORKGROUP: GemmTile = {
  memory: "workgroup",
  threadRows: 8,
  threadColumns: 8,
  groupRows: 16,
  groupColumns: 16,
};
const TEXTURE: TextureProductTile = {
  memory: "texture",
  threadRows: 16,
  threadColumns: 16,
  rows: 1024,
  columns: 2048,
  worth: 2 ** 24,
  otherwise: STORAGE,
};

/** What suits a class of devices, where nothing was measured. */
export function usualTiles(device: DeviceClass): ProductTiles {
  const tile = device === "software" ? TEXTURE : WORKGROUP;
  return { nt: tile, nn: tile, tn: tile };
}

/**
 * How a product of `columns` columns is computed from buffers. A wide tile reads each element fewer times, but leaves
 * threads idle where the product is narrow.
 */
export function bufferTile(tile: ProductTile, columns: number): GemmTile {
  const wide = tile.memory === "texture" ? tile.otherwise : tile;
  if (columns >= 128) return wide;
  return wide.memory === "storage"
    ? { ...wide, threadColumns: 8 }
    : { ...wide, groupRows: 8, groupColumns: 8 };
}
