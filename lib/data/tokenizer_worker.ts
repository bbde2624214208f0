import { join } from "node:path";
import { UserError } from "../errors.ts";
import { STAGES, type WorkerAnswer, type WorkerRequest, type WorkerStart } from "./worker_messages.ts";

/** A request on its way. */
interface Pending {
  /** How many rows and prompts it has, and where each stands. */
  places: string[];
  resolve: (answer: WorkerAnswer) => void;
  reject: (error: unknown) => void;
}

/** How often a worker is looked at before it is given up. */
const LOOKS = 10;
/** Loading a large tokenizer takes seconds of its own. */
const LOADING_LOOKS = 6 * LOOKS;

/**
 * A Web Worker with a tokenizer, and a watch over it: a chat template or a regular expression of tokenizer.json that does not
 * come to an end is stopped with its worker.
 */
export class TokenizerWorker {
  readonly #worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  readonly #progress = new Int32Array(new SharedArrayBuffer(8));
  readonly #pending: Pending[] = [];
  /** Rows and prompts of the requests that were answered. */
  #answered = 0;
  #watch?: ReturnType<typeof setInterval>;
  #failure?: unknown;

  /** @param patience milliseconds for one step with one row. */
  constructor(readonly start: Omit<WorkerStart, "progress">, readonly patience: number) {
    this.#worker.onmessage = ({ data }: MessageEvent<WorkerAnswer>) => {
      const { places, resolve } = this.#pending.shift()!;
      this.#answered += places.length;
      resolve(data);
      if (this.#pending.length === 0) this.#rest();
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(new Error(`the tokenising worker failed: ${event.message}`));
    };
    this.#worker.postMessage({ ...start, progress: this.#progress.buffer });
  }

  /** Requests that are not answered yet. */
  get load(): number {
    return this.#pending.length;
  }

  /**
   * @param places where the request's rows stand, for a message.
   * @throws {UserError} where a row or its tokenizer takes too long; every later request then fails the same.
   */
  ask(request: WorkerRequest, places: string[]): Promise<WorkerAnswer> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      // What cannot be sent throws here, and is not waited for.
      this.#worker.postMessage(request);
      this.#pending.push({ places, resolve, reject });
      this.#watch ??= this.#watchOver();
    });
  }

  close(): void {
    this.#rest();
    this.#worker.terminate();
  }

  #rest(): void {
    clearInterval(this.#watch);
    this.#watch = undefined;
  }

  /** Looks are counted, not time: a process that was stopped for a while has not been looking. */
  #watchOver(): ReturnType<typeof setInterval> {
    let seen = "";
    let looks = 0;
    return setInterval(() => {
      const state = `${this.#answered} ${Atomics.load(this.#progress, 0)} ${Atomics.load(this.#progress, 1)}`;
      looks = state === seen ? looks + 1 : 0;
      seen = state;
      const stage = STAGES[Atomics.load(this.#progress, 1)];
      if (looks >= (stage === "loading" ? LOADING_LOOKS : LOOKS)) this.#fail(this.#tooLong(stage));
    }, this.patience / LOOKS);
  }

  #tooLong(stage: typeof STAGES[number]): UserError {
    const { folder } = this.start;
    const file = join(folder, "tokenizer.json");
    const seconds = this.patience / 1000;
    if (stage === "loading") {
      return new UserError(`${file}: not loaded after ${seconds * LOADING_LOOKS / LOOKS} s: stopped`);
    }
    const where = this.#pending[0].places[Math.max(0, Atomics.load(this.#progress, 0) - this.#answered - 1)];
    return new UserError(
      stage === "rendering"
        ? `${where}: the chat template of ${folder} has not come to an end after ${seconds} s: stopped. Look at ` +
          "the row and at the template's loops"
        : `${where}: ${file} has not tokenised the text after ${seconds} s: stopped. Look at the row and at the ` +
          "regular expressions of the file",
    );
  }

  #fail(error: unknown): void {
    this.#failure = error;
    this.close();
    for (const { reject } of this.#pending.splice(0)) reject(error);
  }
}
