/** Attention as kernel calls, in the way that suits the adapter: see `attentionTiles` in `tuning.ts`. */
import keepSource from "../../kernels/keep_keys.wgsl" with { type: "text" };
import deltaSource from "../../kernels/attention_delta.wgsl" with { type: "text" };
import {
  ATTENTION_TILE,
  type AttentionLayout,
  type AttentionShape,
  type AttentionTile,
  type AttentionTiles,
  type FloatTile,
  type HeadColumns,
  type RegisterTile,
} from "../../kernels/attention.ts";
import { matrixCut } from "../../kernels/attention_matrix.ts";
import {
  matrixKeyGradientSource,
  matrixQueryGradientSource,
} from "../../kernels/attention_matrix_backward.ts";
import { matrixForwardSource } from "../../kernels/attention_matrix_forward.ts";
import headSumsSource from "../../kernels/attention_head_sums.wgsl" with { type: "text" };
import scalesSource from "../../kernels/attention_scales.wgsl" with { type: "text" };
import { SCALES } from "../../kernels/gemm_largest.ts";
import { queryForwardSource } from "../../kernels/attention_queries.ts";
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
import { elementWidth, withPrelude } from "../../kernels/prelude.ts";
import type { MemoryPlan } from "./memory_plan.ts";
import { flat, rowKernel, rowLength } from "./operations.ts";
import { Sources } from "./sources.ts";
import type { Grid, KernelCall, RowSlot } from "./program.ts";
import type { TextureCopy } from "./texture_copy.ts";

/** Heads within the rows of a tensor: from a column on, which is a multiple of headDim, as the tensor's width is. */
export interface Heads {
  tensor: Tensor;
  first: number;
}

/** What attention reads and writes. T tokens, D = headDim. */
export interface AttentionTensors {
  /** Which of the batch's masks the next three are, for profiles. */
  mask?: number;
  spans: Tensor; // [T, 4], in rows of the keys: see `kernels/attention.ts`
  queryTiles: Tensor;
  keyTiles: Tensor;
  queries: Heads; // heads D, after the rotation
  keys: Heads; // 2 kvHeads D: keys, after the rotation, and values
  /** How many rows of keys there are, where they are not the queries' own. */
  keyRows?: RowSlot;
  out: Tensor; // [T, heads D]
  lse: Tensor; // [T, heads]
}

/**
 * The gradients besides, each laid out as what it is the gradient of; `delta` is scratch. Here no query may see keys
 * behind its own row among them.
 */
export interface AttentionGradients extends AttentionTensors {
  dOut: Tensor;
  delta: Tensor; // [T, heads]
  dQueries: Tensor;
  dKeys: Tensor;
}

/** Queries, keys and values of one tensor [T, (heads + 2 kvHeads) D]. */
export const headsOf = (
  qkv: Tensor,
  { heads, headDim }: AttentionShape,
): Record<"queries" | "keys", Heads> => ({
  queries: { tensor: qkv, first: 0 },
  keys: { tensor: qkv, first: heads * headDim },
});

/**
 * Copies keys and values, which lie behind each other, to a cache[any, 2 kvHeads D]: each to the last row that its
 * token sees.
 */
