/** Attention by subgroup matrices of float16: see `kernels/attention_matrix.ts`. */
import headSumsSource from "../../kernels/attention_head_sums.wgsl" with { type: "text" };
import scalesSource from "../../kernels/attention_scales.wgsl" with { type: "text" };
import type { AttentionShape, AttentionTiles, MatrixAttentionTile } from "../../kernels/attention.ts";
import { matrixCut } from "../../kernels/attention_matrix.ts";
import {
  matrixKeyGradientSource,
  matrixQueryGradientSource,
} from "../../kernels/attention_matrix_backward.ts";
import { matrixForwardSource } from "../../kernels/attention_matrix_forward.ts";
import { SCALES } from "../../kernels/gemm_largest.ts";
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
import { flat, rowKernel, rowLength } from "./operations.ts";
import type { KernelCall, RowSlot } from "./program.ts";
import { Sources } from "./sources.ts";

export class MatrixAttention implements AttentionFamily {
  readonly #sources = new Sources();
  /** Of the heads of qkv, and of those of dOut. */
  readonly #scales: Tensor; // [tokens, 2 (heads + kvHeads)]
  /** Each query head's part of the gradients of the keys and values that it shares with others. */
  readonly #keyGradients?: Tensor; // [tokens, 2 heads D]

  /** Plans the scratch for batches of up to `tokens` tokens. */
  constructor(
    plan: MemoryPlan,
    readonly shape: AttentionShape,
    tokens: number,
    readonly tiles: Partial<AttentionTiles<MatrixAttentionTile>>,
  ) {
    const { heads, keyValueHeads, headDim } = shape;
    this.#scales = plan.tensor("scales of attention", "scratch", [tokens, 2 * (heads + keyValueHeads)]);
    if (tiles.keyGradient && heads > keyValueHeads) {
      const parts = [tokens, 2 * heads * headDim];
      this.#keyGradients = plan.tensor("gradients of heads' keys", "scratch", parts);
    }
  }

  forward(rows: RowSlot, t: AttentionTensors): KernelCall[] {
    const cut = matrixCut(this.shape, 1, this.tiles.forward!)!;
    const layout = layoutOf(t);
    return [this.#scalesOf(rows, t.queries.tensor, 0), {
      label: "attention",
      mask: t.mask,
      source: this.#sources.of(
        ["forward", layout],
        () => matrixForwardSource(this.shape, layout, cut, rowLength(this.#scales)),
      ),
      bindings: [...this.#read(rows, t), t.queryTiles, this.#scales, t.out, t.lse],
      grid: tileGrid(rows, this.shape.heads),
    }];
  }

  backward(rows: RowSlot, t: AttentionGradients): KernelCall[] {
    const qkv = t.queries.tensor;
    return [
      // Since the forward pass other layers had theirs there.
      this.#scalesOf(rows, qkv, 0),
      this.#scalesOf(rows, t.dOut, rowLength(qkv) / this.shape.headDim),
      deltaCall(rows, this.shape, t),
      this.#queryGradient(rows, t),
      ...this.#keyGradient(rows, t),
    ];
  }

  #queryGradient(rows: RowSlot, t: AttentionGradients): KernelCall {
    const cut = matrixCut(this.shape, 2, this.tiles.queryGradient!)!;
    const layout = layoutOf(t);
    return {
      label: "attention_query_gradient",
      mask: t.mask,
      source: this.#sources.of(
        ["query gradient", layout],
        () => matrixQueryGradientSource(this.shape, layout, cut, rowLength(this.#scales)),
      ),
      bindings: [...this.#read(rows, t), t.queryTiles, ...this.#gradients(t), t.dQueries],
      grid: tileGrid(rows, this.shape.heads),
    };
  }

  /** dKeys, and that of the values. */
  #keyGradient(rows: RowSlot, t: AttentionGradients): KernelCall[] {
    const cut = matrixCut(this.shape, 2, this.tiles.keyGradient!)!;
    const layout = layoutOf(t);
    const parts = this.#keyGradients;
    const call = {
      label: "attention_key_gradient",
      mask: t.mask,
      source: this.#sources.of(
        ["key gradient", layout],
        () => matrixKeyGradientSource(this.shape, layout, cut, rowLength(this.#scales)),
      ),
      bindings: [...this.#read(rows, t), t.keyTiles, ...this.#gradients(t), parts ?? t.dKeys],
      grid: tileGrid(rows, this.shape.heads),
    };
    return parts ? [call, this.#headSums(rows, parts, t)] : [call];
  }

  /** dKeys of the parts that query heads have of it. */
  #headSums(rows: RowSlot, parts: Tensor, { keys, dKeys }: AttentionGradients): KernelCall {
    const { heads, keyValueHeads, headDim } = this.shape;
    const constants = {
      HEADS: 2 * keyValueHeads,
      GROUP: heads / keyValueHeads,
      STRIDE: rowLength(dKeys) / 4,
      FIRST: keys.first / headDim,
    };
    return rowKernel(
      "attention_head_sums",
      headSumsSource,
      rows,
      [parts, dKeys],
      headDim,
      (columns) => flat(rows, 2 * keyValueHeads * columns),
      constants,
    );
  }

  /** Scales of the heads of `x`, behind those of `first` heads. */
  #scalesOf(rows: RowSlot, x: Tensor, first: number): KernelCall {
    const { headDim } = this.shape;
    const heads = rowLength(x) / headDim;
    const constants = { HEADS: heads, FIRST: first, SCALES: rowLength(this.#scales) };
    return rowKernel(
      "attention_scales",
      SCALES + scalesSource,
      rows,
      [x, this.#scales],
      headDim,
      () => flat(rows, heads),
      constants,
    );
  }

  /** What every kernel binds first: queries, keys and values are of one tensor. */
  #read(rows: RowSlot, { spans, queries }: AttentionTensors): Tensor[] {
    return [rows.tensor, rows.tensor, spans, queries.tensor];
  }

  /** What the backward kernels bind besides, before what they write. */
  #gradients({ dOut, lse, delta }: AttentionGradients): Tensor[] {
    return [this.#scales, dOut, lse, delta];
  }
}
