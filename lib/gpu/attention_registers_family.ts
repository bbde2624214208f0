/** Attention with rows in a thread's registers, as it suits a driver on the processor: see `RegisterTile`. */
import type { AttentionShape, AttentionTiles, RegisterTile } from "../../kernels/attention.ts";
import { keysOfThread, queriesOfThread, REGISTER_WORKGROUP } from "../../kernels/attention_registers.ts";
import {
  registersKeyGradientSource,
  registersQueryGradientSource,
} from "../../kernels/attention_registers_backward.ts";
import { registersForwardSource } from "../../kernels/attention_registers_forward.ts";
import {
  type AttentionFamily,
  type AttentionGradients,
  type AttentionTensors,
  layoutOf,
} from "./attention_family.ts";
import { ALIGNMENT, type Tensor, type TextureSlab } from "./memory.ts";
import type { MemoryPlan } from "./memory_plan.ts";
import { rowLength } from "./operations.ts";
import type { Grid, KernelCall, RowSlot } from "./program.ts";
import { Sources } from "./sources.ts";
import type { TextureCopy } from "./texture_copy.ts";

/** Rows that every WebGPU adapter allows a texture. */
const MOST_TEXTURE_ROWS = 8192;

/** Rows that are a power of two apart share their places in a processor's cache: textures are a little wider. */
const PADDING_TEXELS = 4;

const widths = ({ heads, keyValueHeads, headDim }: AttentionShape) => ({
  qkv: (heads + 2 * keyValueHeads) * headDim,
  out: heads * headDim,
});

/**
 * Whether textures can hold so many tokens: their rows are copied whole, of vec4s, from one aligned byte to another.
 */
export const fitsTextures = (shape: AttentionShape, tokens: number): boolean =>
  tokens <= MOST_TEXTURE_ROWS && shape.headDim % 4 === 0 &&
  Object.values(widths(shape)).every((columns) => columns * 4 % ALIGNMENT === 0);

/** A texture that holds the rows of a tensor. */
const textureFor = (plan: MemoryPlan, name: string, tokens: number, columns: number) =>
  plan.texture(name, "scratch", columns / 4 + PADDING_TEXELS, tokens);

export class RegistersAttention implements AttentionFamily {
  readonly #sources = new Sources();
  readonly #qkv?: TextureSlab;
  readonly #dOut?: TextureSlab;

  /** Plans the textures for batches of up to `tokens` tokens. */
  constructor(
    plan: MemoryPlan,
    readonly shape: AttentionShape,
    tokens: number,
    readonly tiles: Partial<AttentionTiles<RegisterTile>>,
  ) {
    const { qkv, out } = widths(shape);
    if (Object.values(tiles).some(({ memory }) => memory === "texture")) {
      this.#qkv = textureFor(plan, "qkv texture", tokens, qkv);
    }
    if (tiles.keyGradient?.memory === "texture") {
      this.#dOut = textureFor(plan, "gradient of attention texture", tokens, out);
    }
  }

  forward(rows: RowSlot, t: AttentionTensors): KernelCall[] {
    const tile = this.tiles.forward!;
    const layout = layoutOf(t);
    return [{
      label: "attention",
      mask: t.mask,
      source: this.#sources.of(["forward", layout], () => registersForwardSource(this.shape, layout, tile)),
      bindings: [...this.#read(rows, t, tile), t.out, t.lse],
      copies: this.#copies(rows, tile, t),
      grid: this.#queryGrid(rows, tile),
    }];
  }

  backward(rows: RowSlot, t: AttentionGradients): KernelCall[] {
    return [this.#queryGradient(rows, t), this.#keyGradient(rows, t)];
  }

  /** dQueries and delta. */
  #queryGradient(rows: RowSlot, t: AttentionGradients): KernelCall {
    const tile = this.tiles.queryGradient!;
    const layout = layoutOf(t);
    return {
      label: "attention_query_gradient",
      mask: t.mask,
      source: this.#sources.of(
        ["query gradient", layout],
        () => registersQueryGradientSource(this.shape, layout, tile),
      ),
      bindings: [...this.#read(rows, t, tile), t.out, t.lse, t.dOut, t.delta, t.dQueries],
      copies: this.#copies(rows, tile, t),
      grid: this.#queryGrid(rows, tile),
    };
  }

  /** dKeys, and that of the values. */
  #keyGradient(rows: RowSlot, t: AttentionGradients): KernelCall {
    const tile = this.tiles.keyGradient!;
    const layout = layoutOf(t);
    const dOut = tile.memory === "texture" ? this.#dOut! : t.dOut;
    return {
      label: "attention_key_gradient",
      mask: t.mask,
      source: this.#sources.of(
        ["key gradient", layout],
        () => registersKeyGradientSource(this.shape, layout, tile),
      ),
      bindings: [...this.#read(rows, t, tile), t.keyTiles, dOut, t.lse, t.delta, t.dKeys],
      copies: this.#copies(rows, tile, t, t.dOut),
      grid: threadGrid(t.keyRows ?? rows, keysOfThread(this.shape, tile), this.shape.keyValueHeads),
    };
  }

  /** What every kernel binds first: `HEADER` in `kernels/attention.ts`, and queries and keys. */
  #read(rows: RowSlot, t: AttentionTensors, { memory }: RegisterTile): (Tensor | TextureSlab)[] {
    const { queries, keys } = t;
    if (memory === "texture" && queries.tensor !== keys.tensor) {
      throw new RangeError("keys apart from their queries are for an Attention that was made for such");
    }
    const from = (tensor: Tensor) => memory === "texture" ? this.#qkv! : tensor;
    return [rows.tensor, (t.keyRows ?? rows).tensor, t.spans, from(queries.tensor), from(keys.tensor)];
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

/** A thread for every `tokens` tokens. */
const threadGrid = (rows: RowSlot, tokens: number, heads: number): Grid => (counts) => [
  Math.ceil(counts[rows.slot] / tokens / REGISTER_WORKGROUP),
  counts[rows.slot] ? heads : 0,
];
