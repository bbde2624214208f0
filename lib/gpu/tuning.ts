/** How matrix products are computed on a device: the ways that there are, and which one is taken where. */
import type { Gpu } from "./device.ts";
import type { HeldStorage } from "./texture_fill.ts";
import type { AttentionTiles, FloatTile } from "../../kernels/attention.ts";
import type {
  GemmLayout,
  GemmSize,
  GemmTile,
  MatrixPrecision,
  SubgroupTile,
  WorkgroupTile,
} from "../../kernels/gemm.ts";
import { gemmGroupTile, isScaled } from "../../kernels/gemm.ts";
import { matrixTile } from "../../kernels/gemm_matrix.ts";
import type { TextureTile } from "../../kernels/gemm_texture.ts";

/** Whether a device is a driver on the processor, where loads are everything, or a GPU. */
export type DeviceClass = "software" | "gpu";

export const deviceClass = ({ isSoftware }: Pick<Gpu, "isSoftware">): DeviceClass =>
  isSoftware ? "software" : "gpu";

/** Products by way of textures where the operands' rows allow it, and from buffers elsewhere. */
export interface TextureProductTile extends TextureTile {
  memory: "texture";
  /** Multiply-adds of a product below which copying its operands costs more than the textures save. */
  worth: number;
}

/** How products are computed. */
export type ProductTile = GemmTile | TextureProductTile;

/**
 * Products that are computed alike: by their layout, and whether C is so narrow that a wide tile would leave
 * threads idle, or so few elements that large tiles would leave parts of a large GPU idle.
 */
export type ShapeClass = `${GemmLayout} ${"wide" | "small" | "narrow"}`;

export const LAYOUTS: readonly GemmLayout[] = ["nt", "nn", "tn"];
export const SHAPE_CLASSES: readonly ShapeClass[] = LAYOUTS.flatMap((layout): ShapeClass[] => [
  `${layout} wide`,
  `${layout} small`,
  `${layout} narrow`,
]);

/** Elements of C from which on tiles of 128 x 128 keep 256 workgroups busy: a large GPU runs as many at a time. */
const WIDE = 2 ** 22;

/**
 * The shape class of a product with C of `rows` x `columns`, at most. What has few rows of `tn` is narrow too: a
 * weight gradient, of an adapter's first factors, and not a small batch.
 */
export function shapeClass(layout: GemmLayout, rows: number, columns: number): ShapeClass {
  const isNarrow = columns < 128 || layout === "tn" && rows < 128;
  return `${layout} ${isNarrow ? "narrow" : rows * columns < WIDE ? "small" : "wide"}`;
}

/** The way of each shape class, by textures where it may be, and from buffers. */
export interface ProductTiles {
  /** Of products of few rows whose matrix is held in a texture: the tile, and the largest of the other operand's. */
  held?: TextureTile & { storage: HeldStorage };
  texture?: TextureProductTile;
  /** Shape classes that take the textures where they can. */
  textured: readonly ShapeClass[];
  buffer: Record<ShapeClass, GemmTile>;
  /**
   * Whether activations, their gradients and the rotation are part of a product from buffers where they can be,
   * instead of kernels of their own; measured by a gated unit in a large product.
   */
  fuses: boolean;
  /** Where a product of few tiles is split along its inner dimension. */
  split?: Split;
  /** Beside them: bytes in which attention's backward pass keeps what its two kernels share, where it does. */
  keeps?: number;
}

/** Into parts, as long as those of all tiles have no more `sums`, and each has so much of the inner dimension. */
export interface Split {
  sums: number;
  depth: number;
}

/**
 * As many sums as keep a large GPU busy, 16.8 MB. A part's sum is written and read again, 8 bytes, in which time such a GPU does
 * some 120 multiply-adds (an H200: 22e12 a second, and 1.5e12 bytes copied): of 512, less than a quarter, where half or
 * more of the GPU would be idle. The head's input gradient of SmolLM2 with 1,200 labels, 171 tiles of 64 x 64, has 5.
 */
const SPLIT: Split = { sums: WIDE, depth: 512 };

/**
 * Parts of a product's inner dimension. Those of `nt` stay whole: which sums a row of the forward pass has does not
 * depend on how many rows there may be.
 */
export function partsOf(
  layout: GemmLayout,
  { m, n, k }: Pick<GemmSize, "m" | "n" | "k">,
  tile: GemmTile,
  { sums, depth }: Split,
): number {
  if (layout === "nt" || tile.memory !== "workgroup" && tile.memory !== "matrix") return 1;
  const { rows, columns } = gemmGroupTile(tile);
  const inTiles = Math.ceil(m / rows) * rows * Math.ceil(n / columns) * columns;
  return Math.max(1, Math.min(Math.floor(sums / inTiles), Math.floor(k / depth)));
}

