import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { METRICS, REPORT } from "../checkpoint/names.ts";
import type { TrainConfig } from "../config/schema.ts";
import { configEntries } from "../config/write.ts";
import { sortedJson } from "../text/json.ts";
import { writeWhole } from "../files/whole_file.ts";
import { EventFile } from "./event_file.ts";
import type { RunFacts } from "./run_report.ts";
import type { LogEntry } from "../training/log_entry.ts";
import { type TrainerState, writeTrainerState } from "../checkpoint/trainer_state.ts";

/** Most of a run's time that may go into writing its state anew: it has the whole log in it. */
const SHARE = 0.02;

/**
 * What an output folder holds of a run while it goes on: report.json, metrics.jsonl, a line a log entry,
 * trainer_state.json, and where it is asked for TensorBoard's files. A run does not end because they cannot be written:
 * it is said once.
 */
export class RunLog {
  #isWhole = false;
  #isTold = false;
  #due = 0;
  #events?: EventFile;

  /** @param warn told of the first failure. */
  constructor(readonly config: TrainConfig, readonly warn: (message: string) => void) {}

  /** Writes all of them, the log of before included: lines of steps that a resumed run does again are gone. */
  async begin(state: TrainerState, facts: RunFacts): Promise<void> {
    await this.writeState(state);
    await this.#attempt(() => this.#writeAll(state.log_history));
    await this.#attempt(() => writeFacts(this.config.outputDir, facts));
    await this.#attempt(() => {
      if (!this.config.reportTo.includes("tensorboard")) return;
      const keys = configEntries(this.config).map(([key, value]) => [
        key,
        value instanceof Map ? Object.fromEntries(value) : value,
      ]);
      const args = sortedJson(Object.fromEntries(keys), 2);
      this.#events = EventFile.begin(this.config, state.log_history, state.global_step, { args });
    });
  }

  /** Adds the last entry of `history`: with the operating system when this returns. */
  async append(history: readonly LogEntry[]): Promise<void> {
    await this.#attempt(async () => {
      if (!this.#isWhole) return await this.#writeAll(history);
      this.#isWhole = false;
      // Not by way of a thread: a submission to the GPU may block this one before its turn comes.
      // Nor by appendFileSync(), which in Deno gives the file mode 666 whatever the umask.
      const file = openSync(join(this.config.outputDir, METRICS), "a");
      try {
        writeSync(file, lineOf(history.at(-1)!));
      } finally {
        closeSync(file);
      }
      this.#isWhole = true;
    });
    await this.#attempt(() => this.#events?.append(history.at(-1)!));
  }

  /** Writes the state, unless it was written a moment ago and `isDue` is false. */
  async writeState(state: TrainerState, isDue = true): Promise<void> {
    const start = performance.now();
    if (!isDue && start < this.#due) return;
    await this.#attempt(() => writeTrainerState(this.config.outputDir, state, { flush: false }));
    const end = performance.now();
    this.#due = end + (end - start) / SHARE;
  }

  async #writeAll(history: readonly LogEntry[]): Promise<void> {
    await writeWhole(this.config.outputDir, METRICS, history.map(lineOf).join(""), { flush: false });
    this.#isWhole = true;
  }

  async #attempt(write: () => Promise<void> | void): Promise<void> {
    try {
      await write();
    } catch (error) {
      const { message } = error as Error;
      if (!this.#isTold) {
        this.warn(
          `the log in ${this.config.outputDir} cannot be written: ${message}; the run goes on without it`,
        );
      }
      this.#isTold = true;
    }
  }
}

/** Writes report.json. */
export async function writeFacts(outputDir: string, facts: RunFacts): Promise<void> {
  await writeWhole(outputDir, REPORT, `${JSON.stringify(facts, null, 2)}\n`, { flush: false });
}

const lineOf = (entry: LogEntry) => `${JSON.stringify(entry)}\n`;
