/** Attention as kernel calls, in the way that suits the adapter: see `attentionTiles` in `tuning.ts`. */
import deltaSource from "../../kernels/attention_delta.wgsl" with { type: "text" };
import {
  ATTENTION_TILE,
  type AttentionShape,
  type AttentionTile,
  type AttentionTiles,
  type RegisterTile,
} from "../../kernels/attention.ts";
import { keysOfThread, queriesOfThread, REGISTER_WORKGROUP } from "../../kernels/attention_registers.ts";
import {
  registersKeyGradientSource,
  registersQueryGradientSource,
} from "../../kernels/attention_registers_backward.ts";
import { registersForwardSource } from "../../kernels/attention_registers_forward.ts";
import {
  workgroupKeyGradientSource,
  workgroupQueryGradientSource,
} from "../../kernels/attention_workgroup_backward.ts";
import { workgroupForwardSource } from "../../kernels/attention_workgroup_forward.ts";
import { ALIGNMENT, type Tensor, type TextureSlab } from "./memory.ts";
import type { MemoryPlan } from "./memory_plan.ts";
import { flat, rowKernel, rowLength } from "./operations.ts";
import type { Grid, KernelCall, RowSlot } from "./program.ts";
import type { TextureCopy } from "./texture_copy.ts";

/** What attention reads and writes. T tokens, D = headDim. */
export interface AttentionTensors {
  /** Which of the batch's masks the next three are, for profiles. */
  mask?: number;
  spans: Tensor; // [T, 4]
  queryTiles: Tensor;
  keyTiles: Tensor;
  qkv: Tensor; // [T, (heads + 2 kvHeads) D], after the rotation
  out: Tensor; // [T, heads D]
  lse: Tensor; // [T, heads]
}

/** The gradients besides; `delta` is scratch. */
export interface AttentionGradients extends AttentionTensors {
  dOut: Tensor;
  delta: Tensor; // [T, heads]
  dQkv: Tensor;
}

/** Rows that every WebGPU adapter allows a texture. */
const MOST_TEXTURE_ROWS = 8192;

/** Rows that are a power of two apart share their places in a processor's cache: textures are a little wider. */
const PADDING_TEXELS = 4;

/** A texture that holds the rows of a tensor. */
const textureFor = (plan: MemoryPlan, name: string, tokens: number, columns: number) =>
  plan.texture(name, "scratch", columns / 4 + PADDING_TEXELS, tokens);

/** The attention of one plan, and what its layers share. */
export class Attention {
  readonly tiles: AttentionTiles;
  readonly #qkv?: TextureSlab;
  readonly #dOut?: TextureSlab;

  /** Plans the textures for batches of up to `tokens` tokens; `training` for the backward pass too. */
  constructor(
    plan: MemoryPlan,
    readonly shape: AttentionShape,
    tokens: number,
    tiles: AttentionTiles,
    training: boolean,
  ) {
    const { heads, keyValueHeads, headDim } = shape;
    const [qkv, out] = [(heads + 2 * keyValueHeads) * headDim, heads * headDim];
    // Rows are copied whole: of vec4s, from one aligned byte to another.
    const isForTextures = tokens <= MOST_TEXTURE_ROWS && headDim % 4 === 0 &&
      [qkv, out].every((columns) => columns * 4 % ALIGNMENT === 0);
    const usable = (tile: AttentionTile): AttentionTile =>
      tile.memory === "texture" && !isForTextures ? { ...tile, memory: "storage" } : tile;
    this.tiles = {
      forward: usable(tiles.forward),
      queryGradient: usable(tiles.queryGradient),
      keyGradient: usable(tiles.keyGradient),
    };
    const used = training ? Object.values(this.tiles) : [this.tiles.forward];
    if (used.some(({ memory }) => memory === "texture")) {
      this.#qkv = textureFor(plan, "qkv texture", tokens, qkv);
    }
    if (training && this.tiles.keyGradient.memory === "texture") {
      this.#dOut = textureFor(plan, "gradient of attention texture", tokens, out);
    }
  }

