/** An answer on its way. */

/** How an answer ended. */
export interface AnswerEnd {
  /** `stop` at an end token or a stop string, `length` at the most tokens that it might have. */
  finishReason: "stop" | "length";
  /** Tokens that were made for it, with the one that ended it. */
  tokens: number;
  /** Tokens of the prompt. */
  promptTokens: number;
  /** All of it, as the tokenizer decodes its tokens together. */
  text: string;
}

/**
 * An iterator of the answer's pieces, and, awaited, the whole: what the pieces join to, unless the tokenizer's decoder
 * changes what it gave before, as few do. It begins with the first of either, and
 * goes on only as far as it is asked; awaited after some pieces it gives the whole all the same, or where a loop was
 * left before its end, what there is.
 *
 * @example
 * ```ts
 * import { Generation } from "./pieces.ts";
 * import assert from "node:assert/strict";
 * const generation = new Generation(async function* () {
 *   yield "Ro";
 *   yield "me";
 *   return { finishReason: "stop", tokens: 3, promptTokens: 12, text: "Rome" };
 * });
 * for await (const piece of generation) assert.ok(["Ro", "me"].includes(piece));
 * assert.equal(await generation, "Rome");
 * assert.equal(generation.end?.finishReason, "stop");
 * ```
 */
export class Generation implements AsyncIterable<string>, PromiseLike<string> {
  readonly #begin: () => AsyncGenerator<string, AnswerEnd>;
  readonly #pieces: string[] = [];
  #end?: AnswerEnd;
  #source?: AsyncGenerator<string>;
  #whole?: Promise<string>;

  /**
   * Begins nothing yet.
   * @param begin makes the pieces.
   */
  constructor(begin: () => AsyncGenerator<string, AnswerEnd>) {
    this.#begin = begin;
  }

  /** How it ended; undefined before, and where the loop was left. */
  get end(): AnswerEnd | undefined {
    return this.#end;
  }

  /** The pieces that are still to come; leaving the loop ends the generation. */
  [Symbol.asyncIterator](): AsyncGenerator<string> {
    this.#source ??= this.#remember(this.#begin());
    return this.#source;
  }

  /** The whole answer. */
  then<T = string, E = never>(
    onFulfilled?: ((text: string) => T | PromiseLike<T>) | null,
    onRejected?: ((reason: unknown) => E | PromiseLike<E>) | null,
  ): Promise<T | E> {
    this.#whole ??= this.#drain();
    return this.#whole.then(onFulfilled, onRejected);
  }

  /** As a promise's. */
  catch<E>(onRejected: (reason: unknown) => E | PromiseLike<E>): Promise<string | E> {
    return this.then(undefined, onRejected);
  }

  /** As a promise's. */
  finally(onSettled: () => void): Promise<string> {
    return this.then().finally(onSettled);
  }

  async #drain(): Promise<string> {
    for await (const _ of this);
    return this.#end?.text ?? this.#pieces.join("");
  }

  async *#remember(source: AsyncGenerator<string, AnswerEnd>): AsyncGenerator<string> {
    try {
      for (;;) {
        const { done, value } = await source.next();
        if (done) {
          this.#end = value;
          return;
        }
        this.#pieces.push(value);
        yield value;
      }
    } finally {
      await source.return(this.#end!);
    }
  }
}
