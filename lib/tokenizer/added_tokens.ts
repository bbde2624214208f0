import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import type { Normalizer } from "./normalizers.ts";
import type { Tokens } from "./vocab.ts";

/** A token that is looked for in the text before the model sees it. */
export interface AddedToken {
  content: string;
  single_word: boolean;
  lstrip: boolean;
  rstrip: boolean;
  normalized: boolean;
  special: boolean;
}

const FLAGS = ["single_word", "lstrip", "rstrip", "normalized", "special"] as const;

/** A part of a text: from where to where, and the id of the added token that it is, or -1. */
export type Part = [id: number, start: number, end: number];

/** The tokens that are added to a model's, with the ids that `tokenizers` (Rust) 0.23 gives them. */
export class AddedTokens {
  readonly #ids = new Map<string, number>();
  readonly #tokens = new Map<number, AddedToken>();
  readonly #special = new Set<string>();
  /** What stands for a token in a text that is normalized. */
  readonly #normalized = new Map<number, string>();
  #raw?: Trie;
  #inNormalized?: Trie;

  /**
   * @param normalizer "unknown" where it would run regular expressions of a file that is not trusted.
   * @param options.split `split_special_tokens`: special tokens are not looked for.
   * @param options.where the file, for messages.
   */
  constructor(
    readonly model: Pick<Tokens, "vocab" | "size">,
    readonly normalizer: Normalizer | undefined | "unknown",
    readonly options: { split: boolean; where: string },
  ) {}

  /**
   * Adds tokens, or changes the flags of those that are there. Their ids follow from their order, whatever a file
   * says.
   */
  add(tokens: Iterable<AddedToken>): void {
    const { size } = this.model;
    const last = this.#tokens.size > 0 ? [...this.#tokens.keys()].reduce((a, b) => Math.max(a, b)) : -1;
    let next = last >= size || (last >= 0 && size === 0) ? last + 1 : size;
    for (const token of tokens) {
      if (token.content === "") continue;
      const known = this.#ids.get(token.content);
      const old = known === undefined ? undefined : this.#tokens.get(known);
      if (old && old.content === token.content && FLAGS.every((flag) => old[flag] === token[flag])) continue;
      const id = this.idOf(token.content) ?? next++;
      if (token.normalized && this.normalizer && this.normalizer !== "unknown") {
        const section = { text: token.content, first: 0 };
        this.normalizer(section);
        if (section.text !== token.content) this.#normalized.set(id, section.text);
      }
      this.#ids.set(token.content, id);
      if (token.special) this.#special.add(token.content);
      this.#tokens.set(id, { ...token });
    }
    this.#raw = this.#inNormalized = undefined;
  }

  idOf(token: string): number | undefined {
    return this.#ids.get(token) ?? this.model.vocab.get(token);
  }

  has(content: string): boolean {
    return this.#ids.has(content);
  }

  isSpecial(token: string): boolean {
    return this.#special.has(token);
  }

  /** The text of a token for a decoder. */
  textOf(id: number): string | undefined {
    if (this.normalizer === "unknown" && this.#tokens.get(id)?.normalized) {
      throw new UserError(
        `${this.options.where}: the text of the added token ${
          show(this.#tokens.get(id)!.content)
        } follows from a regular ` +
          "expression of the normalizer, which is not run here",
      );
    }
    return this.#normalized.get(id) ?? this.#tokens.get(id)?.content;
  }

  /** By their ids. */
  get tokens(): ReadonlyMap<number, AddedToken> {
    return this.#tokens;
  }

  /** Builds what looks for tokens. @throws {UserError} for tokens that cannot be told apart. */
  prepare(): void {
    this.#raw ??= this.#trie(false);
    this.#inNormalized ??= this.#trie(true);
  }

  /** Parts of a text: tokens that are looked for in what is not normalized yet, and what lies between. */
  split(text: string): Part[] {
    return this.#parts(text, this.#raw!);
  }

