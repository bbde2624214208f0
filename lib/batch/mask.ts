/** Who sees whom in a packed row, without a matrix of tokens by tokens. */
import { ATTENTION_TILE } from "../../kernels/attention.ts";

/** Which keys each token of a packed row sees, with one window. */
export interface Mask {
  /**
   * Four numbers a token, in rows of the keys: it sees those from the first up to the second, and from the third to
   * its own row; its position. In a packed row a token's own row is its own; beside a cache of keys see
   * `kernels/attention.ts`.
   */
  spans: Uint32Array<ArrayBuffer>;
  /** For each tile of queries, the two intervals of key tiles that any of its queries sees: [x, y) and [z, w). */
  queryTiles: Uint32Array<ArrayBuffer>;
  /**
   * For each tile of keys, the query tiles that see any of its keys, [x, y), and the end of the queries that do, z;
   * 0.
   */
  keyTiles: Uint32Array<ArrayBuffer>;
}

/** How many positions back a token sees, itself included, as in Mistral (arXiv 2310.06825); undefined: all of them. */
export type Window = number | undefined;

/** Where a token stands in its pair. */
export interface Place {
  /** The prefix before its own part: the first row and how many; none for a token of the prefix itself. */
  start: number;
  prefix: number;
  /** The first row of its own part. */
  part: number;
  position: number;
}

/** The mask of a packed row whose tokens stand at `places`. */
export function maskOf(places: readonly Place[], window: Window = Infinity): Mask {
  const spans = places.flatMap(({ start, prefix, part, position }) => {
    const first = Math.max(0, position - window + 1);
    return [start + Math.min(first, prefix), start + prefix, part + Math.max(0, first - prefix), position];
  });
  return { spans: Uint32Array.from(spans), ...tileBounds(spans) };
}

/**
 * Bounds of what each tile of queries and of keys has to look at; the exact mask stays with the spans. The queries,
 * one a span, are the last of `keys` rows.
 */
export function tileBounds(
  spans: readonly number[],
  keys = spans.length / 4,
): Pick<Mask, "queryTiles" | "keyTiles"> {
  const tokens = spans.length / 4;
  const tiles = Math.ceil(tokens / ATTENTION_TILE);
  const tileOf = (row: number) => Math.floor(row / ATTENTION_TILE);
  const queryTiles = new Uint32Array(4 * tiles);
  const keyTiles = new Uint32Array(4 * Math.ceil(keys / ATTENTION_TILE));
  for (let tile = 0; tile < tiles; tile++) {
    let [prefixFirst, prefixEnd, ownFirst] = [Infinity, 0, Infinity];
    const end = Math.min(tokens, (tile + 1) * ATTENTION_TILE);
    let ownEnd = tileOf(end - 1 + keys - tokens) + 1;
    for (let token = tile * ATTENTION_TILE; token < end; token++) {
      const [from, to, own] = spans.slice(4 * token, 4 * token + 3);
      ownFirst = Math.min(ownFirst, own);
      for (let keyTile = tileOf(own); keyTile < ownEnd; keyTile++) keyTiles[4 * keyTile + 2] = token + 1;
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
        ownEnd = Math.max(firstEnd, ownEnd);
        first = firstEnd = 0;
      }
    }
    queryTiles.set([first, firstEnd, own, Math.max(own, ownEnd)], 4 * tile);
    const see = (keyTile: number) => {
      // Tiles of queries come in their order.
      if (keyTiles[4 * keyTile + 1] === 0) keyTiles[4 * keyTile] = tile;
      keyTiles[4 * keyTile + 1] = tile + 1;
    };
    for (let keyTile = first; keyTile < firstEnd; keyTile++) see(keyTile);
    for (let keyTile = own; keyTile < ownEnd; keyTile++) see(keyTile);
  }
  return { queryTiles, keyTiles };
}
