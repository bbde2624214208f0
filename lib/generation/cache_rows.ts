/** Which rows of the caches of keys and values belong to which tokens. */
import { ATTENTION_TILE } from "../../kernels/attention.ts";

/** Rows that lie behind each other, for one answer's tokens; `first` is a multiple of `ATTENTION_TILE`. */
export interface Rows {
  readonly first: number;
  readonly length: number;
  /** The tokens of the first rows that a pass of the prompt has filled. */
  tokens: readonly number[];
  /** Of which rotary tables they are. */
  tables: string;
  /** Whether an answer is being made in them. */
  isBusy: boolean;
}

/** The number of rows that `tokens` take. */
export const rowsFor = (tokens: number): number => Math.ceil(tokens / ATTENTION_TILE) * ATTENTION_TILE;

/** What is in the caches: rows of answers that are being made, and of earlier ones until others need their room. */
export class CacheRows {
  /** The one that was used last comes last. */
  #all: Rows[] = [];

  /** @param length rows of a cache. */
  constructor(readonly length: number) {}

  /** Rows of the answers that are being made. */
  get busy(): number {
    return this.#all.reduce((sum, { isBusy, length }) => sum + (isBusy ? length : 0), 0);
  }

  /** Rows for so many tokens, where there is room beside those that are busy. */
  take(tokens: number, tables: string): Rows | undefined {
    const length = rowsFor(tokens);
    for (;;) {
      const first = this.#gap(length);
      if (first !== undefined) {
        const rows: Rows = { first, length, tokens: [], tables, isBusy: true };
        this.#all.push(rows);
        return rows;
      }
      const oldest = this.#all.findIndex(({ isBusy }) => !isBusy);
      if (oldest < 0) return undefined;
      this.#all.splice(oldest, 1);
    }
  }

  /** What the beginning of `ids` is most of: rows that were filled for the same tokens, whole tiles of them. */
  sharing(ids: readonly number[], tables: string): { rows: Rows; count: number } | undefined {
    let best: { rows: Rows; count: number } | undefined;
    for (const rows of this.#all) {
      if (rows.tables !== tables) continue;
      const most = Math.min(rows.tokens.length, ids.length - 1);
      let same = 0;
      while (same < most && rows.tokens[same] === ids[same]) same++;
      // Passes that begin at a tile's first row give the same bits as one that begins with the prompt.
      const count = same - same % ATTENTION_TILE;
      if (count > (best?.count ?? 0)) best = { rows, count };
    }
    return best;
  }

  /** Others may use the rows from now on; what is in them stays until then. */
  release(rows: Rows): void {
    rows.isBusy = false;
    this.#all = [...this.#all.filter((other) => other !== rows), rows];
  }

  /** Forgets everything. */
  clear(): void {
    this.#all = [];
  }

  /** The first row of the first gap of that length. */
  #gap(length: number): number | undefined {
    let first = 0;
    for (const rows of this.#all.toSorted((a, b) => a.first - b.first)) {
      if (rows.first - first >= length) return first;
      first = rows.first + rows.length;
    }
    return this.length - first >= length ? first : undefined;
  }
}
