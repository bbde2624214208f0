/**
 * A matrix product whose threads read A and B as textures, each into a large register tile. A driver on the processor
 * reads a texel of four floats for all lanes at once, where a read from a storage buffer is a loop over lanes with a
 * check of bounds each: 70 to 73 GFLOP/s instead of 26 to 30 on lavapipe 22.3.
 *
 * An operand's rows are the texture's, four floats a texel. The textures hold a block of each operand, and C is bound
 * from the block's first element on. Behind the operands of a layer's product there may be those of its adapters: the
 * inner dimension then goes on with theirs.
 */
import { lane, range } from "./emit.ts";
import { extents, type GemmLayout, SIZE_HEADER } from "./gemm.ts";
import { type StorageType, unpackFunction } from "./storage.ts";
import { type Epilogue, epilogueSource, stores } from "./gemm_epilogue.ts";

/** How a product by way of textures is cut. */
export interface TextureTile {
  /** Rows and columns that a thread computes. */
  threadRows: number;
  threadColumns: number;
  /** Rows, and floats of a row, that the texture of an operand holds. */
  rows: number;
  columns: number;
}

/**
 * Texels of a texture's row: 4 more than are used, since rows that are a power of two apart share their places in the
 * processor's cache (39 instead of 61 GFLOP/s at 1024).
 */
export const textureWidth = ({ columns }: TextureTile): number => columns / 4 + 4;

/** Its rows: all that a thread reads of, though it stores fewer. */
export const textureRows = ({ rows, threadRows }: TextureTile): number =>
  Math.ceil(rows / threadRows) * threadRows;

/** Threads of a workgroup, which share nothing: a line over the tiles of C, row by row. */
export const TEXTURE_WORKGROUP = 16;

/**
 * The WGSL of a product of texture blocks, entry point `main`; B of `nt` may be stored in elements of 2 bytes.
 * Bindings: 0 row count, 1 size, 2 A, 3 B, 4 C, and from 5 on the bias and the residual. Grid: a line of ceil(tiles
 * of C / TEXTURE_WORKGROUP) workgroups.
 */
export function textureSource(
  layout: GemmLayout,
  epilogue: Epilogue,
  tile: Pick<TextureTile, "threadRows" | "threadColumns">,
  weights: StorageType = "f32",
): string {
  const { threadRows: tm, threadColumns: tn } = tile;
  if (weights !== "f32" && layout !== "nt") throw new RangeError(`no ${weights} in ${layout}`);
  const body = weights !== "f32"
    ? bodyPacked(tm, tn)
    : layout === "nt"
    ? bodyNT(tm, tn)
    : layout === "nn"
    ? bodyNN(tm, tn)
    : bodyTN(tm, tn);
  return `${SIZE_HEADER}
@group(0) @binding(2) var a: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var b: texture_storage_2d<${weights === "f32" ? "rgba32float" : "rgba32uint"}, read>;
@group(0) @binding(4) var<storage, read_write> c: array<vec4f>;
// x counts texels.
fn a4(x: u32, row: u32) -> vec4f { return textureLoad(a, vec2u(x, row)); }
${
    weights === "f32"
      ? "fn b4(x: u32, row: u32) -> vec4f { return textureLoad(b, vec2u(x, row)); }"
      : unpackFunction("b", weights)
  }
${epilogueSource(epilogue, true)}

@compute @workgroup_size(${TEXTURE_WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let M = ${extents(layout).M};
  let K = ${extents(layout).K};
  let across = (size.n + ${tn - 1}u) / ${tn}u;
  let m = id.x / across * ${tm}u;
  let n = id.x % across * ${tn}u;
  if (m >= M) { return; }
${range(tm).flatMap((i) => range(tn / 4).map((j) => `  var c${i}_${j} = vec4f();`)).join("\n")}
${body}
${stores(epilogue, tm, tn / 4, (i, j) => ({ m: `m + ${i}u`, n: `n + ${4 * j}u` }))}
}
`;
}