const storage = (threadRows: number, threadColumns: number): GemmTile => ({
  memory: "storage",
  threadRows,
  threadColumns,
  groupRows: 2,
  groupColumns: 8,
});
const workgroup = (threadRows: number, threadColumns: number, side: number): WorkgroupTile => ({
  memory: "workgroup",
  depth: 8,
  threadRows,
  threadColumns,
  groupRows: side,
  groupColumns: side,
});

/**
 * Texture and storage tiles suit processors, where a load costs as much as 70 multiply-adds; workgroup tiles suit
 * GPUs.
 */
export const BUFFER_TILES = {
  "storage 16x16": storage(16, 16),
  "storage 16x8": storage(16, 8),
  "storage 8x8": storage(8, 8),
  "workgroup 8x8 of 16x16": workgroup(8, 8, 16),
  "workgroup 8x8 of 8x8": workgroup(8, 8, 8),
  "workgroup 4x4 of 16x16": workgroup(4, 4, 16),
  "workgroup 4x4 of 8x8": workgroup(4, 4, 8),
} satisfies Record<string, GemmTile>;

/** Rows and columns that a thread computes where the device has subgroups: the rest of the tile is cut to them. */
export const SUBGROUP_TILES = {
  "subgroup 32x8": [32, 8],
  "subgroup 32x4": [32, 4],
  "subgroup 16x16": [16, 16],
  "subgroup 16x8": [16, 8],
  "subgroup 8x8": [8, 8],
} satisfies Record<string, [number, number]>;
export type SubgroupTileName = keyof typeof SUBGROUP_TILES;
/** Products of float16 matrices, of the precision that is asked for; and of float32 ones, in every precision. */
export const MATRIX = "matrix";
export const FLOAT32_MATRIX = "float32 matrix";
export type BufferTileName =
  | keyof typeof BUFFER_TILES
  | SubgroupTileName
  | typeof MATRIX
  | typeof FLOAT32_MATRIX;

const isSubgroupTile = (name: BufferTileName): name is SubgroupTileName => name in SUBGROUP_TILES;

/** What tiles depend on of a device. */
export type TileDevice = Pick<Gpu, "isSoftware" | "subgroups" | "matrices" | "float32Matrices">;

/**
 * A tile for subgroups of `lanes` or more. On a processor a workgroup has no more: narrow products would leave others
 * idle. A GPU may say that a subgroup has 4 at least, and run 32.
 */
export const subgroupTile = (name: SubgroupTileName, lanes: number, device: DeviceClass): SubgroupTile => ({
  memory: "subgroup",
  threadRows: SUBGROUP_TILES[name][0],
  threadColumns: SUBGROUP_TILES[name][1],
  groupRows: 1,
  groupColumns: device === "software" ? lanes : Math.max(lanes, 32),
  lanes,
});

/** The tile of that name, and, of float16 matrices, that precision. */
export function bufferTile(
  name: BufferTileName,
  device: TileDevice,
  precision: MatrixPrecision = "high",
): GemmTile {
  if (name === MATRIX || name === FLOAT32_MATRIX) {
    const tile = name === MATRIX
      ? device.matrices && matrixTile(device.matrices, precision)
      : device.float32Matrices && matrixTile(device.float32Matrices, "highest");
    if (!tile) throw new RangeError(`the tile ${name} is for devices that have subgroup matrices`);
    return tile;
  }
  if (!isSubgroupTile(name)) {
    const tile: GemmTile = BUFFER_TILES[name];
    // Deeper is faster on a GPU; a driver on the processor takes 20 s and more to compile it.
    return tile.memory === "workgroup" && !device.isSoftware ? { ...tile, depth: 32 } : tile;
  }
  if (!device.subgroups) throw new RangeError(`the tile ${name} is for devices that have subgroups`);
  return subgroupTile(name, device.subgroups.minSize, deviceClass(device));
}

export const TEXTURE_TILE: TextureProductTile = {
  memory: "texture",
  threadRows: 24,
  threadColumns: 8,
  rows: 1024,
  columns: 2048,
  // At 32 x 32 x 32 both ways take as long, at 64 x 64 x 64 textures a third (REJECTED.md).
  worth: 2 ** 16,
};

