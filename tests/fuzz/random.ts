import { uniform } from "../../lib/random.ts";

/** Choices that are a function of the seeds alone, so that a case can be made again. */
export class Random {
  readonly #next: () => number;

  constructor(...seeds: number[]) {
    this.#next = uniform(...seeds);
  }

  /** A whole number from 0 to below `end`. */
  below(end: number): number {
    return Math.floor(this.#next() * end);
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.#next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }

  /** A small count, often 1. */
  few(): number {
    let count = 1;
    while (count < 16 && this.chance(0.5)) count++;
    return count;
  }
}
