/** Ends a text before the first of some texts. */
export class Stops {
  #held = "";
  isStopped = false;

  constructor(readonly texts: readonly string[]) {}

  /** @returns what of the text so far will stay: what may be the beginning of a stop is held back. */
  next(piece: string): string {
    if (this.isStopped) return "";
    const text = this.#held + piece;
    const found = this.texts.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) {
      this.isStopped = true;
      return text.slice(0, Math.min(...found));
    }
    const kept = Math.max(0, ...this.texts.map((stop) => overlap(text, stop)));
    this.#held = text.slice(text.length - kept);
    return text.slice(0, text.length - kept);
  }

  /** What was held back, where nothing more comes. */
  last(): string {
    return this.isStopped ? "" : this.#held;
  }
}

/** How many characters at the end of `text` are the beginning of `stop`, and not all of it. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
