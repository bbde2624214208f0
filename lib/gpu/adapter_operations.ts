/** The kernels of low-rank adapters, beside the products. See `operations.ts` for the rest. */
import blockSource from "../../kernels/adapter_block.wgsl" with { type: "text" };
import blockBackwardSource from "../../kernels/adapter_block_backward.wgsl" with { type: "text" };
import magnitudeBackwardSource from "../../kernels/dora_magnitude_backward.wgsl" with { type: "text" };
import doraNormSource from "../../kernels/dora_norm.wgsl" with { type: "text" };
import doraScaleSource from "../../kernels/dora_scale.wgsl" with { type: "text" };
import columnsSource from "../../kernels/columns.wgsl" with { type: "text" };
import dropoutSource from "../../kernels/dropout.wgsl" with { type: "text" };
import { elementWidth, withPrelude } from "../../kernels/prelude.ts";
import { HASH, matrixReader, readerElement } from "../../kernels/storage.ts";
import type { MatrixPiece } from "./linear.ts";
import { type Tensor, weightStorage } from "./memory.ts";
import { flat, rowLength } from "./operations.ts";
import { type Grid, type KernelCall, line, type RowSlot } from "./program.ts";

/**
 * The adapters of one product: of each module its first row in the product and how many there are, and the rank of
 * all.
 */
export interface AdapterBlocks {
  readonly modules: readonly { firstRow: number; rows: number }[];
  readonly rank: number;
}

/** WGSL of `place_of` a row of the product, and of `product_row` of a row of the second factors. */
function placesSource({ modules }: AdapterBlocks): string {
  let at = 0;
  const ranges = modules.map(({ firstRow, rows }, module) => {
    const range = { firstRow, rows, module, at };
    at += rows;
    return range;
  });
  const places = ranges.map(({ firstRow, rows, module, at }) =>
    `  if (n >= ${firstRow}u && n < ${
      firstRow + rows
    }u) { return Place(n - ${firstRow}u + ${at}u, ${module}u); }`
  );
  const rows = ranges.map(({ firstRow, module, at }) =>
    `  if (row >= ${at}u) { return Place(row - ${at}u + ${firstRow}u, ${module}u); }`
  );
  return `const NONE = 0xffffffffu;
struct Place { row: u32, block: u32 }
fn place_of(n: u32) -> Place {
${places.join("\n")}
  return Place(NONE, 0u);
}
fn product_row(row: u32) -> Place {
${rows.reverse().join("\n")}
  return Place(NONE, 0u);
}
`;
}

/** WGSL of what row n is multiplied by: the factor of DoRA where there is one. */
const factorSource = (binding: number, factors: Tensor | undefined) =>
  factors
    ? `@group(0) @binding(${binding}) var<storage, read> factors: array<vec2f>;
fn factor(n: u32) -> f32 { return factors[n].x; }\n`
    : "fn factor(n: u32) -> f32 { return 1.0; }\n";

/** wide[rows of the product, modules x rank] of b[rows of the modules, rank], block by block. */
export const adapterBlock = (
  blocks: AdapterBlocks,
  { b, wide, factors }: { b: Tensor; wide: Tensor; factors?: Tensor },
): KernelCall => ({
  label: "adapter_block",
  source: withPrelude(placesSource(blocks) + factorSource(2, factors) + blockSource, {
    ROWS: wide.shape[0],
    WIDTH: rowLength(wide),
    RANK: blocks.rank,
  }),
  bindings: [b, wide, ...(factors ? [factors] : [])],
  grid: () => line(Math.ceil(wide.shape[0] * rowLength(wide) / 64)),
});

/** Where there are rows at all. */
const ifAny = (rows: RowSlot, workgroups: number): Grid => (counts) =>
  counts[rows.slot] === 0 ? [0, 0] : line(workgroups);

/** dB (+)= the blocks of dWide. */
export const adapterBlockBackward = (
  rows: RowSlot,
  blocks: AdapterBlocks,
  { dWide, dB, factors }: { dWide: Tensor; dB: Tensor; factors?: Tensor },
): KernelCall => ({
  label: "adapter_block_backward",
  source: withPrelude(placesSource(blocks) + factorSource(3, factors) + blockBackwardSource, {
    ROWS: dB.shape[0],
    WIDTH: rowLength(dWide),
    RANK: blocks.rank,
  }),
  bindings: [rows.tensor, dWide, dB, ...(factors ? [factors] : [])],
  grid: ifAny(rows, Math.ceil(dB.shape[0] * blocks.rank / 64)),
});

/** Dropout of one place in the model. */
export interface Dropout {
  /** The share of elements that become 0. */
  probability: number;
  /** Which of the model's, so that no two draw alike. */
  place: number;
}

