/** Attention as kernel calls, by the family that suits the adapter: see `attentionTiles` in `tuning.ts`. */
import keepSource from "../../kernels/keep_keys.wgsl" with { type: "text" };
import type { AttentionShape, AttentionTile, AttentionTiles } from "../../kernels/attention.ts";
import { matrixCut } from "../../kernels/attention_matrix.ts";
import { elementWidth, withPrelude } from "../../kernels/prelude.ts";
import type { AttentionFamily, AttentionGradients, AttentionTensors, Heads } from "./attention_family.ts";
import { MatrixAttention } from "./attention_matrix_family.ts";
import { fitsTextures, RegistersAttention } from "./attention_registers_family.ts";
import { WorkgroupAttention } from "./attention_workgroup_family.ts";
import type { Tensor } from "./memory.ts";
import type { MemoryPlan } from "./memory_plan.ts";
import { flat, rowLength } from "./operations.ts";
import type { KernelCall, RowSlot } from "./program.ts";

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

/** The attention of one plan, and what its layers share. */
export class Attention {
  readonly tiles: AttentionTiles;
  readonly #forward: AttentionFamily;
  readonly #backward?: AttentionFamily;

  /**
   * Plans for batches of up to `tokens` tokens; `training` for the backward pass too. A cache of keys, `apart` from the
   * queries, is read where it is: copying it to a texture would cost more than a few queries' reading it.
   */
  constructor(
    plan: MemoryPlan,
    readonly shape: AttentionShape,
    tokens: number,
    tiles: AttentionTiles,
    training: boolean,
    apart = false,
  ) {
    const usable = (tile: AttentionTile, own: 1 | 2): AttentionTile => {
      if (tile.memory === "matrix") {
        return !apart && matrixCut(shape, own, tile) ? tile : usable(tile.otherwise, own);
      }
      // There, queries may see keys behind their own row's number.
      if (tile.memory === "workgroup" && tile.keeps && apart) return { ...tile, keeps: undefined };
      const isHeld = tile.memory === "texture" && !apart && fitsTextures(shape, tokens);
      return tile.memory === "texture" && !isHeld ? { ...tile, memory: "storage" } : tile;
    };
    this.tiles = {
      forward: usable(tiles.forward, 1),
      queryGradient: usable(tiles.queryGradient, 2),
      keyGradient: usable(tiles.keyGradient, 2),
    };
    const familyFor = (tiles: Partial<AttentionTiles>) => familyOf(plan, shape, tokens, tiles);
    const { forward, ...gradients } = this.tiles;
    const ofAll = training ? familyFor(this.tiles) : undefined;
    this.#forward = ofAll ?? familyFor({ forward })!;
    if (!training) return;
    this.#backward = ofAll ?? familyFor(gradients);
    if (!this.#backward) throw new RangeError("attention's gradients are computed by kernels of one family");
  }

  /** out[T, heads D] and lse[T, heads] of queries, keys and values. */
  forward(rows: RowSlot, t: AttentionTensors): KernelCall[] {
    return this.#forward.forward(rows, t);
  }

  /** dQueries and dKeys, with that of the values, of dOut. */
  backward(rows: RowSlot, t: AttentionGradients): KernelCall[] {
    if (!this.#backward) throw new RangeError("this attention is planned for the forward pass alone");
    return this.#backward.backward(rows, t);
  }
}

type Tiles<Memory> = Partial<AttentionTiles<Extract<AttentionTile, { memory: Memory }>>>;

/** Whether all of `tiles` are of these kinds. */
const areOf = <Memory extends AttentionTile["memory"]>(
  tiles: Partial<AttentionTiles>,
  ...kinds: Memory[]
): tiles is Tiles<Memory> =>
  Object.values(tiles).every(({ memory }) => (kinds as AttentionTile["memory"][]).includes(memory));

/** The family of all of `tiles`; none where they are of several. */
function familyOf(
  plan: MemoryPlan,
  shape: AttentionShape,
  tokens: number,
  tiles: Partial<AttentionTiles>,
): AttentionFamily | undefined {
  if (areOf(tiles, "matrix")) return new MatrixAttention(plan, shape, tokens, tiles);
  if (areOf(tiles, "workgroup")) return new WorkgroupAttention(plan, shape, tokens, tiles);
  if (areOf(tiles, "texture", "storage")) return new RegistersAttention(plan, shape, tokens, tiles);
}