/** A choice as it is written down: as `ProductTiles`, with the names of tiles. */
export interface TuningRecord {
  buffer: Record<ShapeClass, BufferTileName>;
  textured: ShapeClass[];
  fuses: boolean;
  /** Whether products of few tiles are split along their inner dimension; on a GPU alone. */
  splits?: boolean;
  /** Whether attention's backward pass keeps what its two kernels share; on a GPU alone, where it was measured. */
  keeps?: boolean;
  /** Where products may be of float16 matrices: what was asked for. */
  precision?: MatrixPrecision;
}

/** The same choice in the one form that it has, so that what computes alike is written alike. */
export function inOneForm({ textured, splits, keeps, ...rest }: TuningRecord): TuningRecord {
  return {
    ...rest,
    textured: SHAPE_CLASSES.filter((shape) => textured.includes(shape)),
    ...(splits && { splits }),
    ...(keeps && { keeps }),
  };
}

/** What suits a class of devices, where nothing was measured: float16 matrices where a precision is asked for. */
export function usualTuning(device: DeviceClass, precision?: MatrixPrecision): TuningRecord {
  const names = {
    software: { wide: "storage 16x16", small: "storage 16x16", narrow: "storage 16x8" },
    // The fastest on an NVIDIA H200.
    gpu: { wide: "workgroup 8x8 of 16x16", small: "workgroup 4x4 of 16x16", narrow: "workgroup 4x4 of 8x8" },
  } as const;
  const { wide, small, narrow } = precision
    ? { wide: MATRIX, small: MATRIX, narrow: MATRIX } as const
    : names[device];
  return {
    ...(precision && { precision }),
    buffer: {
      "nt wide": wide,
      "nn wide": wide,
      "tn wide": wide,
      "nt small": small,
      "nn small": small,
      "tn small": small,
      "nt narrow": narrow,
      "nn narrow": narrow,
      "tn narrow": narrow,
    },
    textured: device === "software" && !precision ? [...SHAPE_CLASSES] : [],
    // On a processor a fused kernel is no faster, and takes seconds more to compile (REJECTED.md).
    fuses: device === "gpu",
    // A processor is as busy with few tiles.
    ...(device === "gpu" && { splits: true }),
  };
}

/** Whether `device` can compute products as `record` says. */
export const suits = (
  { buffer }: TuningRecord,
  { subgroups, matrices, float32Matrices }: Omit<TileDevice, "isSoftware">,
): boolean =>
  SHAPE_CLASSES.map((shape) => buffer[shape]).every((name) =>
    name === MATRIX
      ? matrices !== undefined
      : name === FLOAT32_MATRIX
      ? float32Matrices !== undefined
      : subgroups !== undefined || !isSubgroupTile(name)
  );

/** The tiles that a record names, on a device that it suits. */
export function tilesOf(
  { buffer, textured, fuses, splits, keeps, precision }: TuningRecord,
  device: TileDevice,
): ProductTiles {
  const tiles = Object.fromEntries(
    SHAPE_CLASSES.map((shape) => [shape, bufferTile(buffer[shape], device, precision)]),
  );
  return {
    texture: textured.length > 0 ? TEXTURE_TILE : undefined,
    textured,
    buffer: tiles as Record<ShapeClass, GemmTile>,
    fuses,
    ...(splits && { split: SPLIT }),
    ...(keeps && { keeps: KEPT_BYTES }),
  };
}

/**
 * What suits a class of devices, where nothing was measured and nothing is known of one: tiles that every driver
 * compiles soon.
 */
export const usualTiles = (device: DeviceClass): ProductTiles =>
  tilesOf(usualTuning(device), { isSoftware: true });

/** Rows of C that a thread of a step computes at most; beside reading B, they take no time. */
const STEP_ROWS = 4;

/**
 * Products of so many rows, where reading the matrix is all that takes time. A driver on the processor reads textures
 * that hold it; on a GPU, `lanes` threads read a row of the matrix side by side, since it would be idle with few
 * threads to a row.
 */
export function rowTiles(
  device: DeviceClass,
  rows: number,
  { fuses = false, storage = "f32" }: { fuses?: boolean; storage?: HeldStorage } = {},
): ProductTiles {
  const cut = { threadRows: Math.min(rows, STEP_ROWS), threadColumns: 8 };
  if (device === "gpu") {
    return onlyTile({ memory: "row", ...cut, groupRows: 1, groupColumns: 1, lanes: 64 }, { fuses });
  }
  return { ...onlyTile(BUFFER_TILES["storage 8x8"]), held: { ...cut, rows, columns: 2 ** 14, storage } };
}

