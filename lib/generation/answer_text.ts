/** The text of an answer, as its tokens come. */
import { untilStop } from "./stop.ts";

/** What gives the text of tokens; a `TokenizerPool` does. */
export interface TextsOfTokens {
  texts(lists: number[][], where: string, options?: { skipSpecialTokens?: boolean }): Promise<string[]>;
}

/**
 * Tokens of the prompt that its answer's text is read with: whether a word begins with a space may depend on what
 * stands before it.
 */
const CONTEXT = 5;
/** Most tokens that a character is parted into: its bytes. */
const LONGEST_CHARACTER = 4;

/**
 * The text of tokens that come one after the other, in pieces that are never taken back and split no character. Each
 * is read with the tokens of the piece before it, not with all: a decoder reads what is next to a token, and no
 * further.
 */
class Detokenizer {
  readonly #ids: number[];
  /** The tokens from here on are read, and those before the second are given. */
  #from = 0;
  #given: number;

  /** @param prompt what the text goes on from; without it the text begins with the first token. */
  constructor(readonly tokenizer: TextsOfTokens, prompt: readonly number[] = []) {
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

/**
 * Text up to the first of `stops`, in pieces that are never taken back: what may be the beginning of a stop is held
 * back.
 */
export class AnswerText {
  /** Whether a stop was found: the text ends before it. */
  isStopped = false;
  readonly #detokenizer: Detokenizer;
  readonly #stops: readonly string[];
  /** The end of the text that may be the beginning of a stop. */
  #held = "";

  /** @param prompt what the text goes on from; without it the text begins with the first token. */
  constructor(tokenizer: TextsOfTokens, stops: readonly string[], prompt: readonly number[] = []) {
    this.#detokenizer = new Detokenizer(tokenizer, prompt);
    this.#stops = stops;
  }

  /** What is new with a token; it may be nothing. */
  async next(id: number): Promise<string> {
    return this.#shown(await this.#detokenizer.next(id));
  }

  /** What is left after the last token. */
  async last(): Promise<string> {
    const piece = this.#shown(await this.#detokenizer.last());
    return piece + this.#held;
  }

  #shown(piece: string): string {
    const { text, stop } = untilStop(this.#held + piece, this.#stops);
    this.isStopped ||= stop !== undefined;
    this.#held = this.isStopped ? "" : (this.#held + piece).slice(text.length);
    return text;
  }
}
