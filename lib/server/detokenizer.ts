import type { ServedTokenizer } from "./served_model.ts";

/** Tokens of the prompt that its answer's text is read with: whether a word begins with a space may depend on what stands before it. */
const CONTEXT = 5;
/** Most tokens that a character is parted into: its bytes. */
const LONGEST_CHARACTER = 4;

/**
 * The text of tokens that come one after the other, in pieces that are never taken back and split no character. Each is read with the
 * tokens of the piece before it, not with all: a decoder reads what is next to a token, and no further.
 */
export class Detokenizer {
  readonly #ids: number[];
  /** The tokens from here on are read, and those before the second are given. */
  #from = 0;
  #given: number;

  /** @param prompt what the text goes on from; without it the text begins with the first token. */
  constructor(readonly tokenizer: ServedTokenizer, prompt: readonly number[] = []) {
    this.#ids = prompt.slice(-CONTEXT);
    this.#given = this.#ids.length;
  }

  /** @returns what is new; it may be nothing, where a character is not whole yet. */
  async next(id: number): Promise<string> {
    this.#ids.push(id);
    const piece = await this.#new();
    // Bytes that are no whole character yet are decoded so; of more than these they never will be one.
    const isPart = piece.endsWith("\ufffd") && this.#ids.length - this.#given < LONGEST_CHARACTER;
    if (piece === "" || isPart) return "";
    [this.#from, this.#given] = [this.#given, this.#ids.length];
    return piece;
  }

  /** What is left, whole or not. */
  async last(): Promise<string> {
    return this.#given < this.#ids.length ? await this.#new() : "";
  }

  async #new(): Promise<string> {
    const lists = [this.#ids.slice(this.#from, this.#given), this.#ids.slice(this.#from)];
    const [before, all] = await this.tokenizer.texts(lists, "the answer", { skipSpecialTokens: true });
    return all.slice(before.length);
  }
}

/** What single tokens say, as they do within a text. */
export class TokenTexts {
  readonly #known = new Map<number, string>();
  #reference?: Promise<number[]>;

  constructor(readonly tokenizer: ServedTokenizer) {}

  /** The texts of some tokens, special ones too; of a part of a character U+FFFD. */
  async of(ids: readonly number[]): Promise<string[]> {
    const wanted = [...new Set(ids)].filter((id) => !this.#known.has(id));
    if (wanted.length > 0) {
      // Many decoders take away the space that a text begins with: a token is read behind another one.
      const reference = await (this.#reference ??= this.#referenceIds());
      const lists = [reference, ...wanted.flatMap((id) => [[...reference, id], [id]])];
      const [before, ...texts] = await this.tokenizer.texts(lists, "a token");
      wanted.forEach((id, i) => {
        const [behind, alone] = [texts[2 * i], texts[2 * i + 1]];
        this.#known.set(id, behind.startsWith(before) ? behind.slice(before.length) : alone);
      });
    }
    return ids.map((id) => this.#known.get(id)!);
  }

  async #referenceIds(): Promise<number[]> {
    const [ids] = await this.tokenizer.idsOf(["a"], "a token");
    return ids;
  }
}
