import { type Pair, responsesOf, sharedPrefix } from "../data/pair.ts";
import { type Mask, maskOf, type Place, type Window } from "./mask.ts";

/** Marks a row that predicts no (second) label. */
const NONE = 0xffffffff;

/**
 * Pairs as one packed row of tokens, without padding: for each pair [shared prefix][rest of chosen][rest of rejected].
 * The prefix is run once, and both parts see it; the last token of a response predicts nothing and is left out. Exact:
 * the same numbers as separate sequences (the idea: arXiv 2410.20305).
 */
export interface Batch {
  /** Pairs in the row. */
  pairs: number;
  /** Tokens of the longest sequence, those that are left out of the row too. */
  longest: number;
  /** Token ids of the packed row, [tokens]. */
  ids: Uint32Array<ArrayBuffer>;
  /** One for each window of the model's layers. */
  masks: Mask[];
  /** The row that predicts each label, [labels]. */
  labelRows: Uint32Array<ArrayBuffer>;
  /** The token id of each label, [labels]. */
  targets: Uint32Array<ArrayBuffer>;
  /** The labels that each row predicts, two a token; `NONE` where there are fewer. */
  labelsOfRow: Uint32Array<ArrayBuffer>;
  /** Labels of each pair: chosen [x, y), rejected [z, w). */
  labelsOfPair: Uint32Array<ArrayBuffer>;
  /**
   * Of each pair: the reference model's sums of chosen and of rejected, 0 without one; of unpaired data 1 where the
   * response was judged desirable, otherwise 0; and nothing.
   */
  references: Float32Array<ArrayBuffer>;
  /**
   * Distinct token ids; those of the u-th are `distinctRows` from `distinctStarts[u]` up to `distinctStarts[u + 1]`.
   */
  distinctIds: Uint32Array<ArrayBuffer>;
  /** Where the rows of each begin in `distinctRows`. */
  distinctStarts: Uint32Array<ArrayBuffer>;
  /** Rows of the first id, then of the next. */
  distinctRows: Uint32Array<ArrayBuffer>;
}

/**
 * Packs `pairs` into one row, in their order, with a mask for each of `windows`.
 *
 * @example The prompt 1 2 once, then 3 and 4; the last tokens predict nothing
 * ```ts
 * import { pack } from "./pack.ts";
 * import assert from "node:assert/strict";
 * const chosen = { ids: [1, 2, 3, 9], promptLength: 2 };
 * const rejected = { ids: [1, 2, 4, 9], promptLength: 2 };
 * const batch = pack([{ chosen, rejected, truncated: false, where: "example" }]);
 * assert.deepEqual([...batch.ids], [1, 2, 3, 4]);
 * assert.deepEqual([...batch.targets], [3, 9, 4, 9]);
 * assert.deepEqual([...batch.labelRows], [1, 2, 1, 3]);
 * ```
 */
export function pack(pairs: readonly Pair[], windows: readonly Window[] = [undefined]): Batch {
  const ids: number[] = [];
  const places: Place[] = [];
  const labelRows: number[] = [];
  const targets: number[] = [];
  const labelsOfPair: number[] = [];
  const references: number[] = [];

  for (const pair of pairs) {
    const start = ids.length;
    const prefix = sharedPrefix(pair);
    for (let position = 0; position < prefix; position++) {
      ids.push(pair.chosen.ids[position]);
      places.push({ start: 0, prefix: 0, part: start, position });
    }
    for (const response of responsesOf(pair)) {
      const part = ids.length;
      const rowOf = (position: number) => position < prefix ? start + position : part + position - prefix;
      for (let position = prefix; position < response.ids.length - 1; position++) {
        ids.push(response.ids[position]);
        places.push({ start, prefix, part, position });
      }
      labelsOfPair.push(targets.length);
      for (let p = Math.max(response.promptLength, 1); p < response.ids.length; p++) {
        labelRows.push(rowOf(p - 1));
        targets.push(response.ids[p]);
      }
      labelsOfPair.push(targets.length);
    }
    if (!pair.rejected) labelsOfPair.push(0, 0);
    const { chosen = 0, rejected = 0 } = pair.reference ?? {};
    references.push(chosen, rejected, pair.desirable ? 1 : 0, 0);
  }

  return {
    pairs: pairs.length,
    longest: pairs.flatMap(responsesOf).reduce((most, { ids }) => Math.max(most, ids.length), 0),
    ids: Uint32Array.from(ids),
    masks: windows.map((window) => maskOf(places, window)),
    labelRows: Uint32Array.from(labelRows),
    targets: Uint32Array.from(targets),
    labelsOfRow: invert(labelRows, ids.length),
    labelsOfPair: Uint32Array.from(labelsOfPair),
    references: Float32Array.from(references),
    ...distinctOf(ids),
  };
}

/** For each row its labels, in ascending order: at most two, since only a prefix's last row predicts for both parts. */
function invert(labelRows: number[], rows: number): Uint32Array<ArrayBuffer> {
  const labels = new Uint32Array(2 * rows).fill(NONE);
  labelRows.forEach((row, label) => {
    labels[labels[2 * row] === NONE ? 2 * row : 2 * row + 1] = label;
  });
  return labels;
}

function distinctOf(ids: number[]) {
  const rowsOf = new Map<number, number[]>();
  ids.forEach((id, row) => {
    const rows = rowsOf.get(id);
    if (rows) rows.push(row);
    else rowsOf.set(id, [row]);
  });
  const starts = [0];
  for (const rows of rowsOf.values()) starts.push(starts.at(-1)! + rows.length);
  return {
    distinctIds: Uint32Array.from(rowsOf.keys()),
    distinctStarts: Uint32Array.from(starts),
    distinctRows: Uint32Array.from([...rowsOf.values()].flat()),
  };
}
