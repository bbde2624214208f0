import { isShown, type LogLevel } from "./log.ts";

/** What is shown of a step beside its number; figures that are not known are left out. */
export interface ProgressFigures {
  loss?: number;
  accuracy?: number;
  tokensPerSecond?: number;
}

/** Where and how progress is shown. */
export interface ProgressOptions {
  /** Takes the text as it stands; the command line gives stderr. */
  write: (text: string) => void;
  /** Whether one line can be redrawn; elsewhere progress comes as plain lines, without escape codes. */
  isTerminal: boolean;
  logLevel: LogLevel;
  /** Steps between plain lines; the last step has one too. */
  loggingSteps: number;
  /** Steps done before, by a run that this one goes on with. */
  startStep?: number;
  /** Width of the terminal in characters. */
  columns?: number;
  /** Milliseconds of a clock. */
  now?: () => number;
}

const ERASE_LINE = "\r\x1b[2K";
const BAR_WIDTH = 20;

/** A bar on a terminal, plain lines elsewhere, nothing where the log level shows errors only. */
export class Progress {
  readonly #start: number;
  readonly #now: () => number;
  readonly #silent: boolean;
  #line = "";

  constructor(readonly total: number, readonly options: ProgressOptions) {
    this.#now = options.now ?? (() => performance.now());
    this.#start = this.#now();
    this.#silent = !isShown("warning", options.logLevel);
  }

  /** Shows that `step` of the steps are done. */
  update(step: number, figures: ProgressFigures): void {
    const { isTerminal, loggingSteps, startStep = 0, columns = 80, write } = this.options;
    if (this.#silent) return;
    const elapsed = (this.#now() - this.#start) / 1000;
    const parts = describeStep(step, this.total, elapsed, figures, step - startStep);
    if (isTerminal) {
      // A full last column would make some terminals begin a new line.
      this.#line = `${bar(step, this.total)} ${parts}`.slice(0, columns - 1);
      write(ERASE_LINE + this.#line);
    } else if (step % loggingSteps === 0 || step === this.total) {
      write(`step ${parts}\n`);
    }
  }

  /** Writes text that ends in a line end above the bar. */
  write(text: string): void {
    this.options.write(this.#line ? ERASE_LINE + text + this.#line : text);
  }

  /** Leaves the bar as it stands and ends its line. */
  finish(): void {
    if (this.#line) this.options.write("\n");
    this.#line = "";
  }
}

/**
 * A step in words: `12/80  loss -0.1234  accuracy 0.750  1,234 tokens/s  0:12<1:08` (time gone < time left).
 *
 * @param elapsed seconds since the start.
 * @param done steps in that time.
 */
export function describeStep(
  step: number,
  total: number,
  elapsed: number,
  { loss, accuracy, tokensPerSecond }: ProgressFigures,
  done = step,
): string {
  const parts = [`${step}/${total}`];
  if (loss !== undefined) parts.push(`loss ${loss.toFixed(4)}`);
  if (accuracy !== undefined) parts.push(`accuracy ${accuracy.toFixed(3)}`);
  if (tokensPerSecond !== undefined) {
    parts.push(`${Math.round(tokensPerSecond).toLocaleString("en-US")} tokens/s`);
  }
  const left = done > 0 ? formatDuration((elapsed / done) * (total - step)) : "?";
  return [...parts, `${formatDuration(elapsed)}<${left}`].join("  ");
}

/** `[=====>    ]`, filled in proportion. */
export function bar(step: number, total: number, width = BAR_WIDTH): string {
  const filled = Math.floor(width * Math.min(1, total > 0 ? step / total : 1));
  const head = filled < width ? ">" : "";
  return `[${("=".repeat(filled) + head).padEnd(width)}]`;
}

/** Seconds as `0:07`, `12:34` or `1:02:03`. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
