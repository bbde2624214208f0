import { formatBytes } from "../text/format_bytes.ts";
import type { Progress } from "../progress/progress.ts";
import type { StepProgress } from "../training/step_progress.ts";
import { figure } from "./entry_line.ts";
import { isShown, type LogLevel } from "./log.ts";

/** Where and how progress is shown. */
export interface ProgressLineOptions {
  /** Takes the text as it stands; the command line gives stderr. */
  write: (text: string) => void;
  /** Whether one line can be redrawn; elsewhere plain lines come now and then, without escape codes. */
  canRedraw: boolean;
  /** Progress is shown where messages of level `info` are. */
  logLevel: LogLevel;
  /** Steps whose figures the log shows anyway are multiples of it: they need no plain line. */
  loggingSteps?: number;
  /** Width of the terminal in characters, asked each time, since it may change. */
  columns?: () => number;
  /** Milliseconds of a clock. */
  now?: () => number;
}

/** What is known of the training; before its first step, nothing but the numbers of steps. */
export type StepFigures = Pick<StepProgress, "step" | "totalSteps"> & Partial<StepProgress>;

/** How many pairs of the step in hand are done. */
type PairsOfStep = Required<Pick<Progress, "done" | "total">>;

const ERASE_LINE = "\r\x1b[2K";
/** Milliseconds between two drawings. */
const REDRAW = 100;
/** Milliseconds of a piece of work before its first plain line, and between two of them. */
const FIRST_PLAIN_LINE = 5000;
const PLAIN_LINE = 20_000;
/** The rate is that of the last milliseconds: a connection's speed changes, and so do rows. */
const WINDOW = 10_000;
/** Columns from which on there is room for a long bar. */
const WIDE = 120;

/** A part of a line; where there is no room for all, those of the highest rank are left out first. */
type Part = readonly [rank: number, text: string | undefined];

/** The piece of work in hand. */
interface Phase {
  progress: Progress;
  start: number;
  samples: { at: number; done: number }[];
  /** Whether it has had a plain line. */
  isTold: boolean;
}

/**
 * Shows how far a run is: one line that is redrawn on a terminal, plain lines now and then elsewhere, nothing where the
 * log level hides messages of level `info`. During the training other work, an evaluation for one, has its place in the
 * line of the steps.
 */
export class ProgressLine {
  readonly #now: () => number;
  readonly #isSilent: boolean;
  #phase?: Phase;
  #training?: { figures: StepFigures; start: number; at: number; pairs?: PairsOfStep };
  /** What stands on the terminal's last line. */
  #line = "";
  #drawn = -Infinity;
  /** When a line was last written that stays. */
  #told: number;

  /** What the work is a part of: it stands before everything. */
  about?: string;
  /** What is trained on. */
  unit = "pairs";

  constructor(readonly options: ProgressLineOptions) {
    this.#now = options.now ?? (() => performance.now());
    this.#told = this.#now();
    this.#isSilent = !isShown("info", options.logLevel);
  }

