import type { Batch } from "../batch/pack.ts";
import type { Gpu } from "../gpu/device.ts";
import { writeTensor } from "../gpu/program.ts";
import type { Machine } from "./machine.ts";
import { type RopeSpec, ropeTable, tableLength } from "./rope_table.ts";

/** How a batch adds to the gradients. */
export interface StepPlace {
  /** Whether it begins them anew. */
  firstOfStep: boolean;
  /** What the loss is divided by. */
  pairsOfStep: number;
  /** What dropout is drawn by, not 0; without it nothing is dropped. */
  dropoutKey?: number;
}

/** Fills the tensors of a machine's batches. */
export class Uploads {
  /** What each rotary table was made for. */
  readonly #tableLengths: number[] = [];

  constructor(readonly machine: Machine, readonly ropes: readonly RopeSpec[]) {}

  /** Writes the rotary tables that a batch with this longest sequence needs and that are not there. */
  writeTables(gpu: Gpu, longest: number): void {
    const { batch, capacity } = this.machine;
    for (const [i, spec] of this.ropes.entries()) {
      const length = tableLength(spec, longest);
      if (length === this.#tableLengths[i]) continue;
      this.#tableLengths[i] = length;
      writeTensor(gpu, batch.cosSin[i], ropeTable(spec, capacity.positions, longest));
    }
  }

  /** Whether the rotary tables that are there are those of this longest sequence. */
  hasTables(longest: number): boolean {
    return this.ropes.every((spec, i) => tableLength(spec, longest) === this.#tableLengths[i]);
  }

  /** Uploads a batch and its row counts; must come before the submission that works on it. */
  upload(gpu: Gpu, batch: Batch, { firstOfStep, pairsOfStep, dropoutKey }: StepPlace): void {
    const { batch: a, capacity } = this.machine;
    const tokens = batch.ids.length;
    const labels = batch.targets.length;
    if (tokens > capacity.tokens || labels > capacity.labels || batch.pairs > capacity.pairs) {
      throw new RangeError(
        `a batch of ${tokens} tokens, ${labels} labels, ${batch.pairs} pairs exceeds the plan's ` +
          `${capacity.tokens}, ${capacity.labels}, ${capacity.pairs}`,
      );
    }
    for (const name of Object.keys(a.uploaded) as (keyof typeof a.uploaded)[]) {
      if (batch[name].length > 0) writeTensor(gpu, a.uploaded[name], batch[name]);
    }
    if (a.embedded) {
      const { table, rows } = a.embedded;
      writeTensor(gpu, rows, this.machine.parameters.hostRows(table, batch.distinctIds));
      writeTensor(gpu, a.uploaded.ids, placesOf(batch));
    }
    for (const [i, { spans, queryTiles, keyTiles }] of a.masks.entries()) {
      const mask = batch.masks[i];
      writeTensor(gpu, spans, mask.spans);
      writeTensor(gpu, queryTiles, mask.queryTiles);
      writeTensor(gpu, keyTiles, mask.keyTiles);
    }
    this.writeTables(gpu, batch.longest);
    const accumulate = !firstOfStep;
    a.rowCounts.set(a.tokenRows.slot, { count: tokens, accumulate, key: dropoutKey });
    a.rowCounts.set(a.labelSlot.slot, { count: labels, accumulate });
    a.rowCounts.set(a.pairSlot.slot, { count: batch.pairs, scale: 1 / pairsOfStep });
    a.rowCounts.set(a.distinctSlot.slot, { count: batch.distinctIds.length });
    const pieces = Math.ceil(labels / a.pieceRows);
    a.pieces.forEach(({ slot }, i) => {
      const count = Math.max(0, Math.min(a.pieceRows, labels - i * a.pieceRows));
      // The last piece comes first in the backward pass, and so is the one that may begin the head's gradient.
      a.rowCounts.set(slot, { count, accumulate: accumulate || i < pieces - 1 });
    });
    a.rowCounts.upload(gpu, a.rows);
  }
}

/** Of each token its place among the distinct ones. */
function placesOf({ ids, distinctStarts, distinctRows }: Batch): Uint32Array {
  const places = new Uint32Array(ids.length);
  for (let u = 0; u + 1 < distinctStarts.length; u++) {
    for (const row of distinctRows.subarray(distinctStarts[u], distinctStarts[u + 1])) places[row] = u;
  }
  return places;
}
