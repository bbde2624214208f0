import { ATTENTION_TILE } from "../../kernels/attention.ts";
import type { Pair, Sequence } from "../data/tokenize.ts";

/** Marks a row that predicts no (second) label. */
const NONE = 0xffffffff;

/** Which keys each token of a packed row sees, with one window. */
export interface Mask {
  /** Four numbers a token: it sees keys from the first up to the second, and from the third to itself; its position. */
  spans: Uint32Array<ArrayBuffer>;
  /** For each tile of queries, the two intervals of key tiles that any of its queries sees: [x, y) and [z, w). */
  queryTiles: Uint32Array<ArrayBuffer>;
  /** For each tile of keys, the query tiles that see any of its keys, [x, y), and the end of the queries that do, z; 0. */
  keyTiles: Uint32Array<ArrayBuffer>;
}

/** How many positions back a token sees, itself included, as in Mistral (arXiv 2310.06825); undefined: all of them. */
export type Window = number | undefined;

/**
 * Pairs as one packed row of tokens, without padding: for each pair [shared prefix][rest of chosen][rest of rejected].
 * The prefix is run once, and both parts see it; the last token of a response predicts nothing and is left out. Exact:
 * the same numbers as separate sequences (the idea: arXiv 2410.20305).
 */
export interface Batch {
  pairs: number;
  /** Tokens of the longest sequence, those that are left out of the row too. */
  longest: number;
  /** Token ids of the packed row, [tokens]. */
  ids: Uint32Array<ArrayBuffer>;
  /** One for each window of the model's layers. */
  masks: Mask[];
  /** The row that predicts each label, and the label's token id, [labels]. */
  labelRows: Uint32Array<ArrayBuffer>;
  targets: Uint32Array<ArrayBuffer>;
  /** The labels that each row predicts, two a token; `NONE` where there are fewer. */
  labelsOfRow: Uint32Array<ArrayBuffer>;
  /** Labels of each pair: chosen [x, y), rejected [z, w). */
  labelsOfPair: Uint32Array<ArrayBuffer>;
  /** Distinct token ids, and the rows where each stands: rows[starts[u]] ... rows[starts[u + 1] - 1]. */
  distinctIds: Uint32Array<ArrayBuffer>;
  distinctStarts: Uint32Array<ArrayBuffer>;
  distinctRows: Uint32Array<ArrayBuffer>;
}

/** Tokens and labels that pairs take in a packed row. */
export interface PackedSize {
  tokens: number;
  labels: number;
}

/** What the pairs of a run take in packed rows: the numbers of pair i at index i. */
export interface PackedSizes {
  tokens: Uint32Array;
  labels: Uint32Array;
  /** Tokens of the longest sequence. */
  longest: number;
}

/** The longest common beginning of the two sequences that carries no label, in tokens. */
export function sharedPrefix({ chosen, rejected }: Pair): number {
  if (!rejected) return Math.min(chosen.promptLength, chosen.ids.length);
  const limit = Math.min(chosen.promptLength, rejected.promptLength);
  let length = 0;
  while (length < limit && chosen.ids[length] === rejected.ids[length]) length++;
  return length;
}

/** Labels of a sequence: the tokens after the prompt that have a predecessor to predict them. */
const labelCount = ({ ids, promptLength }: Sequence) => ids.length - Math.max(promptLength, 1);

/** What one pair takes in a packed row; the loss may not look at `rejected`. */
export function packedSize(pair: Pair): PackedSize {
  const prefix = sharedPrefix(pair);
  const responses = responsesOf(pair);
  return {
    tokens: prefix + responses.reduce((sum, { ids }) => sum + Math.max(0, ids.length - 1 - prefix), 0),
    labels: responses.reduce((sum, response) => sum + labelCount(response), 0),
  };
}

const responsesOf = ({ chosen, rejected }: Pair) => rejected ? [chosen, rejected] : [chosen];

/**
 * Packs `pairs` into one row, in their order, with a mask for each of `windows`.
 *
 * @example The prompt 1 2 once, then 3 and 4; the last tokens predict nothing
 * ```ts
 * import { pack } from "./batch.ts";
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
  }

  return {
    pairs: pairs.length,
    longest: Math.max(0, ...pairs.flatMap(responsesOf).map(({ ids }) => ids.length)),
    ids: Uint32Array.from(ids),
    masks: windows.map((window) => maskOf(places, window)),
    labelRows: Uint32Array.from(labelRows),
    targets: Uint32Array.from(targets),
    labelsOfRow: invert(labelRows, ids.length),
    labelsOfPair: Uint32Array.from(labelsOfPair),
    ...distinctOf(ids),
  };
}

/** Where a token stands in its pair. */
interface Place {
  /** The prefix before its own part: the first row and how many; none for a token of the prefix itself. */
  start: number;
  prefix: number;
  /** The first row of its own part. */
  part: number;
  position: number;
}

function maskOf(places: readonly Place[], window: Window = Infinity): Mask {
  const spans = places.flatMap(({ start, prefix, part, position }) => {
    const first = Math.max(0, position - window + 1);
    return [start + Math.min(first, prefix), start + prefix, part + Math.max(0, first - prefix), position];
  });
  return { spans: Uint32Array.from(spans), ...tilesOf(spans) };
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

/** Bounds of what each tile of queries and of keys has to look at; the exact mask stays with the spans. */
function tilesOf(spans: number[]) {
  const tokens = spans.length / 4;
  const tiles = Math.ceil(tokens / ATTENTION_TILE);
  const tileOf = (token: number) => Math.floor(token / ATTENTION_TILE);
  const queryTiles = new Uint32Array(4 * tiles);
  const keyTiles = new Uint32Array(4 * tiles);
  for (let tile = 0; tile < tiles; tile++) keyTiles[4 * tile] = tiles;
  for (let tile = 0; tile < tiles; tile++) {
    let [prefixFirst, prefixEnd, ownFirst] = [Infinity, 0, Infinity];
    const end = Math.min(tokens, (tile + 1) * ATTENTION_TILE);
    for (let token = tile * ATTENTION_TILE; token < end; token++) {
      const [from, to, own] = spans.slice(4 * token, 4 * token + 3);
      ownFirst = Math.min(ownFirst, own);
      for (let keyTile = tileOf(own); keyTile <= tile; keyTile++) keyTiles[4 * keyTile + 2] = token + 1;
      if (from < to) {
        for (let keyTile = tileOf(from); keyTile <= tileOf(to - 1); keyTile++) {
          keyTiles[4 * keyTile + 2] = token + 1;
        }
        prefixFirst = Math.min(prefixFirst, from);
        prefixEnd = Math.max(prefixEnd, to);
      }
    }
    let own = tileOf(ownFirst);
    let first = 0;
    let firstEnd = 0;
    if (prefixFirst < prefixEnd) {
      first = tileOf(prefixFirst);
      firstEnd = tileOf(prefixEnd - 1) + 1;
      if (firstEnd >= own) { // the intervals touch: one
        own = Math.min(first, own);
        first = firstEnd = 0;
      }
    }
    queryTiles.set([first, firstEnd, own, tile + 1], 4 * tile);
    const see = (keyTile: number) => {
      keyTiles[4 * keyTile] = Math.min(keyTiles[4 * keyTile], tile);
      keyTiles[4 * keyTile + 1] = tile + 1;
    };
    for (let keyTile = first; keyTile < firstEnd; keyTile++) see(keyTile);
    for (let keyTile = own; keyTile <= tile; keyTile++) see(keyTile);
  }
  return { queryTiles, keyTiles };
}
