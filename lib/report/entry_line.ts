import type { LogEntry } from "../training/log_entry.ts";
import { formatFigure } from "./run_report.ts";

/** What people look at while a run goes on, in the order in which transformers prints it; files have all. */
const SHOWN = ["loss", "grad_norm", "learning_rate", "rewards/accuracies", "rewards/margins"];
/** In place of rewards, where the loss compares nothing. */
const OF_ONE = "mean_token_accuracy";
/** Of a terminal, at most. */
const MOST_LINES = 2;
const INDENT = "  ";

/**
 * A log entry or an evaluation as people read it, by the names that TRL prints: one line with the figures that tell how
 * it goes, or, on a terminal of `columns`, as many of them as fit into two.
 *
 * @param left what is said of the time left.
 */
export function entryLine(
  entry: LogEntry,
  { totalSteps, left, columns = Infinity }: { totalSteps?: number; left?: string; columns?: number },
): string {
  const { step, epoch, ...figures } = entry;
  const named = (shown: readonly string[]) =>
    shown.flatMap((name) => [name, `eval_${name}`]).filter((name) => Object.hasOwn(figures, name));
  const names = named(named(["rewards/margins"]).length > 0 ? SHOWN : [...SHOWN, OF_ONE]);
  const parts = [
    totalSteps === undefined ? `step ${step}` : `step ${step}/${totalSteps}`,
    `epoch ${figure(Number(epoch.toFixed(2)))}`,
    ...left === undefined ? [] : [left],
  ];
  return wrapped([...parts, ...names.map((name) => `${name} ${figure(figures[name])}`)], columns);
}

/** Four significant digits, as transformers prints them; whole numbers are counts. */
export const figure = (value: number): string =>
  formatFigure(Number.isInteger(value) ? value : Number(value.toPrecision(4)));

/** Parts in lines that break between two of them. */
function wrapped(parts: readonly string[], columns: number): string {
  const lines = [""];
  for (const part of parts) {
    const line = lines.at(-1)!;
    const longer = line === "" ? part : line + INDENT + part;
    if (longer.length < columns || line.trim() === "") lines[lines.length - 1] = longer;
    else if (lines.length === MOST_LINES) break;
    else lines.push(INDENT + part);
  }
  return lines.join("\n");
}
