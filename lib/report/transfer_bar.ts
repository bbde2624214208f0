import type { Transfer } from "../hub/snapshot.ts";
import { formatBytes } from "../format_bytes.ts";
import { bar, formatDuration } from "./progress.ts";

/** Where and how it is shown. */
export interface TransferBarOptions {
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
const PLAIN_LINE = 5000;
/** The rate is that of the last seconds, since a connection's speed changes. */
const WINDOW = 10_000;

/** A bar with rate and time left on a terminal; elsewhere a line every few seconds and one when all is there. */
export class TransferBar {
  readonly #now: () => number;
  readonly #samples: { at: number; bytes: number }[] = [];
  #name = "";
  #drawn = -Infinity;
  #line = "";

  constructor(readonly options: TransferBarOptions) {
    this.#now = options.now ?? (() => performance.now());
  }

  update(transfer: Transfer): void {
    const now = this.#now();
    const { name, files, filesDone } = transfer;
    if (name !== this.#name) this.finish();
    if (this.#samples.length === 0 && !this.options.isTerminal) this.#drawn = now;
    this.#name = name;
    this.#samples.push({ at: now, bytes: transfer.bytes - transfer.keptBytes });
    while (this.#samples.length > 2 && now - this.#samples[1].at > WINDOW) this.#samples.shift();
    const isDone = filesDone === files;
    const pause = this.options.isTerminal ? REDRAW : PLAIN_LINE;
    if (!isDone && now - this.#drawn < pause) return;
    this.#drawn = now;
    const text = describeTransfer(transfer, this.#rate());
    if (this.options.isTerminal) {
      this.#line = `${bar(transfer.bytes, transfer.totalBytes)} ${text}`.slice(
        0,
        (this.options.columns ?? 80) - 1,
      );
      this.options.write(ERASE_LINE + this.#line);
    } else {
      this.options.write(`${text}\n`);
    }
    if (isDone) this.finish();
  }

  /** Writes text that ends in a line end above the bar. */
  write(text: string): void {
    this.options.write(this.#line ? ERASE_LINE + text + this.#line : text);
  }

  /** Leaves the bar as it stands and ends its line. */
  finish(): void {
    if (this.#line) this.options.write("\n");
    this.#line = "";
    this.#drawn = -Infinity;
    this.#samples.length = 0;
  }

  /** Bytes a second of late; undefined at the start. */
  #rate(): number | undefined {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)!];
    return last.at > first.at
      ? Math.max(0, last.bytes - first.bytes) / ((last.at - first.at) / 1000)
      : undefined;
  }
}

/**
 * A transfer in words: `owner/name  2/5 files  1.2 GB of 16.1 GB  85.0 MB/s  2:55 left`.
 *
 * @param rate bytes a second.
 */
export function describeTransfer(
  { name, bytes, totalBytes, files, filesDone }: Transfer,
  rate: number | undefined,
): string {
  const parts = [name, `${filesDone}/${files} files`, `${formatBytes(bytes)} of ${formatBytes(totalBytes)}`];
  if (rate) {
    parts.push(`${formatBytes(rate)}/s`);
    if (bytes < totalBytes) parts.push(`${formatDuration((totalBytes - bytes) / rate)} left`);
  }
  return parts.join("  ");
}