  /** Shows a piece of work that takes its time. */
  update(progress: Progress): void {
    if (this.#isSilent) return;
    const now = this.#now();
    const isNew = progress.what !== this.#phase?.progress.what;
    const phase: Phase = isNew || !this.#phase
      ? { progress, start: now, samples: [], isTold: false }
      : this.#phase;
    this.#phase = phase;
    phase.progress = progress;
    addSample(phase.samples, now, progress.done);
    const isDone = progress.total !== undefined && progress.done >= progress.total;
    if (this.options.canRedraw) {
      if (isDone) this.#phase = undefined;
      if (isNew || isDone || now - this.#drawn >= REDRAW) this.#draw();
      return;
    }
    const since = Math.max(phase.start, this.#told);
    if (isDone ? phase.isTold : now - since >= (phase.isTold ? PLAIN_LINE : FIRST_PLAIN_LINE)) {
      this.#tell(phaseParts(phase, now));
      phase.isTold = true;
    }
    if (isDone) this.#phase = undefined;
  }

  /** Shows the figures of a step that is done, or, with `step` at 0, that the first one is under way. */
  step(figures: StepFigures): void {
    if (this.#isSilent) return;
    const now = this.#now();
    const start = this.#training?.start ?? now;
    this.#phase = undefined;
    this.#training = { figures, start, at: now };
    const { step, totalSteps } = figures;
    if (this.options.canRedraw) {
      if (start === now || step === totalSteps || now - this.#drawn >= REDRAW) this.#draw();
      return;
    }
    if (start === now) this.#told = now;
    if (now - this.#told < PLAIN_LINE || step % (this.options.loggingSteps ?? Infinity) === 0) return;
    this.#tell(stepParts(figures, (now - start) / 1000, this.unit), "step ");
  }

  /** Shows how far the step in hand is. */
  inStep(pairs: PairsOfStep): void {
    if (this.#isSilent || !this.#training) return;
    const now = this.#now();
    const { figures, start } = this.#training;
    this.#training.pairs = pairs;
    if (this.options.canRedraw) {
      if (now - this.#drawn >= REDRAW) this.#draw();
      return;
    }
    if (now - this.#told < (this.#told > start ? PLAIN_LINE : FIRST_PLAIN_LINE)) return;
    this.#tell(
      stepParts({ ...figures, secondsLeft: this.secondsLeft }, (now - start) / 1000, this.unit, pairs),
      "step ",
    );
  }

  /** Seconds that the training will still take, as it was estimated last. */
  get secondsLeft(): number | undefined {
    const { figures: { secondsLeft }, at } = this.#training ?? { figures: {} as StepFigures, at: 0 };
    return secondsLeft && Math.max(0, secondsLeft - (this.#now() - at) / 1000);
  }

  /** Columns of the terminal; undefined where lines may be of any length. */
  get columns(): number | undefined {
    return this.options.canRedraw ? this.options.columns?.() || 80 : undefined;
  }

  /** Writes text that ends in a line end above the line. */
  write(text: string): void {
    this.options.write(this.#line ? ERASE_LINE + text + this.#line : text);
    this.#told = this.#now();
  }

  /** Leaves the line of the steps as it stands, and takes any other away: what comes next begins anew. */
  finish(): void {
    if (this.#training && this.#phase) {
      this.#phase = undefined;
      this.#draw();
    }
    if (this.#line) this.options.write(this.#training ? "\n" : ERASE_LINE);
    this.#line = "";
    this.#phase = this.#training = undefined;
  }

  #draw(): void {
    const now = this.#now();
    this.#drawn = now;
    const width = this.columns! >= WIDE ? 30 : 12;
    // A full last column would make some terminals begin a new line.
    const parts = this.#parts(now, width);
    const about: Part[] = parts.length > 0 ? [[0, this.about]] : [];
    const line = fit([...about, ...parts], this.columns! - 1);
    if (line || this.#line) this.options.write(ERASE_LINE + line);
    this.#line = line;
  }

  #parts(now: number, width: number): Part[] {
    const [training, phase] = [this.#training, this.#phase];
    const barOf = (done: number, total: number | undefined): Part => [
      4,
      total === undefined ? undefined : bar(done, total, width),
    ];
    if (!training) {
      if (!phase) return [];
      const { done, total } = phase.progress;
      return [barOf(done, total), ...phaseParts(phase, now)];
    }
    const { figures, start, at, pairs } = training;
    const { step, totalSteps } = figures;
    if (!phase) {
      // After an evaluation it is later than the figures are; after the last step nothing is left to be told of.
      const seconds = ((step < totalSteps ? now : at) - start) / 1000;
      return [
        barOf(step, totalSteps),
        ...stepParts({ ...figures, secondsLeft: this.secondsLeft }, seconds, this.unit, pairs),
      ];
    }
    if (step === totalSteps) {
      return [barOf(step, totalSteps), [0, `${step}/${totalSteps}`], ...phaseParts(phase, now)];
    }
    const { what } = phase.progress;
    return [
      barOf(step, totalSteps),
      [0, `${step}/${totalSteps}`],
      [1, what],
      [2, amount(phase.progress)],
      [7, formatDuration((now - start) / 1000)],
      [3, leftOf(this.secondsLeft)],
    ];
  }

  #tell(parts: Part[], before = ""): void {
    this.write(`${this.about ? `${this.about}: ` : ""}${before}${fit(parts, Infinity)}\n`);
  }
}

function addSample(samples: Phase["samples"], at: number, done: number): void {
  // One every so often is enough, however often progress comes.
  if (samples.length > 1 && at - samples.at(-2)!.at < REDRAW) samples.pop();
  samples.push({ at, done });
  while (samples.length > 2 && at - samples[1].at > WINDOW) samples.shift();
}

function phaseParts({ progress, start, samples }: Phase, now: number): Part[] {
  const { what, done, total, unit } = progress;
  const [first, last] = [samples[0], samples.at(-1)!];
  const rate = last.at > first.at ? Math.max(0, last.done - first.done) / (last.at - first.at) * 1000 : 0;
  const left = total === undefined || rate === 0 || done >= total ? undefined : (total - done) / rate;
  const seconds = (now - start) / 1000;
  return [
    [0, what],
    [1, unit === undefined && total === undefined ? undefined : amount(progress)],
    [
      5,
      unit && rate >= 1 ? `${unit === "bytes" ? formatBytes(rate) : `${count(rate)} ${unit}`}/s` : undefined,
    ],
    left === undefined ? [3, seconds >= 1 ? formatDuration(seconds) : undefined] : [2, leftOf(left)],
  ];
}

/**
 * `1.2 GB of 16.1 GB`, `12/64 pairs` or `12,800 rows`; of a prompt in hand a part may be done, and it is not counted.
 */
function amount({ done, total, unit }: Omit<Progress, "what">): string {
  if (unit === "bytes") return formatBytes(done) + (total === undefined ? "" : ` of ${formatBytes(total)}`);
  return count(Math.floor(done)) + (total === undefined ? "" : `/${count(total)}`) +
    (unit === undefined ? "" : ` ${unit}`);
}

function stepParts(figures: StepFigures, seconds: number, unit: string, pairs?: PairsOfStep): Part[] {
  const { step, totalSteps, loss, accuracy, margin, learningRate, gradNorm } = figures;
  const { tokensPerSecond, pairsPerSecond, secondsLeft } = figures;
  const known = (value: number | undefined, text: (value: number) => string) =>
    value === undefined ? undefined : text(value);
  return [
    [0, `${step}/${totalSteps}`],
    [6, pairs && amount({ ...pairs, unit })],
    [2, known(loss, (value) => `loss ${fixed(value, 4)}`)],
    [5, known(accuracy, (value) => `accuracy ${fixed(value, 3)}`)],
    [8, known(margin, (value) => `margin ${fixed(value, 4)}`)],
    [10, known(gradNorm, (value) => `grad_norm ${figure(value)}`)],
    [11, known(learningRate, (value) => `learning_rate ${figure(value)}`)],
    [6, known(tokensPerSecond, (value) => `${count(value)} tokens/s`)],
    [9, known(pairsPerSecond, (value) => `${count(value)} ${unit}/s`)],
    [7, formatDuration(seconds)],
    [1, step < totalSteps ? leftOf(secondsLeft) : undefined],
  ];
}

/** So many digits after the point, of what is rounded to 0 without the minus that it may have. */
const fixed = (value: number, digits: number) => (Number(value.toFixed(digits)) + 0).toFixed(digits);

/** Whole numbers with their thousands apart, and small ones with a digit after the point where they have one. */
const count = (value: number) =>
  (value < 10 ? Number(value.toFixed(1)) : Math.round(value)).toLocaleString("en-US");

const leftOf = (seconds: number | undefined) =>
  seconds === undefined ? undefined : `${formatDuration(seconds)} left`;

/** The parts that fit into `columns`, in their order; a single one that does not is cut. */
function fit(parts: readonly Part[], columns: number): string {
  const kept = parts.filter(([, text]) => text !== undefined);
  const text = () => kept.map(([, text]) => text).join("  ");
  while (kept.length > 1 && text().length > columns) {
    const last = Math.max(...kept.map(([rank]) => rank));
    kept.splice(kept.findLastIndex(([rank]) => rank === last), 1);
  }
  return text().slice(0, columns);
}

/** `[=====>    ]`, filled in proportion. */
export function bar(done: number, total: number, width: number): string {
  const filled = Math.floor(width * Math.min(1, total > 0 ? done / total : 1));
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
