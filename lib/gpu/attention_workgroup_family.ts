/** Attention by way of workgroup memory, as it suits a GPU: see `kernels/attention_workgroup.ts`. */
import type { AttentionShape, AttentionTiles, WorkgroupAttentionTile } from "../../kernels/attention.ts";
import { queryForwardSource } from "../../kernels/attention_queries.ts";
import {
  workgroupKeyGradientSource,
  workgroupQueryGradientSource,
} from "../../kernels/attention_workgroup_backward.ts";
import { workgroupForwardSource } from "../../kernels/attention_workgroup_forward.ts";
import {
  type AttentionFamily,
  type AttentionGradients,
  type AttentionTensors,
  deltaCall,
  layoutOf,
  tileGrid,
} from "./attention_family.ts";
import type { Tensor } from "./memory.ts";
import type { KernelCall, RowSlot } from "./program.ts";
import { Sources } from "./sources.ts";

export class WorkgroupAttention implements AttentionFamily {
  readonly #sources = new Sources();

  constructor(
    readonly shape: AttentionShape,
    readonly tiles: Partial<AttentionTiles<WorkgroupAttentionTile>>,
  ) {}

  forward(rows: RowSlot, t: AttentionTensors): KernelCall[] {
    const { shape } = this;
    const layout = layoutOf(t);
    const call = { label: "attention", mask: t.mask };
    if (this.tiles.forward?.queries) {
      return [{
        ...call,
        source: this.#sources.of(["queries", layout], () => queryForwardSource(shape, layout)),
        bindings: [...this.#read(rows, t), t.out, t.lse],
        grid: (counts) => [counts[rows.slot], counts[rows.slot] && shape.heads],
      }];
    }
    return [{
      ...call,
      source: this.#sources.of(["forward", layout], () => workgroupForwardSource(shape, layout)),
      bindings: [...this.#read(rows, t), t.queryTiles, t.out, t.lse],
      grid: tileGrid(rows, shape.heads),
    }];
  }

  backward(rows: RowSlot, t: AttentionGradients): KernelCall[] {
    const { shape } = this;
    const { mask } = t;
    const layout = layoutOf(t);
    return [
      deltaCall(rows, shape, t),
      {
        label: "attention_query_gradient",
        mask,
        source: this.#sources.of(
          ["query gradient", layout],
          () => workgroupQueryGradientSource(shape, layout),
        ),
        bindings: [...this.#read(rows, t), t.queryTiles, t.dOut, t.lse, t.delta, t.dQueries],
        grid: tileGrid(rows, shape.heads),
      },
      {
        label: "attention_key_gradient",
        mask,
        source: this.#sources.of(["key gradient", layout], () => workgroupKeyGradientSource(shape, layout)),
        bindings: [...this.#read(rows, t), t.keyTiles, t.dOut, t.lse, t.delta, t.dKeys],
        grid: tileGrid(t.keyRows ?? rows, shape.keyValueHeads),
      },
    ];
  }

  /** What every kernel binds first: `HEADER` in `kernels/attention.ts`, and queries and keys. */
  #read(rows: RowSlot, t: AttentionTensors): Tensor[] {
    return [rows.tensor, (t.keyRows ?? rows).tensor, t.spans, t.queries.tensor, t.keys.tensor];
  }
}
