import { closeSync, mkdirSync, openSync, readdirSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { RUNS } from "../checkpoint/names.ts";
import { hostName } from "../program/host_name.ts";
import type { LogEntry } from "../training/log_entry.ts";
import { type Event, eventRecord, tagOf } from "./tensorboard.ts";

/** What the names of event files begin with: TensorBoard looks for it. */
const PREFIX = "events.out.tfevents.";

/** Writes a run's log for TensorBoard, in a file of its own for each start. */
export class EventFile {
  readonly #path: string;

  private constructor(folder: string) {
    const seconds = String(Math.floor(Date.now() / 1000)).padStart(10, "0");
    this.#path = join(folder, `${PREFIX}${seconds}.${hostName()}.${process.pid}.0`);
  }

  /**
   * Begins a file. A run that goes on stays in its folder: what was logged there of the steps that it does again is
   * void, and what is missing there is written.
   *
   * @param loggingDir the folder; without it, transformers' place in `outputDir`.
   * @param history the log so far.
   * @param step the optimizer steps done.
   * @param texts to show beside the curves, by tag.
   * @throws what the file system does.
   */
  static begin(
    { outputDir, loggingDir }: { outputDir: string; loggingDir?: string },
    history: readonly LogEntry[],
    step: number,
    texts: Readonly<Record<string, string>>,
  ): EventFile {
    const before = loggingDir ?? (step > 0 ? newestFolder(join(outputDir, RUNS)) : undefined);
    const folder = before ?? join(outputDir, RUNS, defaultName());
    mkdirSync(folder, { recursive: true });
    const isThere = step > 0 && readdirSync(folder).some((name) => name.startsWith(PREFIX));
    const first = isThere ? step : 0;
    const file = new EventFile(folder);
    file.#write([
      { kind: "version" },
      { kind: "start", step: first },
      ...Object.entries(texts).map(([tag, text]): Event => ({ kind: "text", step, tag, text })),
      ...history.filter((entry) => entry.step >= first).flatMap(scalars),
    ]);
    return file;
  }

  /** Adds an entry of the log: with the operating system when this returns. */
  append(entry: LogEntry): void {
    this.#write(scalars(entry));
  }

  #write(events: readonly Event[]): void {
    const now = Date.now() / 1000;
    const file = openSync(this.#path, "a");
    try {
      // In one piece: of a run that is killed no half event is left.
      writeSync(file, new Uint8Array(events.flatMap((event) => [...eventRecord(event, now)])));
    } finally {
      closeSync(file);
    }
  }
}

const scalars = ({ step, ...figures }: LogEntry): Event[] =>
  Object.entries(figures).map(([figure, value]) => ({ kind: "scalar", step, tag: tagOf(figure), value }));

/** As transformers' default_logdir(): `Nov29_02-12-03_host`. */
function defaultName(): string {
  const now = new Date();
  const two = (value: number) => String(value).padStart(2, "0");
  const month = now.toLocaleString("en-US", { month: "short" });
  const time = [now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join("-");
  return `${month}${two(now.getDate())}_${time}_${hostName()}`;
}

function newestFolder(folder: string): string | undefined {
  try {
    const folders = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())
      .map(({ name }) => join(folder, name));
    return folders.sort((a, b) => statSync(a).mtimeMs - statSync(b).mtimeMs).at(-1);
  } catch {
    // There is none yet.
  }
}
