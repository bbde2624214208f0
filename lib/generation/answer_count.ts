import type { AnswerEnd } from "./pieces.ts";

/** What was answered since it was made, and how fast: a line for people. */
export class AnswerCount {
  readonly #start = performance.now();
  answers = 0;
  #tokens = 0;
  /** Answers that were ended at their most tokens. */
  #cut = 0;

  add({ tokens, finishReason }: AnswerEnd): void {
    this.answers++;
    this.#tokens += tokens;
    if (finishReason === "length") this.#cut++;
  }

  toString(): string {
    const seconds = (performance.now() - this.#start) / 1000;
    const rate = this.#tokens / seconds;
    return [
      `${this.answers === 1 ? "1 answer" : `${this.answers} answers`}, ${this.#tokens} tokens in ` +
      `${seconds.toFixed(1)} s (${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s)`,
      ...this.#cut > 0 ? [`${this.#cut} cut at the most tokens`] : [],
    ].join(", ");
  }
}
