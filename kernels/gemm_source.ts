/**
 * Emits the WGSL of a matrix product. The inner product is straight-line code with constant indices: shader runtime
 * checks cannot be turned off in Deno, and a loop over a private array would pay for them at every multiply-add.
 */
import { type GemmTile, type GemmVariant, SIZE_HEADER, takesPairs } from "./gemm.ts";
import { bindingAfter, epilogueSource, isPaired } from "./gemm_epilogue.ts";
import { matrixMain } from "./gemm_matrix.ts";
import { rowMain } from "./gemm_row.ts";
import { storageMain } from "./gemm_storage.ts";
import { subgroupMain } from "./gemm_subgroup.ts";
import { workgroupMain } from "./gemm_workgroup.ts";
import { matrixReader, readerElement } from "./storage.ts";

/**
 * The WGSL of one product, entry point `main`. Bindings of group 0: 0 the row count (M of `nt` and `nn`, K of
 * `tn`), 1 the size, 2 A, 3 B, 4 C, and from 5 on the bias and those of the epilogue; for a product of float16
 * matrices (`isScaled`) then what `largestSource` finds of A and of B.
 */
export function gemmSource(variant: GemmVariant, tile: GemmTile): string {
  const { epilogue, aligned, weights } = variant;
  if (tile.memory !== "matrix") {
    const { threadRows: tm, threadColumns: tn } = tile;
    if (tile.memory !== "row" && tm % 4 || tn % 4) {
      throw new RangeError(`a thread's tile must be a multiple of 4, not ${tm}x${tn}`);
    }
  }
  const isPart = epilogue.kind === "part";
  const isFused = epilogue.kind !== "none" && epilogue.kind !== "residual" && !isPart;
  if (
    isFused && !aligned || isPaired(epilogue) && (variant.layout !== "nt" || !takesPairs(tile)) ||
    isPart && tile.memory !== "workgroup" && tile.memory !== "matrix"
  ) {
    throw new RangeError(`no ${epilogue.kind} in ${JSON.stringify({ ...variant, ...tile })}`);
  }
  const element = aligned ? "vec4f" : "f32";
  return `${SIZE_HEADER}
@group(0) @binding(2) var<storage, read> a: array<${element}>;
@group(0) @binding(3) var<storage, read> b: array<${weights === "f32" ? element : readerElement(weights)}>;
@group(0) @binding(4) var<storage, read_write> c: array<${isPart ? "vec4f" : element}>;
${
    aligned
      ? `fn a4(i: u32) -> vec4f { return a[i >> 2u]; }
fn a1(i: u32) -> f32 { return a[i >> 2u][i & 3u]; }`
      : unalignedReader("a")
  }
${
    weights !== "f32"
      ? `${matrixReader("b", weights, `${variant.layout === "nt" ? "size.n" : "size.k"} * size.ldb`)}
fn b1(i: u32) -> f32 { return b4(i)[i & 3u]; }`
      : aligned
      ? `fn b4(i: u32) -> vec4f { return b[i >> 2u]; }
fn b1(i: u32) -> f32 { return b[i >> 2u][i & 3u]; }`
      : unalignedReader("b")
  }
${epilogueSource(epilogue, aligned)}
${mainFunction(variant, tile)}`;
}

/** Four from `i` on: behind the last row there may be none, and what is read in their place counts for nothing. */
const unalignedReader = (name: "a" | "b"): string =>
  `fn ${name}4(i: u32) -> vec4f {
  let last = arrayLength(&${name}) - 1u;
  return vec4f(${name}[i], ${name}[min(i + 1u, last)], ${name}[min(i + 2u, last)], ${name}[min(i + 3u, last)]);
}
fn ${name}1(i: u32) -> f32 { return ${name}[i]; }`;

function mainFunction(variant: GemmVariant, tile: GemmTile): string {
  if (tile.memory === "matrix") return matrixMain(variant, tile, bindingAfter(variant.epilogue));
  if (tile.memory === "row") return rowMain(variant, tile);
  if (tile.memory === "subgroup") return subgroupMain(variant, tile);
  return tile.memory === "workgroup" ? workgroupMain(variant, tile) : storageMain(variant, tile);
}
