import type { ServedTokenizer } from "./served_model.ts";

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
