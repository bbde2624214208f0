/** Pieces of work that share memory of a GPU, one after the other. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();
  #closed?: () => Error;

  /** Runs `work` after all that was begun before. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.catch(() => {}).then(() => {
      if (this.#closed) throw this.#closed();
      return work();
    });
    this.#last = done;
    return done;
  }

  /** Waits for what is at work; what comes later fails. */
  async close(error: () => Error): Promise<void> {
    this.#closed ??= error;
    await this.#last.catch(() => {});
  }
}
