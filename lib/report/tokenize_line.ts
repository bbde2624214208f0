import { formatDuration } from "./progress.ts";

/** Where and how it is shown. */
export interface TokenizeLineOptions {
  /** Takes the text as it stands; the command line gives stderr. */
  write: (text: string) => void;
  /** Whether one line can be redrawn; elsewhere a plain line comes now and then. */
  isTerminal: boolean;
  columns?: number;
  /** Milliseconds of a clock. */
  now?: () => number;
}

const ERASE_LINE = "\r\x1b[2K";
const REDRAW = 100;
const PLAIN_LINE = 10_000;

/** Rows, tokens and their rate while data are tokenized; what is done in a moment is not mentioned. */
export class TokenizeLine {
  readonly #now: () => number;
  #split?: string;
  #start = 0;
  #drawn = 0;
  #isShown = false;

  constructor(readonly options: TokenizeLineOptions) {
    this.#now = options.now ?? (() => performance.now());
  }

  update(split: string, rows: number, tokens: number): void {
    const { write, isTerminal, columns = 80 } = this.options;
    const now = this.#now();
    if (split !== this.#split) [this.#split, this.#start, this.#drawn] = [split, now, now];
    if (now - this.#drawn < (isTerminal ? REDRAW : PLAIN_LINE)) return;
    this.#drawn = now;
    const seconds = (now - this.#start) / 1000;
    const count = (value: number) => Math.round(value).toLocaleString("en-US");
    const text = `${split}: ${count(rows)} rows tokenized, ${count(tokens)} tokens, ${
      count(tokens / seconds)
    } tokens/s, ${formatDuration(seconds)}`;
    write(isTerminal ? ERASE_LINE + text.slice(0, columns - 1) : `${text}\n`);
    this.#isShown = isTerminal;
  }

  /** Takes the line away, for other text. */
  clear(): void {
    if (this.#isShown) this.options.write(ERASE_LINE);
    this.#isShown = false;
  }
}
