/**
 * WGSL by what it depends on. A plan may have 10,000 calls: a text for each would take 100 megabytes, and the
 * unrolled ones are slow to write.
 */
export class Sources {
  readonly #known = new Map<string, string>();

  /** The source of `key`, a value of JSON, written by `emit` where it is new. */
  of(key: unknown, emit: () => string): string {
    const text = JSON.stringify(key);
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    const source = emit();
    this.#known.set(text, source);
    return source;
  }
}
