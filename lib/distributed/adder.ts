/** Sums of what ranks have, on threads beside that of the event loop. */
import { UserError } from "../errors.ts";
import { addUp } from "./add_up.ts";
import type { AdderRequest } from "./adder_thread.ts";

const THREAD = new URL("./adder_thread.ts", import.meta.url);
// Never called: so the thread's module is one of the program's, and is fetched with it.
void (() => import("./adder_thread.ts"));

/** Each adds up some 9 GB/s of many ranks, and 4 of two: with more the event loop's thread, which copies, is slower. */
const MOST_THREADS = 2;
/** Cores that a rank has use for beside: the event loop's, and MPI's while it sends. */
const OWN_CORES = 2;
/** Bytes that are added up sooner than a thread is told of them, which takes some 40 us. */
const SMALL = 2 ** 18;

/**
 * How many threads a rank has for sums.
 *
 * @param ranks those of the machine, which share its cores.
 */
export const adderThreads = (cores: number, ranks: number): number =>
  Math.max(0, Math.min(MOST_THREADS, Math.floor(cores / ranks) - OWN_CORES));

/** One that adds up, and what it was asked for and has not done yet. */
interface Thread {
  worker: Worker;
  waiting: PromiseWithResolvers<void>[];
}

/** Adds up on threads of its own; without any in that of the caller. */
export class Adder {
  readonly #threads: Thread[];
  #failure?: UserError;

  constructor(threads = 0) {
    this.#threads = Array.from({ length: threads }, () => this.#start());
  }

  /**
   * As `addUp`, in memory that threads can share.
   *
   * @throws {UserError} where a thread has failed.
   */
  async add(parts: Float32Array<SharedArrayBuffer>, sums: Float32Array<SharedArrayBuffer>): Promise<void> {
    if (this.#failure) throw this.#failure;
    const count = this.#threads.length;
    if (count === 0 || parts.byteLength <= SMALL) return addUp(parts, sums);
    const places = this.#threads.map((_, i) => Math.floor(sums.length * i / count));
    await Promise.all(this.#threads.map(({ worker, waiting }, i) => {
      const done = Promise.withResolvers<void>();
      waiting.push(done);
      const request: AdderRequest = [parts, sums, places[i], places[i + 1] ?? sums.length];
      worker.postMessage(request);
      return done.promise;
    }));
  }

  /** Ends the threads. */
  close(): void {
    for (const { worker } of this.#threads.splice(0)) worker.terminate();
  }

  #start(): Thread {
    const thread: Thread = { worker: new Worker(THREAD, { type: "module" }), waiting: [] };
    // Nobody waits any more where another thread has failed.
    thread.worker.onmessage = () => thread.waiting.shift()?.resolve();
    thread.worker.onerror = (event) => {
      event.preventDefault();
      this.#failure = new UserError(
        `a thread that adds up gradients has failed: ${event.message} (each reads lib/distributed of the program)`,
      );
      for (const { waiting } of this.#threads) {
        for (const { reject } of waiting.splice(0)) reject(this.#failure);
      }
    };
    return thread;
  }
}