/** WGSL of what stays of an element E, by its width in floats. */
const KEPT = {
  4: `fn kept(i: u32, value: vec4f) -> vec4f {
  return select(vec4f(), value, vec4u(drawn(2u * i), drawn(2u * i + 1u)) >= vec4u(DROPPED));
}`,
  1: `fn kept(i: u32, value: f32) -> f32 {
  let pair = drawn(i >> 1u);
  return select(0.0, value, select(pair.x, pair.y, (i & 1u) == 1u) >= DROPPED);
}`,
};

/** y = dropout(x), or added to y where it `adds`; in place where y is x. */
export function dropout(
  rows: RowSlot,
  { probability, place }: Dropout,
  { x, y }: { x: Tensor; y: Tensor },
  adds = false,
): KernelCall {
  const isInPlace = x === y;
  const width = elementWidth(rowLength(x));
  const access = `@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read_write> y: array<E>;
${isInPlace ? "" : "@group(0) @binding(2) var<storage, read> x: array<E>;"}
fn source(i: u32) -> E { return ${isInPlace ? "y" : "x"}[i]; }
fn put(i: u32, value: E) { y[i] ${adds ? "+=" : "="} value; }
${KEPT[width]}
`;
  const columns = rowLength(x) / width;
  return {
    label: "dropout",
    source: withPrelude(
      HASH + access + dropoutSource,
      { COLUMNS: columns, PLACE: place, DROPPED: Math.floor(probability * 2 ** 32), P_F: probability },
      width,
    ),
    bindings: [rows.tensor, y, ...(isInPlace ? [] : [x])],
    grid: flat(rows, columns),
  };
}

/**
 * y = x in the columns of one of the `blocks`, those of module `block`; elsewhere 0, or what is there where it `keeps`.
 */
export const columns = (
  rows: RowSlot,
  { rank }: AdapterBlocks,
  block: number,
  { x, y }: { x: Tensor; y: Tensor },
  keeps = false,
): KernelCall => ({
  label: "columns",
  source: withPrelude(columnsSource, {
    COLUMNS: rowLength(y),
    FIRST: block * rank,
    END: (block + 1) * rank,
    KEEPS: keeps ? 1 : 0,
  }),
  bindings: [rows.tensor, x, y],
  grid: flat(rows, rowLength(y)),
});

/** factors[rows of the product, 2] of DoRA: magnitude / norm and 1 / norm of each row of W + scale B A. */
export const doraNorm = (
  blocks: AdapterBlocks,
  pieces: readonly MatrixPiece[],
  { a, b, magnitude, factors }: { a: Tensor; b: Tensor; magnitude: Tensor; factors: Tensor },
  scale: number,
): KernelCall[] =>
  pieces.map(({ firstRow, weights }) => {
    const columns = rowLength(weights);
    const width = elementWidth(columns);
    const storage = weightStorage(weights);
    const reader = width === 4
      ? `alias Packed = ${readerElement(storage)};
${matrixReader("weights", storage, "4u * ROWS * COLUMNS")}
fn weight(i: u32) -> vec4f { return weights4(4u * i); }\n`
      : "alias Packed = f32;\nfn weight(i: u32) -> f32 { return weights[i]; }\n";
    return {
      label: "dora_norm",
      source: withPrelude(placesSource(blocks) + reader + doraNormSource, {
        ROWS: weights.shape[0],
        FIRST: firstRow,
        COLUMNS: columns / width,
        RANK: blocks.rank,
        SCALE_F: scale,
      }, width),
      bindings: [weights, a, b, magnitude, factors],
      grid: () => line(weights.shape[0]),
    };
  });

/** y (+)= (factors - 1) x, column by column. */
export const doraScale = (
  rows: RowSlot,
  { factors, x, y }: { factors: Tensor; x: Tensor; y: Tensor },
  adds = false,
): KernelCall => ({
  label: "dora_scale",
  source: withPrelude(doraScaleSource, { COLUMNS: rowLength(y), ADDS: adds ? 1 : 0 }),
  bindings: [rows.tensor, factors, x, y],
  grid: flat(rows, rowLength(y)),
});

/** dMagnitude (+)= its gradient, of the product of the base alone and the gradient of the adapters' blocks. */
export const doraMagnitudeBackward = (
  rows: RowSlot,
  blocks: AdapterBlocks,
  t: { factors: Tensor; dY: Tensor; base: Tensor; b: Tensor; dWide: Tensor; dMagnitude: Tensor },
): KernelCall => ({
  label: "dora_magnitude_backward",
  source: withPrelude(placesSource(blocks) + magnitudeBackwardSource, {
    ROWS: t.b.shape[0],
    COLUMNS: rowLength(t.dY),
    WIDTH: rowLength(t.dWide),
    RANK: blocks.rank,
  }),
  bindings: [rows.tensor, t.factors, t.dY, t.base, t.b, t.dWide, t.dMagnitude],
  grid: ifAny(rows, Math.ceil(t.b.shape[0] / 64)),
});