export function keepKeys(rows: RowSlot, spans: Tensor, { tensor, first }: Heads, cache: Tensor): KernelCall {
  const [stride, columns] = [rowLength(tensor), rowLength(cache)];
  const width = elementWidth(stride, columns, first);
  return {
    label: "keep_keys",
    source: withPrelude(keepSource, {
      COLUMNS: columns / width,
      STRIDE: stride / width,
      FIRST: first / width,
    }, width),
    bindings: [rows.tensor, spans, tensor, cache],
    grid: flat(rows, columns / width),
  };
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
  readonly #sources = new Sources();
  readonly #qkv?: TextureSlab;
  readonly #dOut?: TextureSlab;
  /** Of the heads of qkv, and of those of dOut. */
  readonly #scales?: Tensor; // [tokens, 2 (heads + kvHeads)]
  /** Each query head's part of the gradients of the keys and values that it shares with others. */
  readonly #keyGradients?: Tensor; // [tokens, 2 heads D]

  /**
   * Plans the textures for batches of up to `tokens` tokens; `training` for the backward pass too. A cache of keys,
   * `apart` from the queries, is read where it is: copying it to a texture would cost more than a few queries'
   * reading it.
   */
  constructor(
    plan: MemoryPlan,
    readonly shape: AttentionShape,
    tokens: number,
    tiles: AttentionTiles,
    training: boolean,
    apart = false,
  ) {
    const { heads, keyValueHeads, headDim } = shape;
    const [qkv, out] = [(heads + 2 * keyValueHeads) * headDim, heads * headDim];
    // Rows are copied whole: of vec4s, from one aligned byte to another.
    const isForTextures = !apart && tokens <= MOST_TEXTURE_ROWS && headDim % 4 === 0 &&
      [qkv, out].every((columns) => columns * 4 % ALIGNMENT === 0);
    const usable = (tile: FloatTile): FloatTile =>
      tile.memory === "texture" && !isForTextures ? { ...tile, memory: "storage" } : tile;
    const byMatrices = (tile: AttentionTile, own: 1 | 2): AttentionTile => {
      if (tile.memory !== "matrix") return usable(tile);
      return !apart && matrixCut(shape, own, tile) ? tile : usable(tile.otherwise);
    };
    this.tiles = {
      forward: byMatrices(tiles.forward, 1),
      queryGradient: byMatrices(tiles.queryGradient, 2),
      keyGradient: byMatrices(tiles.keyGradient, 2),
    };
    const used = training ? Object.values(this.tiles) : [this.tiles.forward];
    if (used.some(({ memory }) => memory === "texture")) {
      this.#qkv = textureFor(plan, "qkv texture", tokens, qkv);
    }
    if (used.some(({ memory }) => memory === "matrix")) {
      this.#scales = plan.tensor("scales of attention", "scratch", [tokens, (qkv + out) / headDim]);
    }
    if (training && this.tiles.keyGradient.memory === "matrix" && heads > keyValueHeads) {
      this.#keyGradients = plan.tensor("gradients of heads' keys", "scratch", [tokens, 2 * out]);
    }
    if (training && this.tiles.keyGradient.memory === "texture") {
      this.#dOut = textureFor(plan, "gradient of attention texture", tokens, out);
    }
  }

  /** out[T, heads D] and lse[T, heads] of queries, keys and values. */
  forward(rows: RowSlot, t: AttentionTensors): KernelCall[] {
    const tile = this.tiles.forward;
    const layout = layoutOf(t);
    if (tile.memory === "matrix") {
      const cut = matrixCut(this.shape, 1, tile)!;
      return [this.#scalesOf(rows, t.queries.tensor, 0), {
        label: "attention",
        mask: t.mask,
        source: this.#sources.of(
          ["forward", layout],
          () => matrixForwardSource(this.shape, layout, cut, rowLength(this.#scales!)),
        ),
        bindings: [...this.#readByMatrices(rows, t), t.queryTiles, this.#scales!, t.out, t.lse],
        grid: tileGrid(rows, this.shape.heads),
      }];
    }
    const bindings = this.#read(rows, t, tile);
    if (tile.memory === "workgroup" && tile.queries) {
      return [{
        label: "attention",
        mask: t.mask,
        source: this.#sources.of(["queries", layout], () => queryForwardSource(this.shape, layout)),
        bindings: [...bindings, t.out, t.lse],
        grid: (counts) => [counts[rows.slot], counts[rows.slot] && this.shape.heads],
      }];
    }
    if (tile.memory === "workgroup") {
      return [{
        label: "attention",
        mask: t.mask,
        source: this.#sources.of(["forward", layout], () => workgroupForwardSource(this.shape, layout)),
        bindings: [...bindings, t.queryTiles, t.out, t.lse],
        grid: tileGrid(rows, this.shape.heads),
      }];
    }
    return [{
      label: "attention",
      mask: t.mask,
      source: this.#sources.of(["forward", layout], () => registersForwardSource(this.shape, layout, tile)),
      bindings: [...bindings, t.out, t.lse],
      copies: this.#copies(rows, tile, t),
      grid: this.#queryGrid(rows, tile),
    }];
  }

  /** dQueries and dKeys, with that of the values, of dOut. */
  backward(rows: RowSlot, t: AttentionGradients): KernelCall[] {
    const { queryGradient, keyGradient } = this.tiles;
    const isByMatrices = [queryGradient, keyGradient].some(({ memory }) => memory === "matrix");
    const qkv = t.queries.tensor;
    // Since the forward pass other layers had theirs there.
    const scales = isByMatrices
      ? [this.#scalesOf(rows, qkv, 0), this.#scalesOf(rows, t.dOut, rowLength(qkv) / this.shape.headDim)]
      : [];
    return [...scales, ...this.#queryGradient(rows, t), ...this.#keyGradient(rows, t)];
  }

  /** dQueries and delta. */
  #queryGradient(rows: RowSlot, t: AttentionGradients): KernelCall[] {
    const { heads, headDim } = this.shape;
    const label = "attention_query_gradient";
    const tile = this.tiles.queryGradient;
    const layout = layoutOf(t);
    const delta = () =>
      rowKernel(
        "attention_delta",
        deltaSource,
        rows,
        [t.out, t.dOut, t.delta],
        headDim,
        () => flat(rows, heads),
        { HEADS: heads },
      );
    if (tile.memory === "matrix") {
      const cut = matrixCut(this.shape, 2, tile)!;
      return [delta(), {
        label,
        mask: t.mask,
        source: this.#sources.of(
          ["query gradient", layout],
          () => matrixQueryGradientSource(this.shape, layout, cut, rowLength(this.#scales!)),
        ),
        bindings: [...this.#readByMatrices(rows, t), t.queryTiles, ...this.#gradients(t), t.dQueries],
        grid: tileGrid(rows, heads),
      }];
    }
    const bindings = this.#read(rows, t, tile);
    if (tile.memory === "workgroup") {
      return [
        delta(),
        {
          label,
          mask: t.mask,
          source: this.#sources.of(
            ["query gradient", layout],
            () => workgroupQueryGradientSource(this.shape, layout),
          ),
          bindings: [...bindings, t.queryTiles, t.dOut, t.lse, t.delta, t.dQueries],
          grid: tileGrid(rows, heads),
        },
      ];
    }
    return [{
      label,
      mask: t.mask,
      source: this.#sources.of(
        ["query gradient", layout],
        () => registersQueryGradientSource(this.shape, layout, tile),
      ),
      bindings: [...bindings, t.out, t.lse, t.dOut, t.delta, t.dQueries],
      copies: this.#copies(rows, tile, t),
      grid: this.#queryGrid(rows, tile),
    }];
  }

  /** dKeys, and that of the values. */
  #keyGradient(rows: RowSlot, t: AttentionGradients): KernelCall[] {
    const label = "attention_key_gradient";
    const tile = this.tiles.keyGradient;
    const { keyValueHeads } = this.shape;
    const layout = layoutOf(t);
    if (tile.memory === "matrix") {
      const cut = matrixCut(this.shape, 2, tile)!;
      const parts = this.#keyGradients;
      const call = {
        label,
        mask: t.mask,
        source: this.#sources.of(
          ["key gradient", layout],
          () => matrixKeyGradientSource(this.shape, layout, cut, rowLength(this.#scales!)),
        ),
        bindings: [
          ...this.#readByMatrices(rows, t),
          t.keyTiles,
          ...this.#gradients(t),
          parts ?? t.dKeys,
        ],
        grid: tileGrid(rows, this.shape.heads),
      };
      return parts ? [call, this.#headSums(rows, parts, t)] : [call];
    }
    const bindings = [...this.#read(rows, t, tile), t.keyTiles];
    const keyRows = t.keyRows ?? rows;
    if (tile.memory === "workgroup") {
      return [{
        label,
        mask: t.mask,
        source: this.#sources.of(
          ["key gradient", layout],
          () => workgroupKeyGradientSource(this.shape, layout),
        ),
        bindings: [...bindings, t.dOut, t.lse, t.delta, t.dKeys],
        grid: tileGrid(keyRows, keyValueHeads),
      }];
    }
    const dOut = tile.memory === "texture" ? this.#dOut! : t.dOut;
    return [{
      label,
      mask: t.mask,
      source: this.#sources.of(
        ["key gradient", layout],
        () => registersKeyGradientSource(this.shape, layout, tile),
      ),
      bindings: [...bindings, dOut, t.lse, t.delta, t.dKeys],
      copies: this.#copies(rows, tile, t, t.dOut),
      grid: threadGrid(keyRows, keysOfThread(this.shape, tile), keyValueHeads),
    }];
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
    const constants = { HEADS: heads, FIRST: first, SCALES: rowLength(this.#scales!) };
    return rowKernel(
      "attention_scales",
      SCALES + scalesSource,
      rows,
      [x, this.#scales!],
      headDim,
      () => flat(rows, heads),
      constants,
    );
  }

  /** What kernels by matrices bind first: queries, keys and values are of one tensor. */
  #readByMatrices(rows: RowSlot, { spans, queries }: AttentionTensors): Tensor[] {
    return [rows.tensor, rows.tensor, spans, queries.tensor];
  }

  /** What the backward kernels by matrices bind besides, before what they write. */
  #gradients({ dOut, lse, delta }: AttentionGradients): Tensor[] {
    return [this.#scales!, dOut, lse, delta];
  }

  /** What every other kernel binds first: `HEADER` in `kernels/attention.ts`, and queries and keys. */
  #read(rows: RowSlot, t: AttentionTensors, { memory }: AttentionTile): (Tensor | TextureSlab)[] {
    if (memory === "texture" && t.queries.tensor !== t.keys.tensor) {
      throw new RangeError("keys apart from their queries are for an Attention that was made for such");
    }
    const from = ({ tensor }: Heads) => memory === "texture" ? this.#qkv! : tensor;
    return [rows.tensor, (t.keyRows ?? rows).tensor, t.spans, from(t.queries), from(t.keys)];
  }

  /** Queries and keys that textures hold are parts of one tensor. */
  #copies(
    rows: RowSlot,
    { memory }: RegisterTile,
    { queries }: AttentionTensors,
    dOut?: Tensor,
  ): TextureCopy[] {
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
    return [copy(queries.tensor, this.#qkv!), ...(dOut ? [copy(dOut, this.#dOut!)] : [])];
  }

  #queryGrid(rows: RowSlot, tile: RegisterTile): Grid {
    const { tokens, members } = queriesOfThread(this.shape, tile);
    return threadGrid(rows, tokens, this.shape.heads / members);
  }
}

const columnsOf = ({ tensor, first }: Heads): HeadColumns => ({ stride: rowLength(tensor), first });

const layoutOf = ({ queries, keys }: AttentionTensors): AttentionLayout => ({
  queries: columnsOf(queries),
  keys: columnsOf(keys),
});

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
