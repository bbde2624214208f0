import type { Gpu } from "./device.ts";
import type { GemmTile } from "../../kernels/gemm.ts";

/** Whether a device is a driver on the processor, where loads are everything, or a GPU. */
export type DeviceClass = "software" | "gpu";

export const deviceClass = ({ isSoftware }: Pick<Gpu, "isSoftware">): DeviceClass =>
  isSoftware ? "software" : "gpu";

/**
 * The tile of a product with `columns` columns. On a processor a wide register tile reads each element fewer times, but
 * leaves lanes idle where the product is narrow.
 */
export function gemmTile(device: DeviceClass, columns: number): GemmTile {
  if (device === "software") {
    const threadColumns = columns < 128 ? 8 : 16;
    return { memory: "storage", threadRows: 16, threadColumns, groupRows: 2, groupColumns: 8 };
  }
  const side = columns < 128 ? 8 : 16;
  return { memory: "workgroup", threadRows: 8, threadColumns: 8, groupRows: side, groupColumns: side };
}