  /** Parts of a normalized text. */
  splitNormalized(text: string): Part[] {
    return this.#parts(text, this.#inNormalized!);
  }

  #trie(normalized: boolean): Trie {
    const trie = new Trie();
    for (const [id, token] of this.#tokens) {
      if (token.normalized !== normalized) continue;
      const text = normalized ? this.#normalized.get(id) ?? token.content : token.content;
      const other = text === "" ? undefined : trie.add(text, id);
      if (text === "" || other !== undefined) {
        throw new UserError(
          `${this.options.where}: the added token ${show(token.content)} cannot be told from ${
            other === undefined ? "nothing" : show(this.#tokens.get(other)!.content)
          } in normalized text`,
        );
      }
    }
    return trie;
  }

  #parts(text: string, trie: Trie): Part[] {
    const parts: Part[] = [];
    let from = 0;
    for (let at = trie.next(text, 0); at >= 0; at = trie.next(text, trie.end)) {
      let [start, end] = [at, trie.end];
      const token = this.#tokens.get(trie.id)!;
      if (this.options.split && this.#special.has(token.content)) continue;
      if (token.single_word && (endsWithWord(text, start) || startsWithWord(text, end))) continue;
      if (token.lstrip) start = Math.max(from, spaceBefore(text, start));
      if (token.rstrip) end = spaceBehind(text, end);
      if (from < start) parts.push([-1, from, start]);
      // What another token took with its space is none any more.
      if (start < end) parts.push([trie.id, start, end]);
      from = end;
    }
    if (from !== text.length) parts.push([-1, from, text.length]);
    return parts;
  }
}

const WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const SPACE = /\p{White_Space}/u;

const startsWithWord = (text: string, i: number) =>
  i < text.length && WORD.test(String.fromCodePoint(text.codePointAt(i)!));

function endsWithWord(text: string, i: number): boolean {
  if (i === 0) return false;
  const isPair = i > 1 && text[i - 1] >= "\udc00" && text[i - 1] <= "\udfff";
  return WORD.test(text.slice(isPair ? i - 2 : i - 1, i));
}

/** Where the white space that ends at `i` begins; all of it is in the basic plane. */
function spaceBefore(text: string, i: number): number {
  while (i > 0 && SPACE.test(text[i - 1])) i--;
  return i;
}

function spaceBehind(text: string, i: number): number {
  while (i < text.length && SPACE.test(text[i])) i++;
  return i;
}

interface Node {
  id: number;
  next: Map<number, Node>;
}

/** Finds texts: of those that begin at the first place where one does, the longest. */
class Trie {
  readonly #root: Node = { id: -1, next: new Map() };
  /** Whether a text begins with a unit: most places of a text are passed over by it. */
  readonly #begins = new Uint8Array(0x10000);
  #empty = true;
  /** Of the last that was found. */
  id = -1;
  end = 0;

  /** @returns the id that the text has already. */
  add(text: string, id: number): number | undefined {
    let node = this.#root;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      let child = node.next.get(unit);
      if (!child) node.next.set(unit, child = { id: -1, next: new Map() });
      node = child;
    }
    if (node.id >= 0) return node.id;
    node.id = id;
    this.#begins[text.charCodeAt(0)] = 1;
    this.#empty = false;
  }

  /** Where the next one begins, or -1. */
  next(text: string, from: number): number {
    if (this.#empty) return -1;
    for (let start = from; start < text.length; start++) {
      if (this.#begins[text.charCodeAt(start)] === 0) continue;
      let node: Node | undefined = this.#root;
      let found = false;
      for (let i = start; i < text.length; i++) {
        node = node.next.get(text.charCodeAt(i));
        if (!node) break;
        if (node.id < 0) continue;
        [this.id, this.end, found] = [node.id, i + 1, true];
      }
      if (found) return start;
    }
    return -1;
  }
}
