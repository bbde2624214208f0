import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import { bytesOf, fallback } from "./bpe.ts";
import type { Fields } from "./fields.ts";
import { type Model, readTokens } from "./vocab.ts";

/** How far an unknown character lies below the lowest score, as in SentencePiece. */
const UNKNOWN_PENALTY = 10;

/** The pieces of the best sum of scores, as `tokenizers` (Rust) 0.23 reads and runs it. */
export function readUnigram(fields: Fields): Model {
  const { vocab: list } = fields.json;
  if (!Array.isArray(list)) throw fields.refusal(`expected vocab, a list, found ${show(list)}`);
  const tokens = readTokens(fields);
  const { vocab } = tokens;
  const scores = Float64Array.from(list, ([, score]) => score);
  const lowest = scores.reduce((a, b) => Math.min(a, b), Infinity);
  const unknown = fields.json.unk_id === undefined || fields.json.unk_id === null
    ? undefined
    : fields.count("unk_id");
  if (unknown !== undefined && unknown >= list.length) {
    throw fields.refusal(`unk_id: expected one of ${list.length} tokens, found ${unknown}`);
  }
  const byteIds = fields.flag("byte_fallback", false) ? bytesOf(vocab) : undefined;
  const trie = new Trie(vocab);
  const encoder = new TextEncoder();
  const unknownId = (text: string): number => {
    if (unknown !== undefined) return unknown;
    throw new UserError(`${fields.where}: ${show(text)} is no token, and there is no unk_id`);
  };

  const idsOf = (piece: string): number[] => {
    const size = piece.length;
    const best = new Float64Array(size + 1);
    const startOf = new Int32Array(size + 1).fill(-1);
    const idAt = new Int32Array(size + 1);
    const offer = (start: number, end: number, id: number, score: number) => {
      if (startOf[end] >= 0 && score <= best[end]) return;
      best[end] = score;
      startOf[end] = start;
      idAt[end] = id;
    };
    for (let start = 0; start < size;) {
      const next = start + (piece.codePointAt(start)! > 0xffff ? 2 : 1);
      const till = best[start];
      let single = false;
      trie.prefixes(piece, start, (end, id) => {
        offer(start, end, id, scores[id] + till);
        if (end === next) single = true;
      });
      if (!single) offer(start, next, unknownId(piece.slice(start, next)), lowest - UNKNOWN_PENALTY + till);
      start = next;
    }
    const parts: string[] = [];
    let open = false;
    for (let end = size; end > 0; end = startOf[end]) {
      const part = piece.slice(startOf[end], end);
      const isUnknown = idAt[end] === unknown;
      // Unknown pieces beside each other are one.
      if (isUnknown && open) parts[parts.length - 1] = part + parts[parts.length - 1];
      else parts.push(part);
      open = isUnknown;
    }
    return parts.reverse().flatMap((part) => {
      const id = vocab.get(part);
      if (id !== undefined) return [id];
      return (byteIds && fallback(byteIds, encoder.encode(part))) ?? [unknownId(part)];
    });
  };
  return { ...tokens, idsOf };
}

/** Tokens by their UTF-16, in tables: a node for each of their beginnings. */
class Trie {
  /** Child by node and unit. */
  readonly #children = new Map<number, number>();
  readonly #ids: number[] = [-1];

  constructor(vocab: Map<string, number>) {
    for (const [token, id] of vocab) {
      let node = 0;
      for (let i = 0; i < token.length; i++) {
        const key = node * 0x10000 + token.charCodeAt(i);
        let child = this.#children.get(key);
        if (child === undefined) {
          child = this.#ids.push(-1) - 1;
          this.#children.set(key, child);
        }
        node = child;
      }
      this.#ids[node] = id;
    }
  }

  /** The tokens that `text` has at `start`, the shortest first. */
  prefixes(text: string, start: number, take: (end: number, id: number) => void): void {
    let node: number | undefined = 0;
    for (let i = start; i < text.length; i++) {
      node = this.#children.get(node * 0x10000 + text.charCodeAt(i));
      if (node === undefined) return;
      if (this.#ids[node] >= 0) take(i + 1, this.#ids[node]);
    }
  }
}