/** One tile for every product: for tests, and for measuring. */
export function onlyTile(
  tile: ProductTile,
  { otherwise = BUFFER_TILES["storage 8x8"], fuses = false, split }:
    & { otherwise?: GemmTile }
    & Partial<Pick<ProductTiles, "fuses" | "split">> = {},
): ProductTiles {
  const buffer = tile.memory === "texture" ? otherwise : tile;
  const tiles = Object.fromEntries(SHAPE_CLASSES.map((shape) => [shape, buffer]));
  return {
    texture: tile.memory === "texture" ? tile : undefined,
    textured: tile.memory === "texture" ? SHAPE_CLASSES : [],
    buffer: tiles as Record<ShapeClass, GemmTile>,
    fuses,
    split,
  };
}

/** What rates beside those of shape classes are of. */
export const ATTENTION = "attention";
const WAYS = ["texture", "fused", "separate", "split", "whole", "kept", "again"];

/** Whether a rate, as read from a file, is of a way and a shape class that exist. */
export const isRate = ({ shape, way, rate }: { shape: string; way: string; rate: number }): boolean =>
  [...SHAPE_CLASSES, ATTENTION].includes(shape) && rate > 0 && [...TILE_NAMES, MATRIX, ...WAYS].includes(way);

/** Of all but float16 matrices. */
const TILE_NAMES = [...Object.keys({ ...BUFFER_TILES, ...SUBGROUP_TILES }), FLOAT32_MATRIX];

/** Whether `value`, as read from a file, is a record of tiles that exist, on this device (see `suits`) or another. */
export function isTuningRecord(value: unknown): value is TuningRecord {
  const { buffer, textured, fuses, splits, keeps, precision } = (value ?? {}) as {
    buffer?: Record<string, unknown>;
    textured?: unknown;
    fuses?: unknown;
    splits?: unknown;
    keeps?: unknown;
    precision?: unknown;
  };
  const [shapes, names]: readonly string[][] = [
    [...SHAPE_CLASSES],
    [...TILE_NAMES, ...precision === undefined ? [] : [MATRIX]],
  ];
  // Only words are compared: as a key, a list within lists would be turned into text, level by level.
  const isOneOf = (words: string[], word: unknown) => typeof word === "string" && words.includes(word);
  return typeof buffer === "object" && buffer !== null && Array.isArray(textured) &&
    typeof fuses === "boolean" &&
    [splits, keeps].every((flag) => ["undefined", "boolean"].includes(typeof flag)) &&
    [undefined, "high", "medium"].includes(precision as string) &&
    textured.every((shape) => isOneOf(shapes, shape)) &&
    shapes.every((shape) => isOneOf(names, buffer[shape]));
}

/**
 * As much as every device binds. Of 2,048 tokens there is room for 7 heads, so for the four that share keys in many a
 * model; where there is none for all that share keys, nothing is kept.
 */
export const KEPT_BYTES = 2 ** 27;

/**
 * How attention is computed: on a driver on the processor what was fastest on lavapipe 22.3 at a head_dim of 32, 64,
 * 96 and 128 (REJECTED.md), such as 8 queries or 6 keys a thread at 64, and 4 of both at 128; on a GPU with `keeps`
 * bytes for what its gradients share, if any.
 */
export function attentionTiles(device: DeviceClass, keeps?: number): AttentionTiles<FloatTile> {
  if (device === "gpu") {
    const tile = { memory: "workgroup" } as const;
    const gradient = keeps ? { ...tile, keeps } : tile;
    return { forward: tile, queryGradient: gradient, keyGradient: gradient };
  }
  const queries = { memory: "texture", rows: 8, floats: 512, block: 2 } as const;
  return { forward: queries, queryGradient: queries, keyGradient: { ...queries, rows: 6 } };
}

/**
 * The same beside products of `tiles`: where large ones are of float16 matrices, by such, in their precision. Of float32
 * matrices there is no attention.
 */
export function attentionTilesBeside({ buffer, keeps }: ProductTiles, device: TileDevice): AttentionTiles {
  const usual = attentionTiles(deviceClass(device), keeps);
  const tile = buffer["nt wide"];
  if (!isScaled(tile) || !device.matrices) return usual;
  const matrices = { memory: "matrix", precision: tile.precision, ...device.matrices } as const;
  const beside = (otherwise: FloatTile) => ({ ...matrices, otherwise });
  return {
    forward: beside(usual.forward),
    queryGradient: beside(usual.queryGradient),
    keyGradient: beside(usual.keyGradient),
  };
}