// Rows and columns past the block's edge are read, as whatever the texture holds there, and never stored.

/** Texels of all rows, and then four columns of B after four: so few values of B stay in registers. */
function bodyNT(tm: number, tn: number): string {
  return `  for (var k = 0u; k < K / 4u; k += 1u) {
${range(tm).map((i) => `    let x${i} = a4(k, m + ${i}u);`).join("\n")}
${
    range(tn / 4).map((j) =>
      [
        ...range(4).map((l) => `    let y${4 * j + l} = b4(k, n + ${4 * j + l}u);`),
        ...range(tm).map((i) =>
          `    c${i}_${j} += vec4f(${range(4).map((l) => `dot(x${i}, y${4 * j + l})`).join(", ")});`
        ),
      ].join("\n")
    ).join("\n")
  }
  }`;
}

/** As `bodyNT`, of elements of 2 bytes, 8 to a texel of B. */
const bodyPacked = (tm: number, tn: number): string =>
  `  for (var k = 0u; k < K / 8u; k += 1u) {
${
    range(tn).map((j) =>
      `    let p${j} = textureLoad(b, vec2u(k, n + ${j}u));
    let y${j} = unpack_b(p${j}.xy); let z${j} = unpack_b(p${j}.zw);`
    ).join("\n")
  }
${
    range(tm).map((i) =>
      `    let u${i} = a4(2u * k, m + ${i}u); let v${i} = a4(2u * k + 1u, m + ${i}u);\n` +
      range(tn / 4).map((j) => {
        const sums = range(4).map((l) => `dot(u${i}, y${4 * j + l}) + dot(v${i}, z${4 * j + l})`);
        return `    c${i}_${j} += vec4f(${sums.join(", ")});`;
      }).join("\n")
    ).join("\n")
  }
  }`;

function bodyNN(tm: number, tn: number): string {
  return `  for (var k = 0u; k < K / 4u; k += 1u) {
${range(tm).map((i) => `    let x${i} = a4(k, m + ${i}u);`).join("\n")}
${
    range(tn / 4).map((j) =>
      [
        ...range(4).map((l) => `    let y${l}_${j} = b4(n / 4u + ${j}u, 4u * k + ${l}u);`),
        ...range(tm).map((i) =>
          `    c${i}_${j} += ${range(4).map((l) => `x${i}.${lane(l)} * y${l}_${j}`).join(" + ")};`
        ),
      ].join("\n")
    ).join("\n")
  }
  }
  for (var k = K & 0xfffffffcu; k < K; k += 1u) {
${range(tn / 4).map((j) => `    let y${j} = b4(n / 4u + ${j}u, k);`).join("\n")}
${
    range(tm).map((i) =>
      `    let x${i} = a4(k / 4u, m + ${i}u)[k & 3u];\n` +
      range(tn / 4).map((j) => `    c${i}_${j} += x${i} * y${j};`).join("\n")
    ).join("\n")
  }
  }`;
}

/** Four rows at a time, so that each sum is stored a quarter as often. */
function bodyTN(tm: number, tn: number): string {
  const step = (depth: number) =>
    [
      ...range(depth).flatMap((l) =>
        range(tn / 4).map((j) => `    let y${l}_${j} = b4(n / 4u + ${j}u, k + ${l}u);`)
      ),
      ...range(tm / 4).flatMap((i) => [
        ...range(depth).map((l) => `    let x${l}_${i} = a4(m / 4u + ${i}u, k + ${l}u);`),
        ...range(4).flatMap((r) =>
          range(tn / 4).map((j) =>
            `    c${4 * i + r}_${j} += ${
              range(depth).map((l) => `x${l}_${i}.${lane(r)} * y${l}_${j}`).join(" + ")
            };`
          )
        ),
      ]),
    ].join("\n");
  return `  for (var k = 0u; k < (K & 0xfffffffcu); k += 4u) {
${step(4)}
  }
  for (var k = K & 0xfffffffcu; k < K; k += 1u) {
${step(1)}
  }`;
}
