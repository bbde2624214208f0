/** Attention by way of workgroup memory, as it suits a GPU: see `kernels/attention_workgroup.ts`. */
import { range } from "../../kernels/emit.ts";
import type { AttentionShape, AttentionTiles, WorkgroupAttentionTile } from "../../kernels/attention.ts";
import { queryForwardSource } from "../../kernels/attention_queries.ts";
import {
  workgroupKeyGradientSource,
  workgroupQueryGradientSource,
} from "../../kernels/attention_workgroup_backward.ts";
import {
  keptBytes,
  keptKeyGradientSource,
  type KeptRun,
  keptRun,
} from "../../kernels/attention_workgroup_kept.ts";
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
import type { MemoryPlan } from "./memory_plan.ts";
import type { Grid, KernelCall, RowSlot } from "./program.ts";
import { Sources } from "./sources.ts";

export class WorkgroupAttention implements AttentionFamily {
  readonly #sources = new Sources();
  /** Where pairs of tiles are kept from the query gradient to the key gradient, of so many heads at a time. */
  readonly #kept?: KeptRun & { tensor: Tensor };

  /** Plans the scratch for batches of up to `tokens` tokens. */
  constructor(
    plan: MemoryPlan,
    readonly shape: AttentionShape,
    tokens: number,
    readonly tiles: Partial<AttentionTiles<WorkgroupAttentionTile>>,
  ) {
    const run = keptRun(shape, tokens, tiles.keyGradient?.keeps ?? 0);
    if (!run) return;
    const words = keptBytes(run, tokens) / 4;
    this.#kept = { ...run, tensor: plan.shared("kept pairs of attention", "scratch", [words]) };
  }

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
    return [
      deltaCall(rows, this.shape, t),
      ...this.#kept ? this.#inRuns(rows, t, this.#kept) : this.#apart(rows, t),
    ];
  }

  /** Each kernel makes the scores itself. */
  #apart(rows: RowSlot, t: AttentionGradients): KernelCall[] {
    const { shape } = this;
    const { mask } = t;
    const layout = layoutOf(t);
    return [
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

  /** By turns, run by run. */
  #inRuns(
    rows: RowSlot,
    t: AttentionGradients,
    { tensor, ...run }: KeptRun & { tensor: Tensor },
  ): KernelCall[] {
    const { shape } = this;
    const qkv = t.queries.tensor;
    const of = { mask: t.mask, part: run.heads / shape.heads };
    const layout = layoutOf(t);
    return range(shape.heads / run.heads).flatMap((number): KernelCall[] => [
      {
        label: "attention_query_gradient",
        ...of,
        source: this.#sources.of(
          ["query gradient", layout],
          () => workgroupQueryGradientSource(shape, layout, run),
        ),
        bindings: [
          ...[rows.tensor, rows.tensor, t.spans, qkv, tensor, t.queryTiles],
          ...[t.dOut, t.lse, t.delta, t.dQueries],
        ],
        grid: runGrid(rows, run.heads, number),
      },
      {
        label: "attention_kept_key_gradient",
        ...of,
        source: this.#sources.of(["key gradient", layout], () => keptKeyGradientSource(shape, layout, run)),
        bindings: [rows.tensor, tensor, qkv, t.dOut, t.queryTiles, t.keyTiles, t.dKeys],
        grid: runGrid(rows, run.heads * shape.keyValueHeads / shape.heads, number),
      },
    ]);
  }

  /** What every other kernel binds first: `HEADER` in `kernels/attention.ts`, and queries and keys. */
  #read(rows: RowSlot, t: AttentionTensors): Tensor[] {
    return [rows.tensor, (t.keyRows ?? rows).tensor, t.spans, t.queries.tensor, t.keys.tensor];
  }
}

/** Tiles of tokens x heads of a run x 1 + its number: see `RUN_OF_GRID`. */
const runGrid = (rows: RowSlot, heads: number, number: number): Grid => (counts) => [
  ...tileGrid(rows, heads)(counts).slice(0, 2) as [number, number],
  1 + number,
];
