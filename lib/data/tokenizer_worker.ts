import { join } from "node:path";
import { UserError } from "../errors.ts";
import type { BoundedStart } from "./bounded_worker.ts";
import {
  itemsOf,
  STAGES,
  type WorkerAnswer,
  type WorkerRequest,
  type WorkerStart,
} from "./worker_messages.ts";

/** A request on its way. */
interface Pending {
  /** How many rows, prompts and lists of ids it has. */
  items: number;
  /** Where one of them stands, for a message. */
  whereOf: (item: number) => string;
  resolve: (answer: WorkerAnswer) => void;
  reject: (error: unknown) => void;
}

/** How a worker is bounded. */
export interface WorkerBounds {
  /** Milliseconds of processor time for one step with one row. */
  patience: number;
  /** Most megabytes of JavaScript values. */
  megabytes: number;
  /** Whether all permissions but that to read are taken from it; Deno then wants `--unstable-worker-options`. */
  readsOnly: boolean;
}

const THREAD = new URL("./bounded_worker.ts", import.meta.url);
// Never called: so the thread's module is one of the program's, and is fetched with it.
void (() => import("./bounded_worker.ts"));
/** How often a worker that stands still is looked at before it is given up. */
const LOOKS = 10;
/** Loading a large tokenizer takes seconds of its own: it may take so many times as long as a row. */
const LOADING = 6;

/** Other runtimes leave what they do not know aside. */
export function optionsOf({ readsOnly }: Pick<WorkerBounds, "readsOnly">): WorkerOptions {
  // Modules of a program that comes from the network are read there.
  const modules = import.meta.url.startsWith("file:") ? {} : { import: "inherit" };
  const deno = { permissions: { read: "inherit", ...modules } };
  return { type: "module", ...readsOnly && { deno } } as WorkerOptions;
}

/**
 * A worker with a tokenizer, and a watch over it: a chat template, a regular expression or a decoder of
 * tokenizer.json that does not come to an end, or takes too much memory, is stopped with its worker.
 */
export class TokenizerWorker {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #progress = new Int32Array(new SharedArrayBuffer(12));
  readonly #pending: Pending[] = [];
  /** Items of the requests that were answered. */
  #answered = 0;
  #watch?: ReturnType<typeof setInterval>;
  #failure?: unknown;

  constructor(readonly start: Omit<WorkerStart, "progress">, readonly bounds: WorkerBounds) {
    this.#worker = new Worker(THREAD, optionsOf(bounds));
    this.#worker.onmessage = ({ data }: MessageEvent<string>) => this.#failed(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#failed(event.message);
    };
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.#port.onmessage = ({ data }: MessageEvent<WorkerAnswer>) => {
      const { items, resolve } = this.#pending.shift()!;
      this.#answered += items;
      resolve(data);
      if (this.#pending.length === 0) this.#rest();
    };
    const message: BoundedStart = {
      ...start,
      progress: this.#progress.buffer,
      port: port2,
      megabytes: bounds.megabytes,
      interval: bounds.patience / LOOKS,
    };
    this.#worker.postMessage(message, [port2]);
  }

  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** Requests that are not answered yet. */
  get load(): number {
    return this.#pending.length;
  }

  /**
   * @param whereOf where an item of the request stands, for a message.
   * @throws {UserError} where a row or its tokenizer takes too long or too much memory; every later request then
   * fails the same.
   */
  ask(request: WorkerRequest, whereOf: (item: number) => string): Promise<WorkerAnswer> {
    if (this.#failure) return Promise.reject(this.#failure);
    const answer = new Promise<WorkerAnswer>((resolve, reject) => {
      // What cannot be sent throws here, and is not waited for.
      this.#port.postMessage(request);
      this.#pending.push({ items: itemsOf(request), whereOf, resolve, reject });
      this.#watch ??= this.#watchOver();
    });
    // Who has gone meanwhile need not hear that it failed.
    answer.catch(() => {});
    return answer;
  }

  /** Ends it; requests that are not answered yet fail, and later ones. */
  close(): void {
    this.#fail(new UserError(`${this.start.folder}: its tokenizer was closed`, 1, "DISPOSED"));
  }

  #rest(): void {
    clearInterval(this.#watch);
    this.#watch = undefined;
  }

  /**
   * The worker's own processor time counts, so a busy machine makes no row too long. One that came to the limit of
   * its memory stands still and tells nobody: for that, looks are counted, since a process that was stopped has not
   * been looking.
   */
  #watchOver(): ReturnType<typeof setInterval> {
    const { patience } = this.bounds;
    let [seen, begun, last, still] = ["", 0, 0, 0];
    return setInterval(() => {
      const state = `${this.#answered} ${this.#progress.subarray(0, 2)}`;
      const now = Atomics.load(this.#progress, 2);
      if (state !== seen) [seen, begun, still] = [state, now, 0];
      else still = now === last ? still + 1 : 0;
      last = now;
      const stage = STAGES[Atomics.load(this.#progress, 1)];
      const times = stage === "loading" ? LOADING : 1;
      const isFull = still >= times * LOOKS;
      if (isFull || now - begun >= times * patience) this.#fail(this.#stopped(stage, isFull));
    }, patience / LOOKS);
  }

  #stopped(stage: typeof STAGES[number], isFull: boolean): UserError {
    const { folder } = this.start;
    const file = join(folder, "tokenizer.json");
    const limit = (stage === "loading" ? LOADING : 1) * this.bounds.patience / 1000;
    const bound = isFull ? `within ${this.bounds.megabytes} MB of memory` : `after ${limit} s`;
    if (stage === "loading") return new UserError(`${file}: not loaded ${bound}: stopped`);
    const where = this.#pending[0].whereOf(Math.max(0, Atomics.load(this.#progress, 0) - this.#answered - 1));
    switch (stage) {
      case "rendering":
        return new UserError(
          `${where}: the chat template of ${folder} has not come to an end ${bound}: stopped. Look at the row and ` +
            "at the template's loops",
        );
      case "tokenizing":
        return new UserError(
          `${where}: ${file} has not tokenized the text ${bound}: stopped. Look at the row and at the regular ` +
            "expressions of the file",
        );
      case "decoding":
        return new UserError(
          `${where}: ${file} has not made text of the tokens ${bound}: stopped. Look at the file's decoder`,
        );
    }
  }

  #failed(message: string): void {
    this.#fail(new Error(`the tokenizing worker failed: ${message}`));
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#rest();
    this.#port.close();
    this.#worker.terminate();
    for (const { reject } of this.#pending.splice(0)) reject(error);
  }
}