  /** out[T, heads D] and lse[T, heads] of qkv. */
  forward(rows: RowSlot, t: AttentionTensors): KernelCall[] {
    const tile = this.tiles.forward;
    if (tile.memory === "workgroup") {
      return [{
        label: "attention",
        mask: t.mask,
        source: workgroupForwardSource(this.shape),
        bindings: [rows.tensor, t.spans, t.queryTiles, t.qkv, t.out, t.lse],
        grid: tileGrid(rows, this.shape.heads),
      }];
    }
    return [{
      label: "attention",
      mask: t.mask,
      source: registersForwardSource(this.shape, tile),
      bindings: [rows.tensor, t.spans, this.#read(t.qkv, tile), t.out, t.lse],
      copies: this.#copies(rows, tile, t.qkv),
      grid: this.#queryGrid(rows, tile),
    }];
  }

  /** dQkv of dOut. */
  backward(rows: RowSlot, t: AttentionGradients): KernelCall[] {
    return [...this.#queryGradient(rows, t), this.#keyGradient(rows, t)];
  }

  /** The query part of dQkv, and delta. */
  #queryGradient(rows: RowSlot, t: AttentionGradients): KernelCall[] {
    const { heads, headDim } = this.shape;
    const label = "attention_query_gradient";
    const tile = this.tiles.queryGradient;
    if (tile.memory === "workgroup") {
      const delta = [t.out, t.dOut, t.delta];
      return [
        rowKernel("attention_delta", deltaSource, rows, delta, headDim, () => flat(rows, heads), {
          HEADS: heads,
        }),
        {
          label,
          mask: t.mask,
          source: workgroupQueryGradientSource(this.shape),
          bindings: [rows.tensor, t.spans, t.queryTiles, t.qkv, t.dOut, t.lse, t.delta, t.dQkv],
          grid: tileGrid(rows, heads),
        },
      ];
    }
    return [{
      label,
      mask: t.mask,
      source: registersQueryGradientSource(this.shape, tile),
      bindings: [rows.tensor, t.spans, this.#read(t.qkv, tile), t.out, t.lse, t.dOut, t.delta, t.dQkv],
      copies: this.#copies(rows, tile, t.qkv),
      grid: this.#queryGrid(rows, tile),
    }];
  }

  /** The other parts of dQkv. */
  #keyGradient(rows: RowSlot, t: AttentionGradients): KernelCall {
    const label = "attention_key_gradient";
    const tile = this.tiles.keyGradient;
    const { keyValueHeads } = this.shape;
    if (tile.memory === "workgroup") {
      return {
        label,
        mask: t.mask,
        source: workgroupKeyGradientSource(this.shape),
        bindings: [rows.tensor, t.spans, t.keyTiles, t.qkv, t.dOut, t.lse, t.delta, t.dQkv],
        grid: tileGrid(rows, keyValueHeads),
      };
    }
    const [qkv, dOut] = [this.#read(t.qkv, tile), tile.memory === "texture" ? this.#dOut! : t.dOut];
    return {
      label,
      mask: t.mask,
      source: registersKeyGradientSource(this.shape, tile),
      bindings: [rows.tensor, t.spans, t.keyTiles, qkv, dOut, t.lse, t.delta, t.dQkv],
      copies: this.#copies(rows, tile, t.qkv, t.dOut),
      grid: threadGrid(rows, keysOfThread(this.shape, tile), keyValueHeads),
    };
  }

  #read(qkv: Tensor, { memory }: RegisterTile): Tensor | TextureSlab {
    return memory === "texture" ? this.#qkv! : qkv;
  }

  #copies(rows: RowSlot, { memory }: RegisterTile, qkv: Tensor, dOut?: Tensor): TextureCopy[] {
    if (memory !== "texture") return [];
    const copy = (source: Tensor, texture: TextureSlab): TextureCopy => ({
      source,
      texture,
      firstRow: 0,
      rows: source.shape[0],
      firstColumn: 0,
      columns: rowLength(source),
      slot: rows.slot,
    });
    return [copy(qkv, this.#qkv!), ...(dOut ? [copy(dOut, this.#dOut!)] : [])];
  }

  #queryGrid(rows: RowSlot, tile: RegisterTile): Grid {
    const { tokens, members } = queriesOfThread(this.shape, tile);
    return threadGrid(rows, tokens, this.shape.heads / members);
  }
}

/** A workgroup for each tile of tokens and each head. */
const tileGrid = (rows: RowSlot, heads: number): Grid => (counts) => [
  Math.ceil(counts[rows.slot] / ATTENTION_TILE),
  counts[rows.slot] ? heads : 0,
];

/** A thread for every `tokens` tokens. */
const threadGrid = (rows: RowSlot, tokens: number, heads: number): Grid => (counts) => [
  Math.ceil(counts[rows.slot] / tokens / REGISTER_WORKGROUP),
  counts[rows.slot] ? heads : 0,
];
