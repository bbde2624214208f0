import { UserError } from "../errors.ts";
import { shorten, show } from "../text/json.ts";
import type { Fields } from "./fields.ts";
import { type Model, readTokens } from "./vocab.ts";

/** Parts beyond this many are merged by a queue: of few, the best is found sooner by looking at all. */
const FEW_PARTS = 24;

/** Byte pair encoding, as `tokenizers` (Rust) 0.23 reads and runs it. */
export function readBpe(fields: Fields): Model {
  const tokens = readTokens(fields);
  const { vocab } = tokens;
  const dropout = fields.json.dropout ?? 0;
  if (dropout !== 0) throw fields.refusal(`dropout ${show(dropout)} is not supported: ids would be random`);
  const prefix = fields.optionalText("continuing_subword_prefix") ?? "";
  const suffix = fields.optionalText("end_of_word_suffix") ?? "";
  const unknown = fields.optionalText("unk_token");
  const fuseUnknown = fields.flag("fuse_unk", false);
  const byteFallback = fields.flag("byte_fallback", false);
  const ignoreMerges = fields.flag("ignore_merges", false);
  const pairs = readMerges(fields);
  const merges = new Merges(pairs, vocab, prefix, fields);
  const byteIds = byteFallback ? bytesOf(vocab) : undefined;
  const leavesNothingOut = vocab.has(unknown ?? "") || byteIds?.every((id) => id !== undefined) === true;
  const encoder = new TextEncoder();

  const idsOf = (piece: string): number[] => {
    if (ignoreMerges) {
      const id = vocab.get(piece);
      if (id !== undefined) return [id];
    }
    const ids: number[] = [];
    let pending: number | undefined;
    for (let i = 0; i < piece.length;) {
      let character = piece[i];
      if (character >= "\ud800" && character <= "\udbff") character += piece[i + 1];
      const isFirst = i === 0;
      i += character.length;
      if (!isFirst) character = prefix + character;
      if (i === piece.length) character += suffix;
      const id = vocab.get(character);
      if (id !== undefined) {
        if (pending !== undefined) ids.push(pending);
        pending = undefined;
        ids.push(id);
        continue;
      }
      const bytes = byteIds && fallback(byteIds, encoder.encode(character));
      if (bytes) {
        for (const byte of bytes) ids.push(byte);
        continue;
      }
      // Without an unknown token such a character is left out.
      if (unknown === undefined) continue;
      if (pending !== undefined && fuseUnknown) continue;
      if (pending !== undefined) ids.push(pending);
      pending = vocab.get(unknown);
      if (pending === undefined) {
        throw new UserError(
          `${fields.where}: ${show(character)} is no token, and unk_token ${show(unknown)} is none either`,
        );
      }
    }
    if (pending !== undefined) ids.push(pending);
    return ids.length < 2 ? ids : ids.length <= FEW_PARTS ? merges.mergeFew(ids) : merges.mergeMany(ids);
  };
  return {
    ...tokens,
    idsOf,
    wordsApart: !ignoreMerges && leavesNothingOut &&
      wordsApart(pairs, vocab, prefix + suffix),
  };
}

/** The token of each byte, where there are such. */
export function bytesOf(vocab: Map<string, number>): (number | undefined)[] {
  const name = (byte: number) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
  return Array.from({ length: 256 }, (_, byte) => vocab.get(name(byte)));
}

/** The tokens of bytes, where each has one. */
export function fallback(byteIds: (number | undefined)[], bytes: Uint8Array): number[] | undefined {
  const ids: number[] = [];
  for (const byte of bytes) {
    const id = byteIds[byte];
    if (id === undefined) return undefined;
    ids.push(id);
  }
  return ids;
}

/** Merges as pairs of tokens: written so, or as text with a space between, which transformers 4 did. */
function readMerges(fields: Fields): [string, string][] {
  const { merges } = fields.json;
  if (!Array.isArray(merges)) throw fields.refusal("expected merges, a list");
  const asText = typeof merges[0] === "string";
  const pairs: [string, string][] = [];
  for (const [i, merge] of merges.entries()) {
    if (asText && typeof merge === "string" && merge.startsWith("#version")) continue;
    const pair = asText && typeof merge === "string" ? merge.split(" ") : merge;
    if (
      !Array.isArray(pair) || pair.length !== 2 || pair.some((part) => typeof part !== "string") ||
      (asText && typeof merge !== "string")
    ) {
      throw fields.refusal(`merges[${i}]: expected two tokens, found ${show(merge)}`);
    }
    pairs.push(pair as [string, string]);
  }
  return pairs;
}

/**
 * Whether no merge joins something with a "▁" after it, and "▁" is a token, and nothing is left out: then the words
 * of a text that SentencePiece leaves whole can be tokenized one by one.
 */
function wordsApart(pairs: [string, string][], vocab: Map<string, number>, affixes: string): boolean {
  return affixes === "" && vocab.has("▁") && pairs.every(([left, right]) => !/[^▁]▁/.test(left + right));
}

