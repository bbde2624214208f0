import type { GemmTile } from "../../kernels/gemm.ts";

/**
 * The register tile for a product with `columns` columns and, where it is known beforehand, `rows` rows. A wide tile
 * reads each element of A and B fewer times; a narrow product would leave its lanes idle.
 */
export function gemmTile(_rows: number | undefined, columns: number): GemmTile {
  return { threadRows: 16, threadColumns: columns < 128 ? 8 : 16, groupRows: 2, groupColumns: 8 };
}
