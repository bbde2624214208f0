/** Values that come when they come, to one who waits for them. */
export class Channel<T> {
  /** Whether nobody waits for more. */
  isLeft = false;
  readonly #signal?: AbortSignal;
  readonly #values: T[] = [];
  #isEnded = false;
  #failure?: { error: unknown };
  #wake = () => {};

  /** @param signal what aborts it is thrown to who waits. */
  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  push(value: T): void {
    this.#values.push(value);
    this.#wake();
  }

  /** No more values come. */
  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  /** What was pushed comes first. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wake();
  }

  /** The values, for one loop. */
  async *values(): AsyncGenerator<T> {
    const onAbort = () => this.#wake();
    this.#signal?.addEventListener("abort", onAbort);
    try {
      for (;;) {
        this.#signal?.throwIfAborted();
        if (this.#values.length > 0) yield this.#values.shift()!;
        else if (this.#failure) throw this.#failure.error;
        else if (this.#isEnded) return;
        else await new Promise<void>((resolve) => this.#wake = resolve);
      }
    } finally {
      this.isLeft = true;
      this.#signal?.removeEventListener("abort", onAbort);
    }
  }
}