/**
 * Pairs of ids with their rank, in a table with open addressing: much smaller and faster than a Map of as many keys.
 */
class Merges {
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #rank: Int32Array;
  /** What the pair of each rank becomes. */
  readonly #made: Int32Array;
  readonly #mask: number;

  constructor(pairs: [string, string][], vocab: Map<string, number>, prefix: string, fields: Fields) {
    const size = 2 ** Math.ceil(Math.log2(2 * pairs.length + 2));
    this.#mask = size - 1;
    this.#left = new Int32Array(size).fill(-1);
    this.#right = new Int32Array(size);
    this.#rank = new Int32Array(size);
    this.#made = new Int32Array(pairs.length);
    const idOf = (token: string, i: number) => {
      const id = vocab.get(token);
      if (id === undefined) {
        throw fields.refusal(`merges[${i}]: ${show(token)} is not in the vocabulary`);
      }
      return id;
    };
    for (const [rank, [left, right]] of pairs.entries()) {
      if (!right.startsWith(prefix)) {
        throw fields.refusal(
          `merges[${rank}]: expected ${show(prefix)} in front of its second part, found ${
            show(shorten(right))
          }`,
        );
      }
      const [a, b] = [idOf(left, rank), idOf(right, rank)];
      this.#made[rank] = idOf(left + right.slice(prefix.length), rank);
      const slot = this.#slot(a, b);
      this.#left[slot] = a;
      this.#right[slot] = b;
      // Of a pair that is listed twice the later rank counts.
      this.#rank[slot] = rank;
    }
  }

  #slot(a: number, b: number): number {
    let slot = (Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b)) >>> 0;
    slot = (slot ^ (slot >>> 15)) & this.#mask;
    while (this.#left[slot] !== -1 && (this.#left[slot] !== a || this.#right[slot] !== b)) {
      slot = (slot + 1) & this.#mask;
    }
    return slot;
  }

  #rankOf(a: number, b: number): number {
    const slot = this.#slot(a, b);
    return this.#left[slot] === -1 ? Infinity : this.#rank[slot];
  }

  mergeFew(ids: number[]): number[] {
    const ranks: number[] = [];
    for (let i = 0; i + 1 < ids.length; i++) ranks.push(this.#rankOf(ids[i], ids[i + 1]));
    for (;;) {
      let best = 0;
      for (let i = 1; i < ranks.length; i++) if (ranks[i] < ranks[best]) best = i;
      if (ranks.length === 0 || ranks[best] === Infinity) return ids;
      ids[best] = this.#made[ranks[best]];
      ids.splice(best + 1, 1);
      ranks.splice(best, 1);
      if (best > 0) ranks[best - 1] = this.#rankOf(ids[best - 1], ids[best]);
      if (best < ranks.length) ranks[best] = this.#rankOf(ids[best], ids[best + 1]);
    }
  }

  /** The lowest rank first, and of those the leftmost; a pair that has changed since it was queued is passed over. */
  mergeMany(ids: number[]): number[] {
    const count = ids.length;
    const parts = Int32Array.from(ids);
    const next = Int32Array.from({ length: count }, (_, i) => i + 1);
    const before = Int32Array.from({ length: count }, (_, i) => i - 1);
    const queue = new Queue(2 * count);
    const offer = (i: number) => {
      const rank = this.#rankOf(parts[i], parts[next[i]]);
      if (rank !== Infinity) queue.push(rank * count + i);
    };
    for (let i = 0; i + 1 < count; i++) offer(i);
    for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
      const rank = Math.floor(key / count);
      const i = key - rank * count;
      const right = next[i];
      if (parts[i] < 0 || right === count) continue;
      const now = this.#rankOf(parts[i], parts[right]);
      if (now === Infinity || this.#made[now] !== this.#made[rank]) continue;
      parts[i] = this.#made[rank];
      parts[right] = -1;
      next[i] = next[right];
      if (next[right] < count) before[next[right]] = i;
      if (before[i] >= 0) offer(before[i]);
      if (next[i] < count) offer(i);
    }
    const merged: number[] = [];
    for (const part of parts) if (part >= 0) merged.push(part);
    return merged;
  }
}

/** A heap of numbers. */
class Queue {
  readonly #keys: Float64Array;
  #length = 0;

  /** @param most how many keys it holds at once. */
  constructor(most: number) {
    this.#keys = new Float64Array(most);
  }

  push(key: number): void {
    const keys = this.#keys;
    let at = this.#length++;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (keys[above] <= key) break;
      keys[at] = keys[above];
      at = above;
    }
    keys[at] = key;
  }

  pop(): number | undefined {
    if (this.#length === 0) return undefined;
    const keys = this.#keys;
    const top = keys[0];
    const key = keys[--this.#length];
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= this.#length) break;
      if (below + 1 < this.#length && keys[below + 1] < keys[below]) below++;
      if (keys[below] >= key) break;
      keys[at] = keys[below];
      at = below;
    }
    keys[at] = key;
    return top;
  }
}
