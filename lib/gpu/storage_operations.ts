/** The kernels that change how a tensor is stored. See `operations.ts` for the rest. */
import packSource from "../../kernels/pack.wgsl" with { type: "text" };
import unpackSource from "../../kernels/unpack.wgsl" with { type: "text" };
import { withPrelude } from "../../kernels/prelude.ts";
import { PACK_BF16, unpackFunction } from "../../kernels/storage.ts";
import { elements, type Tensor } from "./memory.ts";
import { type KernelCall, line, type RowSlot } from "./program.ts";

/**
 * packed = values rounded to the nearest bfloat16. Where the last row ends within four floats, what follows it is
 * packed too.
 */
export const packRows = (rows: RowSlot, values: Tensor, packed: Tensor): KernelCall =>
  conversion("pack", PACK_BF16 + packSource, rows, [values, packed]);

/** values = packed, exactly. */
export const unpackRows = (rows: RowSlot, packed: Tensor, values: Tensor): KernelCall =>
  conversion("unpack", `${unpackFunction("packed", packed.storage!)}\n${unpackSource}`, rows, [
    packed,
    values,
  ]);

function conversion(label: string, source: string, rows: RowSlot, bindings: [Tensor, Tensor]): KernelCall {
  const row = elements(bindings[0].shape.slice(1));
  return {
    label,
    source: withPrelude(source, { ROW: row }),
    bindings: [rows.tensor, ...bindings],
    grid: (counts) => line(Math.ceil(Math.ceil(counts[rows.slot] * row / 4) / 64)),
  };
}
