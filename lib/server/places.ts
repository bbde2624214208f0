import { ApiError } from "./api_error.ts";

/** The requests that a server has in hand: one past the bound is refused, so that none waits without end. */
export class Places {
  #taken = 0;
  #seconds = 0;
  #done = 0;

  /** @param most in hand at a time, those that are answered and those that wait. */
  constructor(readonly most: number) {}

  get taken(): number {
    return this.#taken;
  }

  /**
   * @returns gives the place back.
   * @throws {ApiError} 429 where there is none.
   */
  take(): () => void {
    if (this.#taken >= this.most) {
      // One of those in hand ends in about so long.
      const mean = this.#done === 0 ? 1 : this.#seconds / this.#done;
      const wait = Math.min(60, Math.max(1, Math.ceil(mean)));
      throw new ApiError(
        429,
        `the server has ${this.most} requests in hand already: ask again in ${wait} s`,
        {
          code: "rate_limit_exceeded",
          headers: { "retry-after": String(wait) },
        },
      );
    }
    this.#taken++;
    const begin = performance.now();
    let isHere = true;
    return () => {
      if (!isHere) return;
      isHere = false;
      this.#taken--;
      this.#done++;
      this.#seconds += (performance.now() - begin) / 1000;
    };
  }
}
