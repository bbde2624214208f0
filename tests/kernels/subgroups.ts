/** The subgroups of this machine's device, asked before the tests are known: those that need them are not run without. */
import type { GemmTile, SubgroupTile } from "../../kernels/gemm.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { subgroupTile, type SubgroupTileName } from "../../lib/gpu/tuning.ts";

const gpu = await openGpu();
gpu.destroy();

/** A tile for this machine's subgroups, or, where there are none, for some. */
export const subgroupTileHere = (name: SubgroupTileName): SubgroupTile =>
  subgroupTile(name, gpu.subgroups?.minSize ?? 8, "software");

/** What `tile` needs and the device lacks. */
export const missingFor = ({ memory }: Pick<GemmTile, "memory">): string | undefined =>
  memory === "subgroup" && !gpu.subgroups ? "subgroups" : undefined;
